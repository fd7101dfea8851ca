//! Deletes a product for good. The ledger must have all its orders first.
//!
//! Under the same lock as a rebuild ([`super::rebuild`]): selling ends, then the rest of the stream is
//! recorded. If the ledger then refuses the deletion, the reconciler finds no stock and rebuilds it.

use ledger::{Product, ProductChange};

use super::engine::AtomicEngine;
use super::error::ReconcileError;
use super::keys::{bought_key, rebuild_resource, stock_key};
use crate::change::{ChangeError, change_product};
use crate::resource::stock_resource;

impl AtomicEngine {
    pub(crate) async fn delete(
        &self,
        change: &ProductChange,
        actor: Option<&str>,
    ) -> Result<Option<Product>, ChangeError> {
        let product_id = change.product_id();
        let lease = self.redlock.acquire(&rebuild_resource(product_id), self.policy).await?;
        lease.keep_extended();
        let deleting = Box::pin(self.delete_under(lease.token(), change, actor));
        let deleted = lease.while_held(deleting).await.unwrap_or(Err(ChangeError::LeaseOver));
        lease.release().await;
        // A product that was not deleted must be sold again.
        self.wakeup.notify_one();
        deleted
    }

    async fn delete_under(
        &self,
        token: u64,
        change: &ProductChange,
        actor: Option<&str>,
    ) -> Result<Option<Product>, ChangeError> {
        let product_id = change.product_id();
        let token = i64::try_from(token).unwrap_or(i64::MAX);
        let (mut connection, _) = self.connected().await?;
        if !self
            .scripts
            .stop(&mut connection, product_id, token, false)
            .await
            .map_err(ReconcileError::from)?
        {
            return Err(ReconcileError::Overtaken.into());
        }
        self.drain(&mut connection, product_id).await?;
        let policy = self.catalog.policy(&stock_resource(product_id));
        let left = change_product(&self.ledger, &self.redlock, policy, change, actor).await?;
        // In the background: the units by buyer may be many.
        let mut forget = redis::cmd("UNLINK");
        forget.arg(stock_key(product_id)).arg(bought_key(product_id));
        forget.query_async::<i64>(&mut connection).await.map_err(ReconcileError::from)?;
        Ok(left)
    }
}

impl From<ReconcileError> for ChangeError {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Ledger(error) => Self::Ledger(error),
            ReconcileError::Lock(error) => Self::Lock(error),
            ReconcileError::TooSlow => Self::LeaseOver,
            ReconcileError::Redis(_)
            | ReconcileError::Overtaken
            | ReconcileError::LaterEntry
            | ReconcileError::TimedOut => Self::Stock(error.to_string()),
        }
    }
}
