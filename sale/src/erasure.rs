//! Erases buyers in all stores.

use std::time::Duration;

use jiff::Timestamp;
use ledger::erasure::{Erasure, Replaced};
use redlock::{Policy, QueueDiscipline};

use crate::erasure_error::ErasureError;
use crate::sale::{Engine, Sale};

/// The lock under which one replica replaces all names.
const RESOURCE: &str = "buyers:retention";
/// How long a replica waits for another one to be done.
const LOCK_WAIT: Duration = Duration::from_millis(500);

impl Sale {
    /// Puts the pseudonym in the buyer's place in every store. False: orders of the buyer may still wait to be
    /// recorded, under their name.
    ///
    /// # Errors
    /// See [`ErasureError`].
    pub async fn erase(&self, erasure: &Erasure) -> Result<(Replaced, bool), ErasureError> {
        let complete = self.all_recorded().await;
        // What an earlier attempt left.
        self.remove_keys(erasure).await?;
        if let Engine::Atomic(atomic) = &self.engine {
            atomic.erase(erasure).await?;
        }
        let replaced = self.ledger.replace_buyer(erasure).await?;
        self.remove_keys(erasure).await?;
        Ok((replaced, complete))
    }

    /// Removes the idempotency keys of orders that have the pseudonym, from Redis first.
    async fn remove_keys(
        &self,
        Erasure { buyer, pseudonym, .. }: &Erasure,
    ) -> Result<(), ErasureError> {
        if let Engine::Atomic(atomic) = &self.engine {
            let keys = self.ledger.keys_of(pseudonym).await?;
            if !keys.is_empty() {
                atomic.remove_keys(buyer, &keys).await?;
            }
        }
        Ok(self.ledger.remove_keys(pseudonym).await?)
    }

    async fn forget_all(&self, first: bool) -> Result<u64, ErasureError> {
        if let Engine::Atomic(atomic) = &self.engine
            && !atomic.await_recorded(None).await
        {
            return Err(ErasureError::Redis("orders still wait to be recorded".to_owned()));
        }
        let replaced = self.ledger.replace_all_buyers().await?;
        if let Engine::Atomic(atomic) = &self.engine
            && (first || replaced > 0)
        {
            atomic.forget_buyers().await?;
        }
        Ok(replaced)
    }

    /// Puts pseudonyms in the place of all buyers, in every store, and returns their number. For a sale
    /// that is over. One replica at a time does it; `None`: it is another one, or too early by the clock of the database.
    ///
    /// `first`: the caller has not done so before, so an earlier process may have stopped before Redis.
    /// `from`: the time from which it may be done. It cannot be undone, and the clock of one replica may be wrong.
    ///
    /// # Errors
    /// See [`ErasureError`].
    pub async fn forget_buyers(
        &self,
        first: bool,
        from: Timestamp,
    ) -> Result<Option<u64>, ErasureError> {
        if self.ledger.now_ms().await? < from.as_millisecond() {
            return Ok(None);
        }
        let policy = Policy {
            discipline: QueueDiscipline::Unordered,
            wait_timeout: LOCK_WAIT,
            ..self.catalog.policy(RESOURCE)
        };
        let Ok(lease) = self.redlock.acquire(RESOURCE, policy).await else { return Ok(None) };
        lease.keep_extended();
        let forgotten = lease.while_held(Box::pin(self.forget_all(first))).await;
        lease.release().await;
        forgotten.transpose()
    }

    /// Whether everything that was sold is in the database, after a short wait.
    pub async fn all_recorded(&self) -> bool {
        match &self.engine {
            Engine::Locked(..) => true,
            Engine::Atomic(atomic) => atomic.await_recorded(None).await,
        }
    }
}
