//! What was applied last, so that an unchanged part is not applied again. An apply that changes nothing is a write for
//! the API server too: it runs admission, and it is in the audit log.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::report_tokens::SaleKey;

/// Fingerprints by sale, and then by part.
#[derive(Clone, Debug, Default)]
pub struct AppliedVersions(Arc<Mutex<HashMap<SaleKey, HashMap<String, u64>>>>);

/// Uid and version of an object.
pub type Version<'a> = (&'a str, &'a str);

/// A declared part: what was sent, without the fields that depend on the existing object.
#[derive(Clone, Copy, Debug)]
pub struct Declared(u64);

impl Declared {
    /// The part that `object` declares; `None`: it cannot be serialized, and the apply reports that.
    #[must_use]
    pub fn of<K: Serialize>(object: &K) -> Option<Self> {
        let sent = serde_json::to_vec(object).ok()?;
        Some(Self(hash(&sent)))
    }

    /// The declared part and the existing object in this version.
    fn at(self, version: Version<'_>) -> u64 {
        hash(&(self.0, version))
    }
}

impl AppliedVersions {
    /// Whether the existing object, in this version, is what the last apply of the same declaration left.
    #[must_use]
    pub fn is_current(
        &self,
        sale: &SaleKey,
        part: &str,
        declared: Declared,
        version: Version<'_>,
    ) -> bool {
        let all = self.lock();
        let known = all.get(sale).and_then(|parts| parts.get(part));
        known == Some(&declared.at(version))
    }

    /// Remembers an object as the API server returned it.
    pub fn set(&self, sale: &SaleKey, part: String, declared: Declared, version: Version<'_>) {
        self.lock().entry(sale.clone()).or_default().insert(part, declared.at(version));
    }

    /// Forgets all other sales.
    pub fn retain(&self, sales: &HashSet<SaleKey>) {
        self.lock().retain(|sale, _| sales.contains(sale));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SaleKey, HashMap<String, u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
