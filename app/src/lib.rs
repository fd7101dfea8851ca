//! The purchase API of a flash sale.
//!
//! [`router`] shows every route; [`sale`] decides who gets what, under the lock and in the
//! [`ledger`]; [`config`] is the only place that reads the environment.

pub mod auth;
mod batch_loader;
pub mod bounds;
pub mod config;
pub mod coupons;
pub mod error;
pub mod feed;
mod json;
pub mod ledger;
pub mod metrics;
mod places;
pub mod router;
mod routes;
pub mod sale;
pub mod seed;
pub mod serve;
pub mod state;
pub mod stores;
mod upkeep;
