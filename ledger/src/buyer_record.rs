//! Everything that the ledger holds about a buyer, beside the audit log.

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::calls::{COUNT_TIMEOUT, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::orders::PlacedOrder;
use crate::payments::PaymentEvent;
use crate::postgres::PostgresLedger;
use crate::sql::shown_state;
use crate::sqlite::SqliteLedger;

/// What is held about a buyer.
#[derive(Debug, Clone, Default)]
pub struct BuyerRecord {
    /// Id, role and time of creation of the account.
    pub account: Option<(String, String, String)>,
    /// Newest first.
    pub orders: Vec<PlacedOrder>,
    /// What was reported of payments of these orders, oldest first.
    pub payment_events: Vec<PaymentEvent>,
    /// Coupon and issue.
    pub coupons: Vec<(String, Uuid)>,
    /// Products that the buyer waits for, with the units.
    pub waits: Vec<(String, i64)>,
    /// Limit keys that orders, coupons and the waiting list have of the buyer.
    pub limit_keys: Vec<String>,
    /// Of earlier sales.
    pub past_order_lines: Vec<PastOrderLine>,
    /// Of earlier sales: sale and coupon.
    pub past_coupons: Vec<(String, String)>,
}

/// A product of an order of an earlier sale.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PastOrderLine {
    /// The sale.
    pub sale: String,
    /// The order.
    pub order_id: String,
    /// The product.
    pub product_id: String,
    /// Units.
    pub quantity: i64,
    /// Where the order stood.
    pub shown_state: String,
    /// The price of a unit, in the smallest unit of the currency; 0 or `None`: none.
    pub unit_price: Option<i64>,
    /// The code of its currency.
    pub currency: Option<String>,
}

const ACCOUNT: &str = "SELECT id, role, CAST(created_at AS TEXT) FROM accounts WHERE id = $1";

const COUPONS: &str = "SELECT coupon_id, id FROM coupon_issues \
     WHERE coupon_id IN (SELECT id FROM coupons) AND buyer = $1 ORDER BY coupon_id";

const WAITS: &str =
    "SELECT product_id, quantity FROM waitlist WHERE buyer = $1 ORDER BY product_id";

const LIMIT_KEYS: &str = "SELECT limit_key FROM orders WHERE buyer = $1 AND limit_key IS NOT NULL \
     UNION SELECT limit_key FROM waitlist WHERE buyer = $1 AND limit_key IS NOT NULL \
     UNION SELECT limit_key FROM coupon_issues WHERE coupon_id IN (SELECT id FROM coupons) AND buyer = $1 \
     AND limit_key IS NOT NULL ORDER BY 1";

const PAST_LINES: &str = concat!(
    "SELECT sale, CAST(id AS TEXT) AS order_id, product_id, quantity, ",
    shown_state!(),
    " AS shown_state, unit_price, currency FROM past_orders WHERE buyer = $1 ORDER BY id, line"
);

const PAST_COUPONS: &str =
    "SELECT sale, coupon_id FROM past_coupon_issues WHERE buyer = $1 ORDER BY sale, coupon_id";

impl BuyerRecord {
    fn is_empty(&self) -> bool {
        self.account.is_none()
            && self.orders.is_empty()
            && self.coupons.is_empty()
            && self.waits.is_empty()
            && self.past_order_lines.is_empty()
            && self.past_coupons.is_empty()
    }
}

impl Ledger {
    /// What is held about a buyer; `None`: nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn buyer_record(&self, buyer: &str) -> Result<Option<BuyerRecord>, LedgerError> {
        let read = async { either!(self, ledger => ledger.buyer_record(buyer)) };
        let record = bounded_by(COUNT_TIMEOUT, read).await?;
        Ok((!record.is_empty()).then_some(record))
    }
}

impl PostgresLedger {
    async fn buyer_record(&self, buyer: &str) -> Result<BuyerRecord, LedgerError> {
        let pool = &self.pool;
        Ok(BuyerRecord {
            account: sqlx::query_as(ACCOUNT).bind(buyer).fetch_optional(pool).await?,
            orders: self.placed_by(buyer, None, i64::MAX).await?,
            payment_events: self.payment_events_of(buyer).await?,
            coupons: sqlx::query_as(COUPONS).bind(buyer).fetch_all(pool).await?,
            waits: sqlx::query_as(WAITS).bind(buyer).fetch_all(pool).await?,
            limit_keys: sqlx::query_scalar(LIMIT_KEYS).bind(buyer).fetch_all(pool).await?,
            past_order_lines: sqlx::query_as(PAST_LINES).bind(buyer).fetch_all(pool).await?,
            past_coupons: sqlx::query_as(PAST_COUPONS).bind(buyer).fetch_all(pool).await?,
        })
    }
}

impl SqliteLedger {
    async fn buyer_record(&self, buyer: &str) -> Result<BuyerRecord, LedgerError> {
        let pool = &self.readers;
        let coupons: Vec<(String, Hyphenated)> =
            sqlx::query_as(COUPONS).bind(buyer).fetch_all(pool).await?;
        Ok(BuyerRecord {
            account: sqlx::query_as(ACCOUNT).bind(buyer).fetch_optional(pool).await?,
            orders: self.placed_by(buyer, None, i64::MAX).await?,
            payment_events: self.payment_events_of(buyer).await?,
            coupons: coupons.into_iter().map(|(coupon, id)| (coupon, id.into_uuid())).collect(),
            waits: sqlx::query_as(WAITS).bind(buyer).fetch_all(pool).await?,
            limit_keys: sqlx::query_scalar(LIMIT_KEYS).bind(buyer).fetch_all(pool).await?,
            past_order_lines: sqlx::query_as(PAST_LINES).bind(buyer).fetch_all(pool).await?,
            past_coupons: sqlx::query_as(PAST_COUPONS).bind(buyer).fetch_all(pool).await?,
        })
    }
}
