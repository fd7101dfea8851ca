//! Value parsers of settings. Their errors state the rule in our words, because those of a type's own parser
//! do not name the remedy.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

/// Bounds of all times that have none of their own.
pub(super) const TIME: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(1);

/// A value of a type; `expected` completes "is not ...".
pub(super) fn value<T: FromStr>(
    expected: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| text.trim().parse().map_err(|_| format!("{text:?} is not {expected}"))
}

/// A whole number within `bounds`.
pub(super) fn number<T: FromStr + PartialOrd + Display + Clone>(
    bounds: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| bounds.contains(number));
        let (least, most) = (bounds.start(), bounds.end());
        number.ok_or_else(|| format!("{text:?} is not a whole number from {least} to {most}"))
    }
}

/// Decimal seconds within `bounds`.
pub(super) fn seconds(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let seconds = text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        seconds.filter(|seconds| bounds.contains(seconds)).ok_or_else(|| {
            let (least, most) = (bounds.start().as_secs_f64(), bounds.end().as_secs_f64());
            format!("{text:?} is not a number of seconds from {least} to {most}")
        })
    }
}

/// A moment by RFC 3339.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    sale::bounds::moment(text.trim())
        .ok_or_else(|| format!("{text:?} {}", sale::bounds::MOMENT_RULE))
}
