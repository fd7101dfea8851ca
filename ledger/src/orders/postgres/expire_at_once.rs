//! The end of holds of one product in one statement: all that are due end, or nothing is changed and the rules decide.

use std::collections::{BTreeMap, HashSet};

use sqlx::error::ErrorKind;
use uuid::Uuid;

use crate::error::LedgerError;
use crate::orders::sql::EXPIRE_AT_ONCE;
use crate::orders::types::{Settled, Settlement, Task};
use crate::postgres::PostgresLedger;
use crate::postgres::connection::fetch;

/// Units left, and the orders whose holds ended.
type EndedRow = (i64, Vec<Uuid>);

impl PostgresLedger {
    /// `None`: nothing was changed, and the rules must decide, or other tasks are among them. [`LedgerError::ConnectionLost`]:
    /// the same, unless a statement whose answer was lost ended them.
    ///
    /// No refusal is remembered: another try is one round trip for up to 1,000 orders, and who waits for units of one
    /// product says nothing about the others.
    pub(super) async fn expire_at_once(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Option<Settlement>, LedgerError> {
        let Some((product, token)) = tokens.first_key_value().filter(|_| tokens.len() == 1) else {
            return Ok(None);
        };
        let mut asked = Vec::with_capacity(tasks.len());
        for task in tasks {
            let Task::Expire { ids } = task else { return Ok(None) };
            asked.push(ids.as_slice());
        }
        let ids: Vec<Uuid> = asked.concat();
        let query = || sqlx::query_as(EXPIRE_AT_ONCE).bind(product).bind(token).bind(&ids);
        let (mut rows, is_repeated): (Vec<EndedRow>, _) = match fetch(&self.pool, query).await {
            Err(error) if is_undone(&error) => return Ok(None),
            fetched => fetched?,
        };
        let Some((available, ended)) = rows.pop() else {
            // The lost statement may have ended them.
            return if is_repeated { Err(LedgerError::ConnectionLost) } else { Ok(None) };
        };
        let mut ended: HashSet<Uuid> = ended.into_iter().collect();
        let mut outcomes = Vec::with_capacity(asked.len());
        for ids in asked {
            // An order of two tasks was ended by the first.
            outcomes.push(Settled::Expired(ids.iter().map(|id| i64::from(ended.remove(id))).sum()));
        }
        let available = BTreeMap::from([(product.clone(), available)]);
        Ok(Some(Settlement { outcomes, available, handed_out: 0 }))
    }
}

/// Whether the statement was undone because orders have units of other products, or because of a deadlock.
fn is_undone(error: &LedgerError) -> bool {
    let LedgerError::Database(sqlx::Error::Database(refusal)) = error else { return false };
    refusal.kind() == ErrorKind::NotNullViolation || error.is_crossed_keys()
}

#[cfg(test)]
mod tests;
