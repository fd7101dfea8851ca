//! Removes the names of buyers from Redis: from the units by buyer, the idempotency keys, and the
//! orders that the database could not take. Orders that wait in a stream are recorded first, with
//! their names.

use std::collections::BTreeSet;

use ledger::LedgerError;
use ledger::erasure::{Erasure, PREFIX, new_pseudonym};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;

use super::engine::AtomicEngine;
use super::entry::key_field;
use super::error::ReconcileError;
use super::keys::{KEYS, bought_key, refused_key};

impl AtomicEngine {
    /// Puts the pseudonym in the buyer's place.
    pub(crate) async fn erase(&self, erasure: &Erasure) -> Result<(), ReconcileError> {
        let Erasure { buyer, pseudonym, .. } = erasure;
        let (mut connection, _) = self.connected().await?;
        for product_id in self.all_products().await? {
            self.scripts.erase(&mut connection, &product_id, buyer, pseudonym).await?;
        }
        Ok(())
    }

    /// Removes these idempotency keys of a buyer.
    pub(crate) async fn remove_keys(
        &self,
        buyer: &str,
        keys: &[String],
    ) -> Result<(), ReconcileError> {
        let (mut connection, _) = self.connected().await?;
        let fields: Vec<String> = keys.iter().map(|key| key_field(buyer, key)).collect();
        redis::cmd("HDEL").arg(KEYS).arg(fields).query_async::<i64>(&mut connection).await?;
        Ok(())
    }

    /// Removes all units by buyer and all idempotency keys: the database has pseudonyms by now, and the
    /// reconciler makes the stock anew from it. Names in refused orders get pseudonyms.
    pub(crate) async fn forget_buyers(&self) -> Result<(), ReconcileError> {
        let (mut connection, _) = self.connected().await?;
        let mut remove = redis::cmd("UNLINK");
        remove.arg(KEYS);
        for product_id in self.all_products().await? {
            remove.arg(bought_key(&product_id));
            for buyer in refused_buyers(&mut connection, &product_id).await? {
                let pseudonym = new_pseudonym();
                self.scripts.erase(&mut connection, &product_id, &buyer, &pseudonym).await?;
            }
        }
        remove.query_async::<i64>(&mut connection).await?;
        self.wakeup.notify_one();
        Ok(())
    }

    /// The deleted ones too.
    async fn all_products(&self) -> Result<Vec<String>, LedgerError> {
        let deleted = self.ledger.deleted_products().await?;
        let mut products = self.catalog.ids();
        products.extend(deleted.into_iter().map(|(product_id, _)| product_id));
        Ok(products)
    }
}

/// The names in orders that the database could not take.
async fn refused_buyers(
    connection: &mut MultiplexedConnection,
    product_id: &str,
) -> Result<BTreeSet<String>, ReconcileError> {
    let mut read = redis::cmd("XRANGE");
    read.arg(refused_key(product_id)).arg("-").arg("+");
    let refused: StreamRangeReply = read.query_async(connection).await?;
    let names = refused.ids.iter().filter_map(|entry| entry.get::<String>("buyer"));
    Ok(names.filter(|name| !name.starts_with(PREFIX)).collect())
}
