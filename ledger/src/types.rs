//! What the ledger holds: accounts, products, purchases and the orders they lead to.

use std::collections::HashSet;

use uuid::Uuid;

use crate::money::Price;

/// An account, made by a sign-up or by seeding.
// No `Debug`: it holds a password's hash.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Account {
    /// The name it was signed up with.
    pub id: String,
    /// In PHC format.
    pub password_hash: String,
    /// `buyer` or `admin`.
    pub role: String,
}

/// A product and the state of its stock.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Product {
    /// Names the product in the API and in Redis.
    pub id: String,
    /// For people.
    pub name: String,
    /// Units one buyer may have in all.
    pub max_per_buyer: Option<i64>,
    /// Overrides the sale's own wait timeout.
    pub wait_timeout_ms: Option<i64>,
    /// Overrides the sale's own lease time.
    pub lease_time_ms: Option<i64>,
    /// Overrides how long an order of the sale holds its units until it is paid.
    pub hold_seconds: Option<i64>,
    /// The price of a unit, in the smallest unit of the currency.
    pub price: Option<i64>,
    /// The code of its currency.
    pub currency: Option<String>,
    /// Units the sale was given in all.
    pub declared: i64,
    /// Units left.
    pub available: i64,
    /// The highest fencing token that changed the stock.
    pub fence: i64,
}

impl Product {
    /// The price of a unit.
    #[must_use]
    pub fn unit_price(&self) -> Option<Price> {
        Price::of_columns(self.price, self.currency.as_deref())
    }
}

/// A buyer, and the person for whose limit counts what the buyer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The buyer.
    pub buyer: String,
    /// Stands for the person: see [`crate::LimitBy::key`]. `None`: it counts for the buyer's account alone.
    pub limit_key: Option<String>,
}

impl Applicant {
    /// A buyer for whose account alone it counts.
    #[must_use]
    pub fn account(buyer: &str) -> Self {
        Self { buyer: buyer.to_owned(), limit_key: None }
    }
}

/// A purchase that asks for a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Who buys.
    pub buyer: String,
    /// How many units.
    pub quantity: i64,
    /// The same key of the same buyer is the same purchase.
    pub idempotency_key: Option<String>,
    /// The person for whose limit it counts: see [`crate::LimitBy::key`]. `None`: it counts for the buyer alone.
    pub limit_key: Option<String>,
}

impl Purchase {
    /// The order that this purchase becomes.
    pub(crate) fn order(&self, product_id: &str) -> Order {
        Order {
            id: Uuid::now_v7(),
            product_id: product_id.to_owned(),
            buyer: self.buyer.clone(),
            quantity: self.quantity,
            idempotency_key: self.idempotency_key.clone(),
            lines: 1,
            unit_price: None,
            limit_key: self.limit_key.clone(),
        }
    }
}

/// An order as the statements have it: the columns of `sql::keyed_columns`.
pub(crate) type OrderRow<Id> =
    (Id, String, String, i64, Option<String>, i64, Option<i64>, Option<String>);

/// Units sold, committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// In order of time.
    pub id: Uuid,
    /// What was bought.
    pub product_id: String,
    /// Who bought.
    pub buyer: String,
    /// How many units.
    pub quantity: i64,
    /// The key the purchase came with.
    pub idempotency_key: Option<String>,
    /// Number of products of the order; a purchase has one.
    pub lines: i64,
    /// The price of a unit at the moment of the sale; `None`: it had none, or it is not known.
    pub unit_price: Option<Price>,
    /// See [`Purchase::limit_key`]; `None` also where an order of before was looked up.
    pub limit_key: Option<String>,
}

impl Order {
    pub(crate) fn of_row<Id: Into<Uuid>>(row: OrderRow<Id>) -> Self {
        let (id, product_id, buyer, quantity, idempotency_key, lines, price, currency) = row;
        let unit_price = Price::of_columns(price, currency.as_deref());
        let (id, limit_key) = (id.into(), None);
        Self { id, product_id, buyer, quantity, idempotency_key, lines, unit_price, limit_key }
    }

    /// What all units cost.
    #[must_use]
    pub fn amount(&self) -> Option<Price> {
        Some(self.unit_price?.of_units(self.quantity))
    }
}

/// The decision on a purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Sold now.
    Sold(Order),
    /// Sold before, under the same idempotency key.
    Replayed(Order),
    /// The key was used before for another product or quantity.
    KeyReused,
    /// Fewer units are left than were asked for.
    SoldOut,
    /// The buyer would have more than the product allows.
    LimitReached,
}

impl Outcome {
    /// The outcome of a purchase whose key already belongs to `order`.
    #[must_use]
    pub fn of_existing(order: Order, product_id: &str, quantity: i64) -> Self {
        if (order.product_id.as_str(), order.quantity, order.lines) == (product_id, quantity, 1) {
            Self::Replayed(order)
        } else {
            Self::KeyReused
        }
    }

    /// Gives the orders that were sold now the price of a unit, also where their keys were repeated.
    pub(crate) fn set_price(outcomes: &mut [Self], price: Option<Price>) {
        let sold = |outcome: &Self| match outcome {
            Self::Sold(order) => Some(order.id),
            _ => None,
        };
        let sold: HashSet<Uuid> = outcomes.iter().filter_map(sold).collect();
        for outcome in outcomes {
            match outcome {
                Self::Sold(order) | Self::Replayed(order) if sold.contains(&order.id) => {
                    order.unit_price = price;
                }
                _ => {}
            }
        }
    }
}

/// What one transaction decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// One for each purchase, in their order.
    pub outcomes: Vec<Outcome>,
    /// Units left after it.
    pub available: i64,
    /// Whether the product's fence is the demand's token now. Otherwise nothing was written, because nothing was granted.
    pub fenced: bool,
}
