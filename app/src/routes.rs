//! The handlers: the shape of HTTP only.

pub(crate) mod auth;
pub(crate) mod probes;
pub(crate) mod products;
pub(crate) mod purchases;
