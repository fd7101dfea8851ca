//! The keys in Redis, the Lua scripts, their arguments and their answers.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use uuid::Uuid;

use super::entry::{key_field, key_value};
use super::recorder::Done;
use crate::ledger::{KeyedOrder, Purchase};
use crate::sale::stock_resource;

/// The orders that idempotency keys led to, by key and buyer. All are there if it has an empty field.
/// If it has an `epoch` instead, those that are not there are in the database if anywhere, and all
/// buyers up to `filled` are there.
pub(super) const KEYS: &str = "purchase-keys";

/// A hash: incarnation, available, sold, given, fence; limited, which is 2 while units of buyers who
/// are not in their hash are in the database if anywhere, and filled, up to which buyer all are there;
/// waiting, which is how many orders are in the stream.
pub(super) fn stock_key(product_id: &str) -> String {
    format!("sale:{product_id}")
}

/// The stream of orders that wait to be recorded.
pub(super) fn stream_key(product_id: &str) -> String {
    format!("orders:{product_id}")
}

/// The stream of orders that the database could not take.
pub(super) fn refused_key(product_id: &str) -> String {
    format!("orders-refused:{product_id}")
}

/// Is there while a replica records what others left in the stream.
pub(super) fn recording_key(product_id: &str) -> String {
    format!("recording:{product_id}")
}

/// Names the replica that fills what Redis lost, for as long as it does.
pub(super) const FILLING: &str = "filling";

/// How long others leave it to a replica that began to fill or to record, in ms, after its last page.
pub(super) const CLAIM: u64 = 5_000;

/// A hash of units by buyer.
pub(super) fn bought_key(product_id: &str) -> String {
    format!("bought:{product_id}")
}

/// The compiled scripts; each says at its head what it does.
#[derive(Debug)]
pub(super) struct Scripts {
    purchase: Script,
    stop: Script,
    open: Script,
    follow: Script,
    recorded: Script,
    fill: Script,
    fill_keys: Script,
    given_back: Script,
    ends: Script,
    look: Script,
}

/// What the script that sells says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is not the stock that was meant.
    Unready,
    /// Too many orders wait to be recorded.
    Backlog,
    Decided {
        available: i64,
        /// The id of the stream's entry; empty: nothing was sold.
        entry: String,
        /// By their numbers, from 0, in their order; all others were made.
        not_made: Vec<(usize, NotMade)>,
    },
}

/// Why a purchase was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotMade {
    SoldOut,
    LimitReached,
    KeyReused,
    /// It was made before: this is its order.
    Before(Uuid),
    /// Redis lost the key or the units of the buyer: the database has to be asked.
    Unknown,
}

/// What became of a stock that was compared with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) before: i64,
    pub(super) available: i64,
    pub(super) drift: i64,
    pub(super) short: i64,
    pub(super) waiting: i64,
}

/// What Redis has of a product; numbers are -1 where it has none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) incarnation: i64,
    pub(super) available: i64,
    pub(super) sold: i64,
    pub(super) limited: i64,
    /// Whether it has the idempotency keys, those of all products.
    pub(super) has_keys: bool,
    /// Keys that held something else than they should.
    pub(super) removed: Vec<String>,
}

/// What is sold from, and by which rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stock<'a> {
    pub(super) product_id: &'a str,
    pub(super) incarnation: i64,
    pub(super) max_per_buyer: Option<i64>,
    pub(super) most_waiting: usize,
}

/// Whether a stock counts units by buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    No = 0,
    /// Those of earlier stocks are in the database only, until they are filled in.
    SinceItsBeginning = 2,
}

/// Of how many purchases, from the first on, the database has no order for the key; that is true for
/// one epoch of the keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checked {
    pub(super) epoch: Option<Uuid>,
    pub(super) count: usize,
}

/// Up to which buyer, in order of the names, Redis knows what the database does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled<'a> {
    AsBefore,
    UpTo(&'a str),
    Completely,
}

impl Filled<'_> {
    fn args(&self) -> (&str, u8) {
        match self {
            Self::AsBefore => ("", 0),
            Self::UpTo(buyer) => (buyer, 0),
            Self::Completely => ("", 1),
        }
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            purchase: Script::new(include_str!("purchase.lua")),
            stop: Script::new(include_str!("stop.lua")),
            open: Script::new(include_str!("open.lua")),
            follow: Script::new(include_str!("follow.lua")),
            recorded: Script::new(include_str!("recorded.lua")),
            fill: Script::new(include_str!("fill.lua")),
            fill_keys: Script::new(include_str!("fill_keys.lua")),
            given_back: Script::new(include_str!("given_back.lua")),
            ends: Script::new(include_str!("ends.lua")),
            look: Script::new(include_str!("look.lua")),
        }
    }

    /// What there is of a product, after keys that hold something else than they should were removed.
    pub(super) async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
    ) -> RedisResult<Found> {
        let mut call = self.look.key(stock_key(product_id));
        call.key(bought_key(product_id)).key(stream_key(product_id)).key(refused_key(product_id));
        call.key(stock_resource(product_id)).key(KEYS);
        call.key(recording_key(product_id)).key(FILLING).arg(CLAIM);
        let (incarnation, available, sold, limited, has_keys, removed) =
            call.invoke_async(connection).await?;
        Ok(Found { incarnation, available, sold, limited, has_keys, removed })
    }

    /// Decides purchases in their order, each under the order id beside it.
    pub(super) async fn purchase(
        &self,
        connection: &mut MultiplexedConnection,
        stock: Stock<'_>,
        checked: Checked,
        purchases: impl ExactSizeIterator<Item = (Uuid, &Purchase)> + Clone,
    ) -> RedisResult<Answer> {
        let product_id = stock.product_id;
        let mut call = Cmd::new();
        call.arg("EVALSHA").arg(self.purchase.get_hash()).arg(5);
        call.arg(stock_key(product_id)).arg(stock_resource(product_id));
        call.arg(stream_key(product_id)).arg(bought_key(product_id)).arg(KEYS);
        call.arg(stock.incarnation).arg(product_id);
        call.arg(stock.max_per_buyer.unwrap_or(0)).arg(stock.most_waiting).arg(purchases.len());
        call.arg(checked.count).arg(epoch_arg(checked.epoch));
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
            Value::Int(0) => Ok(Answer::Unready),
            Value::Int(1) => Ok(Answer::Backlog),
            Value::Array(parts) => decided(&parts, purchases.len()).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Ends the sale from what there is; false: another's later beginning stands.
    pub(super) async fn stop(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
    ) -> RedisResult<bool> {
        let mut call = self.stop.key(stock_key(product_id));
        call.arg(incarnation).invoke_async(connection).await
    }

    /// Begins the sale of so many units; false as above.
    pub(super) async fn open(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
        available: i64,
        counted: Counted,
    ) -> RedisResult<bool> {
        let mut call = self.open.key(stock_key(product_id));
        call.key(stock_resource(product_id));
        call.arg(incarnation).arg(available).arg(counted as u8);
        call.invoke_async(connection).await
    }

    /// Brings the stock to what the database gave; `None`: it is another stock.
    pub(super) async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
        given: i64,
        fence: i64,
    ) -> RedisResult<Option<Followed>> {
        let mut call = self.follow.key(stock_key(product_id));
        call.key(stock_resource(product_id));
        call.arg(incarnation).arg(given).arg(fence);
        let answer: Vec<i64> = call.invoke_async(connection).await?;
        let [before, available, drift, short, waiting] = answer[..] else { return Ok(None) };
        Ok(Some(Followed { before, available, drift, short, waiting }))
    }

    /// Takes over the units of these buyers from the database. False: it is another stock, or all were
    /// known.
    pub(super) async fn fill(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, i64),
        filled: Filled<'_>,
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

    /// Takes over the orders of these keys from the database. False: it is another epoch, or all were
    /// known.
    pub(super) async fn fill_keys(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: Uuid,
        filled: Filled<'_>,
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

    /// Takes units from a buyer that the database gave back. False: it is another stock than the one
    /// that knew of the buyer before.
    pub(super) async fn given_back(
        &self,
        connection: &mut MultiplexedConnection,
        (product_id, incarnation): (&str, Option<i64>),
        buyer: &str,
        units: i64,
    ) -> RedisResult<bool> {
        let mut call = self.given_back.key(stock_key(product_id));
        let incarnation = incarnation.map(|it| it.to_string()).unwrap_or_default();
        call.key(bought_key(product_id)).arg(incarnation).arg(buyer).arg(units);
        call.invoke_async(connection).await
    }

    /// First and last entry of each of these streams; empty where nothing waits.
    pub(super) async fn ends(
        &self,
        connection: &mut MultiplexedConnection,
        streams: impl Iterator<Item = String>,
    ) -> RedisResult<Vec<(String, String)>> {
        let mut call = self.ends.prepare_invoke();
        for stream in streams {
            call.key(stream);
        }
        call.invoke_async(connection).await
    }

    /// Takes entries off their stream, and puts aside what the database cannot take. Returns how
    /// many were there.
    pub(super) async fn recorded(
        &self,
        mut connection: MultiplexedConnection,
        done: &Done,
    ) -> RedisResult<usize> {
        let Done { product_id, incarnation, entries, refused } = done;
        let mut call = self.recorded.key(stock_key(product_id));
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

/// An empty argument is no epoch.
fn epoch_arg(epoch: Option<Uuid>) -> String {
    epoch.map(|epoch| epoch.to_string()).unwrap_or_default()
}

/// What the script that sells said of so many purchases.
fn decided(parts: &[Value], purchases: usize) -> Option<Answer> {
    let [Value::Int(available), Value::BulkString(entry), parts @ ..] = parts else { return None };
    let entry = str::from_utf8(entry).ok()?.to_owned();
    let (pairs, []) = parts.as_chunks::<2>() else { return None };
    let not_made = pairs.iter().map(|[number, why]| {
        let Value::Int(number) = number else { return None };
        let number = usize::try_from(*number).ok().filter(|number| *number <= purchases)?;
        let why = match why {
            Value::Int(2) => NotMade::SoldOut,
            Value::Int(3) => NotMade::LimitReached,
            Value::Int(4) => NotMade::KeyReused,
            Value::Int(5) => NotMade::Unknown,
            Value::BulkString(order) => {
                NotMade::Before(std::str::from_utf8(order).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        Some((number.checked_sub(1)?, why))
    });
    let not_made = not_made.collect::<Option<_>>()?;
    Some(Answer::Decided { available: *available, entry, not_made })
}

#[cfg(test)]
mod tests;
