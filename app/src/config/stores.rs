//! Which store decides, and how the two are kept in agreement.

use std::str::FromStr;
use std::time::Duration;

use super::{ConfigError, LockConfig, Source, optional, time, wrong};

/// Which store decides a purchase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The database, in one transaction under the lock.
    #[default]
    Locked,
    /// Redis, in one script; the database follows.
    Atomic,
}

impl FromStr for Strategy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Locked" => Ok(Self::Locked),
            "Atomic" => Ok(Self::Atomic),
            _ => Err("expected Locked or Atomic"),
        }
    }
}

/// How often the two stores are brought to agree, by one replica at a time.
#[derive(Debug, Clone, Copy)]
pub struct StoresConfig {
    /// `COMPARE_SECONDS`
    pub compare_every: Duration,
    /// `LOAD_SECONDS`
    pub load_every: Duration,
}

impl Strategy {
    pub(super) fn read(source: &impl Source, lock: &LockConfig) -> Result<Self, ConfigError> {
        let strategy = optional(source, "STRATEGY", "Locked or Atomic")?.unwrap_or_default();
        if strategy == Self::Atomic && lock.nodes.nodes.len() != 1 {
            let problem = "Atomic needs one node that decides: name one in REDIS_NODES";
            return Err(wrong("STRATEGY", problem));
        }
        Ok(strategy)
    }
}

impl StoresConfig {
    pub(super) fn read(source: &impl Source) -> Result<Self, ConfigError> {
        Ok(Self {
            compare_every: time(source, "COMPARE_SECONDS", Duration::from_mins(1))?,
            load_every: time(source, "LOAD_SECONDS", Duration::from_mins(5))?,
        })
    }
}
