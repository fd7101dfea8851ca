//! What an erasure is, and the names that were erased.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What every pseudonym begins with.
pub const PREFIX: &str = "erased:";

/// An erasure that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The name that is to go.
    pub buyer: String,
    /// The name in its place.
    pub pseudonym: String,
    /// How long ago it began, in milliseconds, by the clock of the database.
    pub age_ms: i64,
}

/// Whether an erasure has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Yes, now or before.
    Erasure(Erasure),
    /// There is nothing about a buyer of this name; or there is no more, after an erasure.
    UnknownBuyer,
    /// The name is that of an administrator's account.
    Administrator,
}

/// What got the pseudonym.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Products of orders.
    pub order_lines: u64,
    /// Coupons.
    pub coupons: u64,
}

/// The names that were erased, as hashes.
#[derive(Debug, Clone, Default)]
pub struct ErasedNames {
    pub(super) salt: String,
    pub(super) digests: HashSet<String>,
}

impl ErasedNames {
    /// Whether a buyer of this name was erased.
    #[must_use]
    pub fn contains(&self, buyer: &str) -> bool {
        !self.digests.is_empty() && self.digests.contains(&digest(&self.salt, buyer))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

pub(super) fn digest(salt: &str, buyer: &str) -> String {
    let hash = Sha256::digest([salt, "\0", buyer].concat());
    let mut text = String::with_capacity(2 * hash.len());
    for byte in hash {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
    }
    text
}

/// A name that no buyer has, and that does not tell whose place it takes.
#[must_use]
pub fn new_pseudonym() -> String {
    format!("{PREFIX}{}", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_salted_hash_only() {
        let names = ErasedNames {
            salt: "salt".to_owned(),
            digests: HashSet::from([digest("salt", "ann")]),
        };
        assert!(names.contains("ann"));
        assert!(!names.contains("Ann") && !names.contains("salt"));
        assert_ne!(digest("salt", "ann"), digest("other", "ann"));
        assert!(!ErasedNames::default().contains("ann"));
    }
}
