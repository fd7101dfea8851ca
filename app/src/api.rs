//! The API: routes, handlers, their documentation, live stock and the pages.

mod admin;
mod audit;
mod auth;
mod buyers;
mod cors;
mod coupons;
mod document;
mod event_sinks;
mod events;
mod extract;
pub(crate) mod feed;
mod listing;
mod managed_orders;
mod order_view;
mod orders;
mod page;
mod payments;
mod price_view;
pub(crate) mod probes;
mod problems;
mod products;
mod purchases;
pub(crate) mod router;
pub(crate) mod state;
mod stocks;
mod waitlist;

pub use cors::AllowedOrigins;
pub use feed::ListenersConfig;
pub use router::openapi;
