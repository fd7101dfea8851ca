//! Where Secrets are watched. A sale in a namespace without such a watch reads its Secrets again and again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Namespaces with a running watch; `None` is the watch of all namespaces.
#[derive(Clone, Debug, Default)]
pub struct SecretWatches(Arc<Mutex<HashSet<Option<String>>>>);

impl SecretWatches {
    /// The watch of this namespace, or of all of them, works or has failed.
    pub fn set(&self, namespace: Option<&str>, works: bool) {
        let namespace = namespace.map(str::to_owned);
        let mut all = self.lock();
        if works {
            all.insert(namespace);
        } else {
            all.remove(&namespace);
        }
    }

    /// Whether a changed Secret of this namespace triggers a reconcile.
    #[must_use]
    pub fn cover(&self, namespace: &str) -> bool {
        let all = self.lock();
        all.contains(&None) || all.contains(&Some(namespace.to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
