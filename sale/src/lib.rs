//! The engine of a flash sale: it decides who gets which units.
//!
//! A caller submits a purchase to [`Sale`] and awaits the result. The sale checks its window and the
//! stock it knows of, then decides in a batch: under the lock and in the ledger (`locked`), or in one
//! Redis script that the ledger follows (`atomic`). It reports to an [`Observer`], and knows no HTTP,
//! no Prometheus and no environment.

mod atomic;
mod batch_loader;
mod batch_recorder;
mod batch_report;
pub mod bounds;
mod catalog;
mod change;
mod config;
mod coupons;
mod erasure;
mod erasure_error;
mod error;
mod holds;
mod known_keys;
mod locked;
mod observer;
mod orders;
mod purchase;
mod resource;
mod rules;
mod sale;
mod waitlist;
mod window;

pub use batch_report::{BatchKind, BatchReport, Origin, Step, StepKind};
pub use catalog::{Catalog, Listing};
pub use change::{ChangeError, change_product};
pub use config::{LockConfig, SaleConfig, SaleWindow, StoresConfig, Strategy};
pub use coupons::{CouponError, Coupons, IssueReceipt};
pub use erasure_error::ErasureError;
pub use error::PurchaseError;
pub use observer::{Drift, Job, Observer, ObserverPair};
pub use orders::{Caller, OrderError, OrderReceipt};
pub use purchase::Receipt;
pub use resource::stock_resource;
pub use rules::{
    LeaseBounds, RuleError, check_limit_claim, check_product, check_terms, check_units,
};
pub use sale::Sale;
pub use waitlist::{WaitReceipt, WaitlistError};
