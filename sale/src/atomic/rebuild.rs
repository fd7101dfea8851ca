//! Rebuilds a product's stock in Redis from the database, under a lock.
//!
//! First selling ends (`stop.lua`), then the rest of the stream is recorded, and only then the
//! remaining units are read from the database. A holder that outlived its lease is refused by the
//! row's fence or, in Redis, by the later incarnation. If the database lost orders, the idempotency
//! keys are removed too.
//!
//! Units by buyer and idempotency keys are not read here, so that the sale goes on at once, whatever
//! the number of orders: they are filled in later ([`super::fill`]).

use ledger::{LedgerError, StockRow};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use tracing::{error, info};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::error::ReconcileError;
use super::fill::{self, KeysState};
use super::keys::{KEYS, rebuild_resource, stream_key};
use super::recorder::PAGE;
use super::script::BuyerUnits;
use super::stock_state::StockMatch;
use crate::observer::Drift;

impl AtomicEngine {
    pub(crate) async fn rebuild(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
    ) -> Result<(), ReconcileError> {
        let resource = rebuild_resource(product_id);
        let lease = self.redlock.acquire(&resource, self.policy).await?;
        lease.keep_extended();
        let rebuilding = Box::pin(self.rebuild_under(connection, product_id, lease.token()));
        let rebuilt = lease.while_held(rebuilding).await.unwrap_or(Err(ReconcileError::TooSlow));
        if let Err(ReconcileError::Ledger(LedgerError::StaleToken { seen, .. })) = &rebuilt {
            // Redis lost its counter; the ledger has the highest token.
            self.redlock.observe_token(&resource, u64::try_from(*seen).unwrap_or(0));
        }
        lease.release().await;
        rebuilt
    }

    async fn rebuild_under(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        token: u64,
    ) -> Result<(), ReconcileError> {
        let token = i64::try_from(token).unwrap_or(i64::MAX);
        let rows = self.ledger.stock_rows().await?;
        let Some(row) = rows.iter().find(|row| row.product_id == product_id) else { return Ok(()) };
        let found = self.compare_stock(connection, row).await?;
        if found == StockMatch::Same {
            // The previous holder of the lock rebuilt it.
            return Ok(());
        }
        // A repeated key would be answered with a lost order.
        let lost_orders = found == StockMatch::DatabaseOlder;
        if !self.scripts.stop(connection, product_id, token, lost_orders).await? {
            return Err(ReconcileError::Overtaken);
        }
        if lost_orders {
            error!(
                product_id,
                "the database is older than the stock in Redis, as after a restored backup: units of \
                 the orders that it lacks are for sale again"
            );
            self.observer.drifted(Drift::DatabaseOlder);
        }
        self.drain(connection, product_id).await?;
        self.begin_lost_keys(connection, &rows).await?;
        let buyer_units = match self.catalog.max_per_buyer(product_id) {
            Some(_) => BuyerUnits::SinceOpening,
            None => BuyerUnits::NotCounted,
        };
        let available = self.ledger.reincarnate(product_id, token).await?;
        if !self.scripts.open(connection, product_id, token, available, buyer_units).await? {
            return Err(ReconcileError::Overtaken);
        }
        self.fill_first_page(connection, (product_id, token)).await?;
        info!(product_id, available, incarnation = token, "stock in Redis made from the database");
        self.observer.repaired(true);
        Ok(())
    }

    /// If Redis lost the idempotency keys, begins an epoch of them once the database has all: without
    /// them Redis decides no purchase of any product. Fails if another replica began an epoch meanwhile
    /// and its keys were removed again, because orders may have been sold in between.
    async fn begin_lost_keys(
        &self,
        connection: &mut MultiplexedConnection,
        rows: &[StockRow],
    ) -> Result<(), ReconcileError> {
        if fill::keys_state(connection).await? != KeysState::Lost {
            return Ok(());
        }
        let mut mark = redis::pipe();
        mark.cmd("HSETNX").arg(KEYS).arg("lost").arg(Uuid::now_v7().to_string()).ignore();
        mark.cmd("HGET").arg(KEYS).arg("lost");
        let (mark,): (Option<String>,) = mark.query_async(connection).await?;
        for row in rows {
            self.drain(connection, &row.product_id).await?;
        }
        let begun = self.scripts.begin_keys(connection, &mark.unwrap_or_default()).await?;
        if begun { Ok(()) } else { Err(ReconcileError::Overtaken) }
    }

    /// Records all current entries of the stream, including those that another replica is about to
    /// record.
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
                .arg(PAGE)
                .query_async(connection)
                .await?;
            if entries.ids.is_empty() {
                return Ok(());
            }
            let mut done = Vec::new();
            let all = self.record_stream_entries(product_id, entries.ids, &mut done).await?;
            self.remove_recorded(connection, &done).await?;
            if !all {
                return Err(ReconcileError::LaterEntry);
            }
        }
    }
}
