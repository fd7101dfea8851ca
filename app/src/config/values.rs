//! Reads one setting of a kind, or says what it must be: the name of the setting, then the rule.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::source::{ConfigError, Source};
use crate::bounds;

pub(super) fn wrong(name: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(name, problem)
}

pub(super) fn required(
    source: &impl Source,
    name: &'static str,
    expected: &str,
) -> Result<String, ConfigError> {
    source.get(name).ok_or_else(|| wrong(name, format!("is not set; give {expected}")))
}

/// What a setting must be is said in our own words: those of a parser name neither it nor the remedy.
pub(super) fn optional<T: FromStr>(
    source: &impl Source,
    name: &'static str,
    expected: &str,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = source.get(name) else {
        return Ok(None);
    };
    let parsed = text.trim().parse().ok();
    parsed.map(Some).ok_or_else(|| wrong(name, format!("{text:?} is not {expected}")))
}

pub(super) fn moment(
    source: &impl Source,
    name: &'static str,
) -> Result<Option<Timestamp>, ConfigError> {
    let Some(text) = source.get(name) else {
        return Ok(None);
    };
    let moment = sale::bounds::moment(text.trim());
    moment.map(Some).ok_or_else(|| wrong(name, format!("{text:?} {}", sale::bounds::MOMENT_RULE)))
}

/// A whole number within `bounds`.
pub(super) fn number<T: FromStr + PartialOrd + Display>(
    source: &impl Source,
    name: &'static str,
    default: T,
    bounds: RangeInclusive<T>,
) -> Result<T, ConfigError> {
    let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
    match optional(source, name, &expected)? {
        None => Ok(default),
        Some(number) if bounds.contains(&number) => Ok(number),
        Some(number) => Err(wrong(name, format!("{number} is not {expected}"))),
    }
}

/// Decimal seconds within the bounds of times that have none of their own.
pub(super) fn time(
    source: &impl Source,
    name: &'static str,
    default: Duration,
) -> Result<Duration, ConfigError> {
    seconds(source, name, default, bounds::TIME)
}

/// Decimal seconds within `bounds`.
pub(super) fn seconds(
    source: &impl Source,
    name: &'static str,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, ConfigError> {
    let Some(value) = optional::<f64>(source, name, "a number of seconds")? else {
        return Ok(default);
    };
    let duration = Duration::try_from_secs_f64(value).ok();
    duration.filter(|duration| bounds.contains(duration)).ok_or_else(|| {
        let (least, most) = (bounds.start().as_secs_f64(), bounds.end().as_secs_f64());
        wrong(name, format!("{value} is not from {least} to {most} seconds"))
    })
}
