//! The ledger: accounts, products, stock, orders and coupons in PostgreSQL or SQLite.
//!
//! It decides every sale, in one transaction, and is right without any lock: units are taken only
//! where they are left, and a transaction whose fencing token is not above all that came before is
//! refused. It knows no Redis and no HTTP.

mod allocation;
mod audit;
mod audit_entry;
mod buyer_record;
mod calls;
mod change;
pub mod coupons;
mod demand;
pub mod erasure;
mod error;
pub mod events;
mod follow;
mod identity;
mod installation;
mod lately;
mod ledger;
mod limit;
mod limit_key;
mod lookups;
mod money;
pub mod orders;
mod payments;
mod postgres;
mod sell;
mod sql;
mod sqlite;
#[cfg(test)]
mod testing;
mod transaction;
mod types;
pub mod waitlist;

pub use audit::AuditSearch;
pub use audit_entry::AuditEntry;
pub use buyer_record::{BuyerRecord, PastOrderLine};
pub use change::{ProductChange, ProductDeclaration, ProductTerms};
pub use demand::{Decided, Demand, undecided};
pub use error::{LedgerError, UnusableDatabase};
pub use follow::{DecidedOrder, Recorded, SoldFor, StockRow};
pub use installation::{ReleaseError, ReleaseOptions};
pub use lately::Lately;
pub use ledger::Ledger;
pub use limit_key::LimitBy;
pub use lookups::{KeyedOrder, KeysPage, UnitsPage};
pub use money::{Currency, DeclaredPrice, Price};
pub use payments::{PaymentEvent, PaymentSearch, PaymentTotals};
pub use sell::Step;
pub use types::{Account, Applicant, Decision, Order, Outcome, Product, Purchase};
