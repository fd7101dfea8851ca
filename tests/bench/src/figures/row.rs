//! What a bench declares: the lines of its table, their units and what they are to reach.

use std::fmt;

/// What a line of the table shows.
#[derive(Debug)]
pub enum Row {
    /// A value that rounds record under this name.
    Figure(&'static str, Unit),
    /// The same, with what it is to reach.
    Judged(&'static str, Unit, Target),
    /// One recorded figure over another.
    Ratio(&'static str, &'static str, Option<Target>),
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// A number a second.
    PerSecond,
    /// A million bytes.
    Megabytes,
    /// A number.
    Count,
    /// Hundredths.
    Percent,
}

/// What a figure or a ratio is to reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Not below.
    AtLeast(f64),
    /// Not below what depends on this machine.
    AtLeastHere(fn() -> f64),
    /// Not above.
    AtMost(f64),
    /// Less than.
    Below(f64),
}

impl Target {
    /// Whether this value is good enough. What is no number never is.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtLeastHere(bound) => value >= bound(),
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtLeastHere(bound) => write!(f, ">= {}", bound()),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
            Self::Below(bound) => write!(f, "< {bound}"),
        }
    }
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::PerSecond => "/s",
            Self::Megabytes => "MB",
            Self::Count => "",
            Self::Percent => "%",
        }
    }
}

impl Row {
    /// What it is called in the table and in the JSON object.
    pub fn name(&self) -> String {
        match self {
            Self::Figure(name, _) | Self::Judged(name, ..) => (*name).to_owned(),
            Self::Ratio(of, to, _) => format!("{of} / {to}"),
        }
    }

    /// The recorded figures that it is made of.
    pub fn figures(&self) -> Vec<&'static str> {
        match self {
            Self::Figure(name, _) | Self::Judged(name, ..) => vec![name],
            Self::Ratio(of, to, _) => vec![of, to],
        }
    }

    /// Nothing for a ratio.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Figure(_, unit) | Self::Judged(_, unit, _) => unit.symbol(),
            Self::Ratio(..) => "",
        }
    }

    /// What it is to reach, if anything.
    pub fn target(&self) -> Option<Target> {
        match self {
            Self::Figure(..) => None,
            Self::Judged(_, _, target) => Some(*target),
            Self::Ratio(_, _, target) => *target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_include_or_exclude_its_bound() {
        assert!(Target::AtMost(3.0).is_met(3.0));
        assert!(!Target::Below(3.0).is_met(3.0));
        assert!(Target::AtLeast(3.0).is_met(3.0));
        assert!(!Target::AtLeast(3.0).is_met(2.99));
        let here = Target::AtLeastHere(|| 3.0);
        assert!(here.is_met(3.0) && !here.is_met(2.99));
        assert_eq!(here.to_string(), ">= 3");
        for target in [Target::AtLeast(0.0), Target::AtMost(1e9), Target::Below(1e9)] {
            assert!(!target.is_met(f64::NAN));
        }
    }
}
