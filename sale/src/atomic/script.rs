//! The Lua scripts, their arguments and their answers.

use ledger::{KeyedOrder, Purchase};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use uuid::Uuid;

use super::entry::{Done, key_field, key_value};
use super::keys::{
    CLAIM, FILLING, KEYS, bought_key, recording_key, refused_key, stock_key, stream_key,
};
use crate::resource::stock_resource;

/// The compiled scripts; each says at its head what it does.
#[derive(Debug)]
pub(crate) struct Scripts {
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
pub(crate) enum Answer {
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
pub(crate) enum NotMade {
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
pub(crate) struct Followed {
    pub(crate) before: i64,
    pub(crate) available: i64,
    pub(crate) drift: i64,
    pub(crate) short: i64,
    pub(crate) waiting: i64,
}

/// What Redis has of a product; numbers are -1 where it has none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) incarnation: i64,
    pub(crate) available: i64,
    pub(crate) sold: i64,
    pub(crate) limited: i64,
    /// Whether it has the idempotency keys, those of all products.
    pub(crate) has_keys: bool,
    /// Keys that held something else than they should.
    pub(crate) removed: Vec<String>,
}

/// What is sold from, and by which rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock<'a> {
    pub(crate) product_id: &'a str,
    pub(crate) incarnation: i64,
    pub(crate) max_per_buyer: Option<i64>,
    pub(crate) most_waiting: usize,
}

/// Whether a stock counts units by buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    No = 0,
    /// Those of earlier stocks are in the database only, until they are filled in.
    SinceItsBeginning = 2,
}

/// Of how many purchases, from the first on, the database has no order for the key; that is true for
/// one epoch of the keys.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checked {
    pub(crate) epoch: Option<Uuid>,
    pub(crate) count: usize,
}

/// Up to which buyer, in order of the names, Redis knows what the database does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled<'a> {
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
    pub(crate) fn new() -> Self {
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
    pub(crate) async fn look(
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
    pub(crate) async fn purchase(
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
    pub(crate) async fn stop(
        &self,
        connection: &mut MultiplexedConnection,
        product_id: &str,
        incarnation: i64,
    ) -> RedisResult<bool> {
        let mut call = self.stop.key(stock_key(product_id));
        call.arg(incarnation).invoke_async(connection).await
    }

    /// Begins the sale of so many units; false as above.
    pub(crate) async fn open(
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
    pub(crate) async fn follow(
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
    pub(crate) async fn fill(
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
    pub(crate) async fn fill_keys(
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
    pub(crate) async fn given_back(
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
    pub(crate) async fn ends(
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
    pub(crate) async fn recorded(
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
