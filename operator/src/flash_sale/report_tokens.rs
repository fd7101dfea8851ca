//! The tokens for the reports of all sales. Reconciles read them from Secrets, and the polls between reconciles use them
//! without a request to the API server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Namespace and name of a sale.
pub type SaleKey = (String, String);

/// Tokens by sale.
#[derive(Clone, Default)]
pub struct ReportTokens(Arc<Mutex<HashMap<SaleKey, Arc<str>>>>);

impl ReportTokens {
    /// Remembers the token of a sale.
    pub fn set(&self, namespace: &str, sale: &str, token: &str) {
        self.lock().insert((namespace.to_owned(), sale.to_owned()), token.into());
    }

    /// The token of a sale; absent: the sale has not been reconciled by this process.
    #[must_use]
    pub fn get(&self, namespace: &str, sale: &str) -> Option<Arc<str>> {
        self.lock().get(&(namespace.to_owned(), sale.to_owned())).cloned()
    }

    /// Forgets the tokens of all other sales.
    pub fn retain(&self, sales: &HashSet<SaleKey>) {
        self.lock().retain(|sale, _| sales.contains(sale));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SaleKey, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
