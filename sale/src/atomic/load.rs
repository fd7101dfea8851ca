//! Makes a product's stock in Redis from the database, under a lock.
//!
//! First nobody sells any more (`stop.lua`), then what the stream still holds is recorded, and only
//! then is the database asked what is left. A holder that outlived its lease is refused by the row's
//! fence or, in Redis, by the later incarnation.
//!
//! Units by buyer and idempotency keys are not read here, so that the sale goes on at once however
//! many orders there are: they are filled in while it sells ([`super::fill`]).

use ledger::LedgerError;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use tracing::info;
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::error::ReconcileError;
use super::fill::{self, KeysState};
use super::keys::{KEYS, bought_key, load_resource, stream_key};
use super::recorder::READ;
use super::script::Counted;

impl AtomicEngine {
    pub(crate) async fn load(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
    ) -> Result<(), ReconcileError> {
        let resource = load_resource(product_id);
        let lease = self.redlock.acquire(&resource, self.policy).await?;
        lease.keep_extended();
        let loading = Box::pin(self.load_under(connection, product_id, lease.token()));
        let loaded = lease.while_held(loading).await.unwrap_or(Err(ReconcileError::TooSlow));
        if let Err(ReconcileError::Ledger(LedgerError::StaleToken { seen, .. })) = &loaded {
            // Redis forgot how far it had counted; the ledger knows.
            self.redlock.observe_token(&resource, u64::try_from(*seen).unwrap_or(0));
        }
        lease.release().await;
        loaded
    }

    async fn load_under(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        token: u64,
    ) -> Result<(), ReconcileError> {
        let token = i64::try_from(token).unwrap_or(i64::MAX);
        let rows = self.ledger.stock_rows().await?;
        let Some(row) = rows.iter().find(|row| row.product_id == product_id) else { return Ok(()) };
        if self.fits(connection, row).await? {
            // Whoever had the lock before did it.
            return Ok(());
        }
        if !self.scripts.stop(connection, product_id, token).await? {
            return Err(ReconcileError::Overtaken);
        }
        if fill::keys_state(connection).await? == KeysState::Lost {
            // Without them no purchase with a key is decided, of whatever product.
            for row in &rows {
                self.drain(connection, &row.product_id).await?;
            }
            begin_keys(connection).await?;
        } else {
            self.drain(connection, product_id).await?;
        }
        forget_bought(connection, product_id).await?;
        let counted = match self.catalog.max_per_buyer(product_id) {
            Some(_) => Counted::SinceItsBeginning,
            None => Counted::No,
        };
        let available = self.ledger.reincarnate(product_id, token).await?;
        if !self.scripts.open(connection, product_id, token, available, counted).await? {
            return Err(ReconcileError::Overtaken);
        }
        self.fill_first(connection, (product_id, token)).await?;
        info!(product_id, available, incarnation = token, "stock in Redis made from the database");
        self.observer.repaired(true);
        Ok(())
    }

    /// Records what is in the stream now, whoever else was about to.
    pub(crate) async fn drain(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
    ) -> Result<(), ReconcileError> {
        let stream = stream_key(product_id);
        let last: StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(&stream)
            .arg(&["+", "-", "COUNT", "1"])
            .query_async(connection)
            .await?;
        let Some(last) = last.ids.into_iter().next() else { return Ok(()) };
        loop {
            let entries: StreamRangeReply = redis::cmd("XRANGE")
                .arg(&stream)
                .arg("-")
                .arg(&last.id)
                .arg("COUNT")
                .arg(READ)
                .query_async(connection)
                .await?;
            if entries.ids.is_empty() {
                return Ok(());
            }
            let mut done = Vec::new();
            let all = self.record_left(product_id, entries.ids, &mut done).await?;
            self.take_off(connection, &done).await?;
            if !all {
                return Err(ReconcileError::LaterEntry);
            }
        }
    }
}

/// All idempotency keys are in the database now, of whatever product.
async fn begin_keys(connection: &mut MultiplexedConnection) -> Result<(), ReconcileError> {
    let mut begin = redis::cmd("HSETNX");
    begin.arg(KEYS).arg("epoch").arg(Uuid::now_v7().to_string());
    begin.query_async::<i64>(connection).await?;
    Ok(())
}

async fn forget_bought(
    connection: &mut MultiplexedConnection,
    product_id: &str,
) -> Result<(), ReconcileError> {
    // In the background: it may be large.
    redis::cmd("UNLINK").arg(bought_key(product_id)).query_async::<i64>(connection).await?;
    Ok(())
}
