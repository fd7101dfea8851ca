//! Changes of products by operators and administrators: the decision as a pure function, and its
//! transaction, which is the same in both databases.

use serde_json::json;
use sqlx::{PgConnection, SqliteConnection};

use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;
use crate::money::DeclaredPrice;
use crate::sql;
use crate::types::Product;

/// A change of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductChange {
    /// The operator declares it: made, or its terms taken over and its stock raised to what is
    /// declared. What administrators added comes on top.
    Declare(ProductDeclaration),
    /// An administrator makes it, perhaps again after it was deleted.
    Create(ProductDeclaration),
    /// An administrator changes everything but its stock.
    Revise(ProductTerms),
    /// An administrator adds units.
    Restock {
        /// The product.
        id: String,
        /// How many.
        add: i64,
        /// The units given in all so far, so that a repeated request adds nothing.
        from: Option<i64>,
    },
    /// An administrator takes it off the sale; its orders stay.
    Delete {
        /// The product.
        id: String,
    },
}

/// A product as an operator declares it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductDeclaration {
    /// See [`Product::id`].
    pub id: String,
    /// See [`Product::name`].
    pub name: String,
    /// Units the sale is given in all.
    pub stock: i64,
    /// See [`Product::max_per_buyer`].
    #[serde(default)]
    pub max_per_buyer: Option<i64>,
    /// See [`Product::wait_timeout_ms`].
    #[serde(default)]
    pub wait_timeout_ms: Option<i64>,
    /// See [`Product::lease_time_ms`].
    #[serde(default)]
    pub lease_time_ms: Option<i64>,
    /// See [`Product::hold_seconds`].
    #[serde(default)]
    pub hold_seconds: Option<i64>,
    /// The price of a unit.
    #[serde(default)]
    pub price: Option<DeclaredPrice>,
}

impl ProductDeclaration {
    /// All of it but the stock.
    #[must_use]
    pub fn terms(&self) -> ProductTerms {
        ProductTerms {
            id: self.id.clone(),
            name: self.name.clone(),
            max_per_buyer: self.max_per_buyer,
            wait_timeout_ms: self.wait_timeout_ms,
            lease_time_ms: self.lease_time_ms,
            hold_seconds: self.hold_seconds,
            price: self.price.clone(),
        }
    }
}

/// A product's fields except its stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductTerms {
    /// See [`Product::id`].
    pub id: String,
    /// See [`Product::name`].
    pub name: String,
    /// See [`Product::max_per_buyer`].
    pub max_per_buyer: Option<i64>,
    /// See [`Product::wait_timeout_ms`].
    pub wait_timeout_ms: Option<i64>,
    /// See [`Product::lease_time_ms`].
    pub lease_time_ms: Option<i64>,
    /// See [`Product::hold_seconds`].
    pub hold_seconds: Option<i64>,
    /// The price of a unit.
    pub price: Option<DeclaredPrice>,
}

/// A product's row under its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
struct StockRow {
    declared: i64,
    restocked: i64,
    available: i64,
    deleted: bool,
}

impl ProductChange {
    /// The product that is changed.
    #[must_use]
    pub fn product_id(&self) -> &str {
        match self {
            Self::Declare(product) | Self::Create(product) => &product.id,
            Self::Revise(terms) => &terms.id,
            Self::Restock { id, .. } | Self::Delete { id } => id,
        }
    }

    /// The row after the change; `fresh`: this transaction inserted it.
    fn decide(&self, fresh: bool, mut row: StockRow) -> Result<StockRow, LedgerError> {
        let id = || self.product_id().to_owned();
        match self {
            Self::Declare(_) if row.deleted => return Err(LedgerError::ProductDeleted(id())),
            Self::Create(_) if !fresh && !row.deleted => {
                return Err(LedgerError::ProductExists(id()));
            }
            Self::Revise(_) | Self::Restock { .. } | Self::Delete { .. } if row.deleted => {
                return Err(LedgerError::UnknownProduct(id()));
            }
            Self::Declare(product) => {
                let declared = row.declared - row.restocked;
                if product.stock < declared {
                    let asked = product.stock;
                    return Err(LedgerError::StockLowered { product: id(), declared, asked });
                }
                row.declared += product.stock - declared;
                row.available += product.stock - declared;
            }
            Self::Create(product) => {
                // Units sold before the deletion stay sold, and what the operator declared stays
                // declared: units beyond that are the administrator's.
                let by_operator = row.declared - row.restocked;
                row.declared = row.declared - row.available + product.stock;
                row.available = product.stock;
                row.restocked = if fresh { 0 } else { (row.declared - by_operator).max(0) };
                row.deleted = false;
            }
            Self::Restock { add, from, .. } => {
                if from.is_some_and(|from| from != row.declared) {
                    return Err(LedgerError::StockChanged { product: id(), stock: row.declared });
                }
                row.declared = row.declared.saturating_add(*add);
                row.restocked = row.restocked.saturating_add(*add);
                row.available = row.available.saturating_add(*add);
            }
            Self::Revise(_) => {}
            Self::Delete { .. } => row.deleted = true,
        }
        Ok(row)
    }
}

/// Amount and currency of a price.
fn columns(price: Option<&DeclaredPrice>) -> (Option<i64>, Option<&str>) {
    price.map(|price| (price.amount, price.currency.as_str())).unzip()
}

/// What the audit log has of a change. `None`: nobody did it, the operator declared it.
fn audit_entry(actor: &str, change: &ProductChange) -> Option<AuditEntry> {
    let (action, detail) = match change {
        ProductChange::Declare(_) => return None,
        ProductChange::Create(product) => {
            let ProductDeclaration { name, stock, max_per_buyer, price, .. } = product;
            let (price, currency) = columns(price.as_ref());
            let detail = json!({"name": name, "stock": stock, "max_per_buyer": max_per_buyer,
                "price": price, "currency": currency});
            ("create_product", Some(detail))
        }
        ProductChange::Revise(terms) => {
            let ProductTerms {
                id: _,
                name,
                max_per_buyer,
                wait_timeout_ms,
                lease_time_ms,
                hold_seconds,
                price,
            } = terms;
            let (price, currency) = columns(price.as_ref());
            let detail = json!({"name": name, "max_per_buyer": max_per_buyer,
                "wait_timeout_ms": wait_timeout_ms, "lease_time_ms": lease_time_ms,
                "hold_seconds": hold_seconds, "price": price, "currency": currency});
            ("revise_product", Some(detail))
        }
        ProductChange::Restock { add, from, .. } => {
            ("restock_product", Some(json!({"add": add, "from": from})))
        }
        ProductChange::Delete { .. } => ("delete_product", None),
    };
    Some(AuditEntry::new(actor, action, change.product_id(), detail))
}

/// One text for two types of connection: sqlx has no common one that can run a transaction.
macro_rules! apply {
    ($name:ident, $connection:ty) => {
        /// Decides and writes a change within a transaction, which the caller commits. Returns the
        /// product; `None` when it is deleted. The actor is the administrator who does it.
        pub(crate) async fn $name(
            connection: &mut $connection,
            change: &ProductChange,
            token: i64,
            actor: Option<&str>,
        ) -> Result<Option<Product>, LedgerError> {
            let id = change.product_id();
            let mut fresh = false;
            if let ProductChange::Declare(product) | ProductChange::Create(product) = change {
                sqlx::query(sql::DECLARE_PRODUCT)
                    .bind(&product.id)
                    .bind(&product.name)
                    .bind(product.max_per_buyer)
                    .bind(product.wait_timeout_ms)
                    .bind(product.lease_time_ms)
                    .bind(product.hold_seconds)
                    .bind(columns(product.price.as_ref()).0)
                    .bind(columns(product.price.as_ref()).1)
                    .execute(&mut *connection)
                    .await?;
                let made = sqlx::query(sql::CREATE_STOCK).bind(id).execute(&mut *connection);
                fresh = made.await?.rows_affected() == 1;
            }
            // Installs the token, before anything is read.
            let row: Option<StockRow> = sqlx::query_as(sql::FENCE_TO_CHANGE)
                .bind(id)
                .bind(token)
                .fetch_optional(&mut *connection)
                .await?;
            let Some(row) = row else {
                let seen = sqlx::query_scalar(sql::FENCE_OF_ANY)
                    .bind(id)
                    .fetch_optional(&mut *connection)
                    .await?;
                return Err(LedgerError::refused(id, token, seen));
            };
            let row = change.decide(fresh, row)?;
            if let ProductChange::Revise(terms) = change {
                sqlx::query(sql::REVISE_PRODUCT)
                    .bind(id)
                    .bind(&terms.name)
                    .bind(terms.max_per_buyer)
                    .bind(terms.wait_timeout_ms)
                    .bind(terms.lease_time_ms)
                    .bind(terms.hold_seconds)
                    .bind(columns(terms.price.as_ref()).0)
                    .bind(columns(terms.price.as_ref()).1)
                    .execute(&mut *connection)
                    .await?;
            }
            sqlx::query(sql::SET_STOCK)
                .bind(id)
                .bind(row.declared)
                .bind(row.restocked)
                .bind(row.available)
                .bind(row.deleted)
                .execute(&mut *connection)
                .await?;
            if let Some(entry) = actor.and_then(|actor| audit_entry(actor, change)) {
                connection.record(&entry).await?;
            }
            Ok(sqlx::query_as(sql::PRODUCT).bind(id).fetch_optional(connection).await?)
        }
    };
}

apply!(on_postgres, PgConnection);
apply!(on_sqlite, SqliteConnection);

#[cfg(test)]
mod tests {
    use super::*;

    fn row(declared: i64, restocked: i64, available: i64) -> StockRow {
        StockRow { declared, restocked, available, deleted: false }
    }

    fn product(stock: i64) -> ProductDeclaration {
        let (id, name) = ("1".to_owned(), "Console".to_owned());
        ProductDeclaration {
            id,
            name,
            stock,
            max_per_buyer: None,
            wait_timeout_ms: None,
            lease_time_ms: None,
            hold_seconds: None,
            price: None,
        }
    }

    fn restock(add: i64, from: Option<i64>) -> ProductChange {
        ProductChange::Restock { id: "1".to_owned(), add, from }
    }

    #[test]
    fn a_declaration_and_restocks_add_up_and_a_repeated_declaration_adds_nothing() {
        let declare = |stock| ProductChange::Declare(product(stock));
        let declared = declare(100).decide(true, row(0, 0, 0)).unwrap();
        assert_eq!(declared, row(100, 0, 100));
        let restocked = restock(50, None).decide(false, row(100, 0, 10)).unwrap();
        assert_eq!(restocked, row(150, 50, 60));
        assert_eq!(declare(100).decide(false, restocked).unwrap(), restocked);
        assert_eq!(declare(120).decide(false, restocked).unwrap(), row(170, 50, 80));
        let lowered = declare(99).decide(false, restocked).unwrap_err();
        assert!(matches!(lowered, LedgerError::StockLowered { declared: 100, asked: 99, .. }));
    }

    #[test]
    fn a_repeated_restock_adds_nothing() {
        let row = row(150, 50, 60);
        let again = restock(50, Some(100)).decide(false, row).unwrap_err();
        assert!(matches!(again, LedgerError::StockChanged { stock: 150, .. }));
        assert_eq!(restock(50, Some(150)).decide(false, row).unwrap().declared, 200);
    }

    #[test]
    fn a_deleted_product_is_unknown_until_an_administrator_makes_it_again() {
        let delete = ProductChange::Delete { id: "1".to_owned() };
        let deleted = delete.decide(false, row(100, 20, 30)).unwrap();
        for change in [delete, restock(1, None)] {
            let error = change.decide(false, deleted).unwrap_err();
            assert!(matches!(error, LedgerError::UnknownProduct(_)), "{error}");
        }
        let error = ProductChange::Declare(product(100)).decide(false, deleted).unwrap_err();
        assert!(matches!(error, LedgerError::ProductDeleted(_)), "{error}");
        let create = ProductChange::Create(product(5));
        assert_eq!(create.decide(false, deleted).unwrap(), row(75, 0, 5));
        assert_eq!(create.decide(true, row(0, 0, 0)).unwrap(), row(5, 0, 5));
        let error = create.decide(false, row(75, 0, 5)).unwrap_err();
        assert!(matches!(error, LedgerError::ProductExists(_)), "{error}");
    }

    #[test]
    fn a_product_that_is_made_again_with_more_units_can_still_be_declared() {
        // Of 100 declared units and 20 restocked ones 70 are sold.
        let deleted = StockRow { deleted: true, ..row(120, 20, 50) };
        let again = ProductChange::Create(product(60)).decide(false, deleted).unwrap();
        assert_eq!(again, row(130, 30, 60));
        let declare = |stock| ProductChange::Declare(product(stock));
        assert_eq!(declare(100).decide(false, again).unwrap(), again);
        assert_eq!(declare(110).decide(false, again).unwrap(), row(140, 30, 70));
    }
}
