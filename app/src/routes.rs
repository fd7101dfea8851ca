//! The handlers: the shape of HTTP only.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod coupons;
pub(crate) mod events;
pub(crate) mod orders;
pub(crate) mod page;
pub(crate) mod probes;
pub(crate) mod products;
pub(crate) mod purchases;
pub(crate) mod stocks;
