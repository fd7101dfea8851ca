//! Buyers who wait for units of a product that is sold out while unpaid orders hold some of it.
//!
//! Who waits first is served first, in the transaction that gives units back: nobody else sees them
//! (`orders/settle.rs`).

use crate::calls::{COUNT_TIMEOUT, bounded, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::limit_key::units_of_person;
use crate::postgres::PostgresLedger;
use crate::sql::kept;
use crate::sqlite::SqliteLedger;

/// The most buyers who may wait for a product; with less stock, as many as there are units.
pub const LONGEST: i64 = 10_000;

/// A buyer who wants to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWaiter {
    /// The product.
    pub product_id: String,
    /// Who waits.
    pub buyer: String,
    /// Units.
    pub quantity: i64,
    /// How long the order holds the units that will serve the buyer.
    pub hold_ms: i64,
    /// The person for whose limit the order will count: see [`crate::LimitBy::key`].
    pub limit_key: Option<String>,
}

/// Where a buyer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct WaitPlace {
    /// 1: the next.
    pub position: i64,
    /// Units that the buyer waits for.
    pub quantity: i64,
    /// Buyers who wait for the product.
    pub waiting: i64,
}

/// Who waits for a product.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct WaitCounts {
    /// The product.
    pub product_id: String,
    /// Buyers who wait.
    pub waiting: i64,
    /// Those of them who wait for no more units than are left.
    pub servable: i64,
}

/// What came of the wish to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The buyer waits.
    Waits(WaitPlace),
    /// The buyer waited before, perhaps for another number of units.
    WaitedBefore(WaitPlace),
    /// The buyer waited, and was served meanwhile.
    Served,
    /// There are enough units: they can be bought.
    UnitsLeft,
    /// No unpaid order holds units of the product, or the sale has fewer units than the buyer wants: as many will not
    /// come back.
    NothingHeld,
    /// The buyer would have more than the product allows.
    LimitReached,
    /// As many wait as may.
    Full,
    /// There is no such product.
    UnknownProduct,
}

/// All that decides whether a buyer may wait.
#[derive(sqlx::FromRow)]
struct Demand {
    available: i64,
    declared: i64,
    max_per_buyer: Option<i64>,
    waiting: i64,
    bought: i64,
    /// By the person for whom the limit key stands.
    bought_by_person: i64,
    is_held: bool,
    waits: bool,
}

impl Demand {
    /// Why the buyer may not wait.
    fn refusal(&self, quantity: i64) -> Option<Joined> {
        let limit = self.max_per_buyer.unwrap_or(i64::MAX);
        if self.bought.max(self.bought_by_person).saturating_add(quantity) > limit {
            Some(Joined::LimitReached)
        } else if self.available >= quantity {
            Some(Joined::UnitsLeft)
        } else if !self.is_held || quantity > self.declared {
            Some(Joined::NothingHeld)
        } else if self.waiting >= LONGEST.min(self.declared) {
            Some(Joined::Full)
        } else {
            None
        }
    }
}

/// CROSS JOIN: SQLite would read all orders of other plans. `$1` is the product, `$2` the buyer, `$3` the limit key.
pub(crate) const DEMAND: &str = concat!(
    "SELECT available, declared, max_per_buyer, \
     (SELECT count(*) FROM waitlist w WHERE w.product_id = $1) AS waiting, \
     (SELECT CAST(coalesce(sum(quantity), 0) AS BIGINT) FROM orders o \
      WHERE o.buyer = $2 AND o.product_id = $1 AND ",
    kept!(),
    ") AS bought, \
     (SELECT CAST(coalesce(sum(units), 0) AS BIGINT) FROM (",
    units_of_person!("$3", "$1"),
    ") of_person) AS bought_by_person, \
     EXISTS (SELECT 1 FROM orders h WHERE h.product_id = $1 AND h.state = 'pending' \
             AND h.expires_at_ms > 0) AS is_held, \
     EXISTS (SELECT 1 FROM waitlist w WHERE w.product_id = $1 AND w.buyer = $2) AS waits \
     FROM stock JOIN products ON id = product_id WHERE product_id = $1 AND deleted_at IS NULL"
);

const JOIN: &str = "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms, limit_key) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (product_id, buyer) DO NOTHING";

const PLACE: &str = "SELECT w.quantity, (SELECT count(*) FROM waitlist o \
     WHERE o.product_id = w.product_id AND o.place <= w.place) AS position, \
     (SELECT count(*) FROM waitlist o WHERE o.product_id = w.product_id) AS waiting \
     FROM waitlist w WHERE w.product_id = $1 AND w.buyer = $2";

const LEAVE: &str = "DELETE FROM waitlist WHERE product_id = $1 AND buyer = $2";

/// Products of which units are on sale although somebody waits for as many.
const DUE: &str = "SELECT product_id FROM stock s WHERE available > 0 AND deleted_at IS NULL \
     AND EXISTS (SELECT 1 FROM waitlist w WHERE w.product_id = s.product_id AND w.quantity <= s.available) \
     ORDER BY product_id";

const COUNTS: &str = "SELECT w.product_id, count(*) AS waiting, \
     count(CASE WHEN w.quantity <= s.available THEN 1 END) AS servable \
     FROM waitlist w JOIN stock s ON s.product_id = w.product_id GROUP BY w.product_id";

impl Ledger {
    /// Puts a buyer at the end of the list, unless the buyer waits already or may not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn join_waitlist(&self, waiter: &NewWaiter) -> Result<Joined, LedgerError> {
        bounded_by(COUNT_TIMEOUT, async { either!(self, ledger => ledger.join_waitlist(waiter)) })
            .await
    }

    /// Where a buyer waits for a product.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waitlist_place(
        &self,
        product_id: &str,
        buyer: &str,
    ) -> Result<Option<WaitPlace>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.waitlist_place(product_id, buyer)) }).await
    }

    /// Takes a buyer off the list. False: the buyer did not wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave_waitlist(&self, product_id: &str, buyer: &str) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.leave_waitlist(product_id, buyer)) }).await
    }

    /// Products of which units are on sale although somebody waits for as many, such as after a restock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_waitlists(&self) -> Result<Vec<String>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.due_waitlists()) }).await
    }

    /// How many buyers wait, by product. A product for which nobody waits is not in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waitlist_counts(&self) -> Result<Vec<WaitCounts>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.waitlist_counts()) }).await
    }
}

/// One text for two databases.
macro_rules! on {
    ($ledger:ty, $read:ident, $write:ident) => {
        impl $ledger {
            async fn join_waitlist(&self, waiter: &NewWaiter) -> Result<Joined, LedgerError> {
                let NewWaiter { product_id, buyer, quantity, hold_ms, limit_key } = waiter;
                let demand = sqlx::query_as(DEMAND).bind(product_id).bind(buyer).bind(limit_key);
                let demand: Option<Demand> = demand.fetch_optional(&self.$read).await?;
                let Some(demand) = demand else { return Ok(Joined::UnknownProduct) };
                let mut joined = false;
                if !demand.waits {
                    if let Some(refusal) = demand.refusal(*quantity) {
                        return Ok(refusal);
                    }
                    let join = sqlx::query(JOIN).bind(product_id).bind(buyer);
                    let join = join.bind(quantity).bind(hold_ms).bind(limit_key);
                    let done = join.execute(&self.$write).await?;
                    joined = done.rows_affected() == 1;
                }
                Ok(match self.waitlist_place(product_id, buyer).await? {
                    None => Joined::Served,
                    Some(place) if joined => Joined::Waits(place),
                    Some(place) => Joined::WaitedBefore(place),
                })
            }

            async fn waitlist_place(
                &self,
                product_id: &str,
                buyer: &str,
            ) -> Result<Option<WaitPlace>, LedgerError> {
                let place = sqlx::query_as(PLACE).bind(product_id).bind(buyer);
                Ok(place.fetch_optional(&self.$read).await?)
            }

            async fn leave_waitlist(
                &self,
                product_id: &str,
                buyer: &str,
            ) -> Result<bool, LedgerError> {
                let leave = sqlx::query(LEAVE).bind(product_id).bind(buyer);
                Ok(leave.execute(&self.$write).await?.rows_affected() == 1)
            }

            async fn due_waitlists(&self) -> Result<Vec<String>, LedgerError> {
                Ok(sqlx::query_scalar(DUE).fetch_all(&self.$read).await?)
            }

            async fn waitlist_counts(&self) -> Result<Vec<WaitCounts>, LedgerError> {
                Ok(sqlx::query_as(COUNTS).fetch_all(&self.$read).await?)
            }
        }
    };
}

on!(PostgresLedger, pool, pool);
on!(SqliteLedger, readers, writer);

#[cfg(test)]
mod tests {
    use testkit::Postgres;

    use super::*;
    use crate::ProductDeclaration;

    fn demand() -> Demand {
        Demand {
            available: 0,
            declared: 5,
            max_per_buyer: Some(2),
            waiting: 0,
            bought: 0,
            bought_by_person: 0,
            is_held: true,
            waits: false,
        }
    }

    #[test]
    fn a_buyer_waits_only_for_units_that_may_come_and_that_the_buyer_may_have() {
        assert_eq!(demand().refusal(2), None);
        let changed = |change: fn(&mut Demand)| {
            let mut demand = demand();
            change(&mut demand);
            demand.refusal(1)
        };
        assert_eq!(demand().refusal(3), Some(Joined::LimitReached));
        assert_eq!(changed(|demand| demand.bought = 2), Some(Joined::LimitReached));
        assert_eq!(changed(|demand| demand.bought_by_person = 2), Some(Joined::LimitReached));
        assert_eq!(changed(|demand| demand.available = 1), Some(Joined::UnitsLeft));
        assert_eq!(changed(|demand| demand.is_held = false), Some(Joined::NothingHeld));
        assert_eq!(changed(|demand| demand.declared = 0), Some(Joined::NothingHeld));
        assert_eq!(changed(|demand| demand.waiting = 5), Some(Joined::Full));
        let many = |demand: &mut Demand| (demand.declared, demand.waiting) = (1_000_000, LONGEST);
        assert_eq!(changed(many), Some(Joined::Full));
    }

    #[tokio::test]
    async fn counted_are_all_who_wait_and_those_for_whom_enough_is_left() {
        const WAIT: &str = "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
             VALUES ('1', 'ann', 4, 1), ('1', 'bob', 3, 1), ('1', 'dan', 1, 1)";
        let server = Postgres::shared().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("sale.db").display());
        for url in [server.new_database().unwrap(), file] {
            let ledger = Ledger::connect_lazy(&url, 2).unwrap();
            ledger.migrate().await.unwrap();
            assert!(ledger.waitlist_counts().await.unwrap().is_empty());
            let product = serde_json::json!({"id": "1", "name": "Console", "stock": 3});
            let product: ProductDeclaration = serde_json::from_value(product).unwrap();
            ledger.declare(&product, 1).await.unwrap();
            match &ledger {
                Ledger::Postgres(it) => {
                    sqlx::raw_sql(WAIT).execute(&it.pool).await.unwrap();
                }
                Ledger::Sqlite(it) => {
                    sqlx::raw_sql(WAIT).execute(&it.writer).await.unwrap();
                }
            }
            let counts = WaitCounts { product_id: "1".to_owned(), waiting: 3, servable: 2 };
            assert_eq!(ledger.waitlist_counts().await.unwrap(), [counts]);
        }
    }
}
