//! The Lua scripts, with their arguments and replies.

use ledger::{KeyedOrder, Price, Purchase};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use uuid::Uuid;

use super::entry::{RecordedEntries, key_field, key_value, price_value};
use super::keys::{
    CLAIM_MILLIS, FILLING, KEYS, bought_key, recording_key, refused_key, stock_key, stream_key,
};
use super::stock_state::{StateReply, StockState};
use crate::resource::stock_resource;

/// The compiled scripts; the head of each file describes it.
#[derive(Debug)]
pub(crate) struct Scripts {
    purchase: Script,
    stop: Script,
    begin_keys: Script,
    open: Script,
    follow: Script,
    remove_recorded: Script,
    fill: Script,
    fill_keys: Script,
    give_back: Script,
    stream_ends: Script,
    inspect: Script,
    erase: Script,
}

/// The reply of `purchase.lua`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PurchaseReply {
    /// The stock has another incarnation, or cannot be used.
    StockInvalid,
    /// Too many orders wait to be recorded.
    Backlog,
    Decided {
        available: i64,
        /// The id of the stream's entry; empty: nothing was sold.
        entry: String,
        /// Index and reason of each purchase that was not sold, in their order.
        not_sold: Vec<(usize, NotSold)>,
    },
}

/// Why a purchase was not sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSold {
    SoldOut,
    LimitReached,
    KeyReused,
    /// It was made before, as this order.
    AlreadyMade(Uuid),
    /// Redis lacks the key or the buyer's units: the database must be asked.
    Unknown,
}

/// The result of comparing a stock with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FollowReport {
    pub(crate) before: i64,
    pub(crate) available: i64,
    pub(crate) drift: i64,
    pub(crate) short: i64,
    pub(crate) unrecorded: i64,
}

/// The stock to sell from, and its rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock<'a> {
    pub(crate) product_id: &'a str,
    pub(crate) incarnation: i64,
    pub(crate) max_per_buyer: Option<i64>,
    pub(crate) unit_price: Option<Price>,
    pub(crate) max_unrecorded: usize,
}

/// Whether a stock counts units by buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuyerUnits {
    NotCounted = 0,
    /// Units of earlier stocks are only in the database, until they are filled in.
    SinceOpening = 2,
}

/// For the first `count` purchases the database has no order with their key. That holds in one epoch
/// of the keys only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CheckedKeys {
    pub(crate) epoch: Option<Uuid>,
    pub(crate) count: usize,
}

/// The last buyer, in order of the names, up to which Redis has the database's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FillProgress<'a> {
    Unchanged,
    UpTo(&'a str),
    Complete,
}

impl FillProgress<'_> {
    fn args(&self) -> (&str, u8) {
        match self {
            Self::Unchanged => ("", 0),
            Self::UpTo(buyer) => (buyer, 0),
            Self::Complete => ("", 1),
        }
    }
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            purchase: Script::new(include_str!("purchase.lua")),
            stop: Script::new(include_str!("stop.lua")),
            begin_keys: Script::new(include_str!("begin_keys.lua")),
            open: Script::new(include_str!("open.lua")),
            follow: Script::new(include_str!("follow.lua")),
            remove_recorded: Script::new(include_str!("remove_recorded.lua")),
            fill: Script::new(include_str!("fill.lua")),
            fill_keys: Script::new(include_str!("fill_keys.lua")),
            give_back: Script::new(include_str!("give_back.lua")),
            stream_ends: Script::new(include_str!("stream_ends.lua")),
            inspect: Script::new(include_str!("inspect.lua")),
            erase: Script::new(include_str!("erase.lua")),
        }
    }

    /// Reads a product's state, after keys with a wrong type or value were removed.
    pub(crate) async fn inspect(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
    ) -> RedisResult<StockState> {
        let mut call = self.inspect.key(stock_key(product_id));
        call.key(bought_key(product_id)).key(stream_key(product_id)).key(refused_key(product_id));
        call.key(stock_resource(product_id)).key(KEYS);
        call.key(recording_key(product_id)).key(FILLING).arg(CLAIM_MILLIS);
        let reply: StateReply = call.invoke_async(connection).await?;
        Ok(reply.into())
    }

    /// Decides purchases in their order, each with the order id beside it.
    pub(crate) async fn purchase(
        &self,
        connection: &mut MultiplexedConnection,
        stock: Stock<'_>,
        checked: CheckedKeys,
        purchases: impl ExactSizeIterator<Item = (Uuid, &Purchase)> + Clone,
    ) -> RedisResult<PurchaseReply> {
        let product_id = stock.product_id;
        let mut call = Cmd::new();
        call.arg("EVALSHA").arg(self.purchase.get_hash()).arg(5);
        call.arg(stock_key(product_id)).arg(stock_resource(product_id));
        call.arg(stream_key(product_id)).arg(bought_key(product_id)).arg(KEYS);
        call.arg(stock.incarnation).arg(product_id);
        call.arg(stock.max_per_buyer.unwrap_or(0)).arg(stock.max_unrecorded).arg(purchases.len());
        let has_limit_keys = purchases.clone().any(|(_, purchase)| purchase.limit_key.is_some());
        call.arg(checked.count).arg(epoch_arg(checked.epoch)).arg(price_value(stock.unit_price));
        call.arg(u8::from(has_limit_keys));
        for (_, purchase) in purchases.clone() {
            let key = purchase.idempotency_key.as_deref().unwrap_or_default();
            call.arg(key_field(&purchase.buyer, key));
        }
        for (id, purchase) in purchases.clone() {
            call.arg(key_value(id, product_id, purchase.quantity));
        }
        for (_, purchase) in purchases.clone() {
            call.arg(purchase.quantity);
        }
        if has_limit_keys {
            for (_, purchase) in purchases.clone() {
                call.arg(purchase.limit_key.as_deref().unwrap_or_default());
            }
        }
        let answer: Value = match call.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.purchase.load_async(connection).await?;
                call.query_async(connection).await?
            }
            answer => answer?,
        };
        let unexpected =
            || RedisError::from((ErrorKind::UnexpectedReturnType, "not an answer of purchase.lua"));
        match answer {
            Value::Int(0) => Ok(PurchaseReply::StockInvalid),
            Value::Int(1) => Ok(PurchaseReply::Backlog),
            Value::Array(parts) => decided(&parts, purchases.len()).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Ends the sale from the current stock, and forgets the units of each buyer and, if asked, the
    /// idempotency keys of all products. False: a later incarnation was begun.
    pub(crate) async fn stop(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
        forgets_keys: bool,
    ) -> RedisResult<bool> {
        let mut call = self.stop.key(stock_key(product_id));
        call.key(bought_key(product_id));
        if forgets_keys {
            call.key(KEYS);
        }
        call.arg(incarnation).invoke_async(connection).await
    }

    /// Begins an epoch of the idempotency keys, unless they are there. False: they were there since this
    /// mark, and are lost again.
    pub(crate) async fn begin_keys(
        &self,
        connection: &mut MultiplexedConnection,
        mark: &str,
    ) -> RedisResult<bool> {
        let mut call = self.begin_keys.key(KEYS);
        call.arg(mark).arg(epoch_arg(Some(Uuid::now_v7()))).invoke_async(connection).await
    }

    /// Begins the sale of these units. False: another incarnation was begun.
    pub(crate) async fn open(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
        available: i64,
        buyer_units: BuyerUnits,
    ) -> RedisResult<bool> {
        let mut call = self.open.key(stock_key(product_id));
        call.key(stock_resource(product_id));
        call.arg(incarnation).arg(available).arg(buyer_units as u8);
        call.invoke_async(connection).await
    }

    /// Adjusts the stock to the units that the database gave it. `None`: it is another stock.
    pub(crate) async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
        given: i64,
        fence: i64,
    ) -> RedisResult<Option<FollowReport>> {
        let mut call = self.follow.key(stock_key(product_id));
        call.key(stock_resource(product_id));
        call.arg(incarnation).arg(given).arg(fence);
        let answer: Vec<i64> = call.invoke_async(connection).await?;
        let [before, available, drift, short, unrecorded] = answer[..] else { return Ok(None) };
        Ok(Some(FollowReport { before, available, drift, short, unrecorded }))
    }

    /// Copies the units of these buyers from the database. False: it is another stock, or it has all
    /// buyers.
    pub(crate) async fn fill(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, i64),
        filled: FillProgress<'_>,
        units: &[(String, i64)],
    ) -> RedisResult<bool> {
        let mut call = self.fill.key(stock_key(product_id));
        let (up_to, all) = filled.args();
        call.key(bought_key(product_id)).arg(incarnation).arg(up_to).arg(all);
        for (buyer, units) in units {
            call.arg(buyer).arg(units);
        }
        call.invoke_async(connection).await
    }

    /// Copies the orders of these keys from the database. False: it is another epoch, or all keys are
    /// there.
    pub(crate) async fn fill_keys(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: Uuid,
        filled: FillProgress<'_>,
        orders: &[KeyedOrder],
    ) -> RedisResult<bool> {
        let mut call = self.fill_keys.key(KEYS);
        let (up_to, all) = filled.args();
        call.arg(epoch_arg(Some(epoch))).arg(up_to).arg(all);
        for order in orders {
            call.arg(key_field(&order.buyer, &order.idempotency_key));
            call.arg(key_value(order.id, &order.product_id, order.quantity));
        }
        call.invoke_async(connection).await
    }

    /// Reduces the count of a buyer or a limit key by units that the database gave back. False: another stock counted
    /// them.
    pub(crate) async fn give_back(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, Option<i64>),
        buyer: &str,
        units: i64,
    ) -> RedisResult<bool> {
        let mut call = self.give_back.key(stock_key(product_id));
        let incarnation = incarnation.map(|it| it.to_string()).unwrap_or_default();
        call.key(bought_key(product_id)).arg(incarnation).arg(buyer).arg(units);
        call.invoke_async(connection).await
    }

    /// Gives the units and the refused orders of a buyer to a pseudonym. Returns how many places had the
    /// buyer.
    pub(crate) async fn erase(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        buyer: &str,
        pseudonym: &str,
    ) -> RedisResult<u64> {
        let mut call = self.erase.key(bought_key(product_id));
        call.key(refused_key(product_id)).arg(buyer).arg(pseudonym).invoke_async(connection).await
    }

    /// The first and last entry of each stream, and the first order in it; empty ids for an empty
    /// stream.
    pub(crate) async fn stream_ends(
        &self,
        connection: &mut MultiplexedConnection,
        streams: impl Iterator<Item = String>,
    ) -> RedisResult<Vec<(String, String, String)>> {
        let mut call = self.stream_ends.prepare_invoke();
        for stream in streams {
            call.key(stream);
        }
        call.invoke_async(connection).await
    }

    /// Removes entries from their stream, and sets the orders aside that the database cannot take.
    /// Returns how many entries were removed.
    pub(crate) async fn remove_recorded(
        &self,
        mut connection: MultiplexedConnection,
        done: &RecordedEntries,
    ) -> RedisResult<usize> {
        let RecordedEntries { product_id, incarnation, entries, refused } = done;
        let mut call = self.remove_recorded.key(stock_key(product_id));
        call.key(stream_key(product_id)).key(refused_key(product_id));
        call.arg(*incarnation).arg(entries.len());
        for entry in entries {
            call.arg(&entry.id).arg(entry.orders.len());
        }
        for entry in entries {
            for order in entry.orders.iter().filter(|order| refused.contains(&order.id)) {
                call.arg(&entry.id).arg(order.id.hyphenated().to_string());
                call.arg(&order.buyer).arg(order.quantity);
                call.arg(order.idempotency_key.as_deref().unwrap_or_default());
            }
        }
        call.invoke_async(&mut connection).await
    }
}

/// An empty argument stands for no epoch.
fn epoch_arg(epoch: Option<Uuid>) -> String {
    epoch.map(|epoch| epoch.to_string()).unwrap_or_default()
}

/// Decodes the decisions about this many purchases.
fn decided(parts: &[Value], purchases: usize) -> Option<PurchaseReply> {
    let [Value::Int(available), Value::BulkString(entry), parts @ ..] = parts else { return None };
    let entry = str::from_utf8(entry).ok()?.to_owned();
    let (pairs, []) = parts.as_chunks::<2>() else { return None };
    let not_sold = pairs.iter().map(|[number, reason]| {
        let Value::Int(number) = number else { return None };
        let number = usize::try_from(*number).ok().filter(|number| *number <= purchases)?;
        let reason = match reason {
            Value::Int(2) => NotSold::SoldOut,
            Value::Int(3) => NotSold::LimitReached,
            Value::Int(4) => NotSold::KeyReused,
            Value::Int(5) => NotSold::Unknown,
            Value::BulkString(order) => {
                NotSold::AlreadyMade(std::str::from_utf8(order).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        Some((number.checked_sub(1)?, reason))
    });
    let not_sold = not_sold.collect::<Option<_>>()?;
    Some(PurchaseReply::Decided { available: *available, entry, not_sold })
}

#[cfg(test)]
mod tests;
