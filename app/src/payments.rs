//! Payments as payment services report them: signed events, delivered at least once and in any order.
//!
//! A `PaymentProvider` knows the signature and the events of one service, and no order. [`Payments`] knows
//! orders, and no service. Neither knows HTTP beyond the headers of a request.

mod error;
mod provider;
mod secrets;
mod service;
mod stripe;

pub use self::error::{PaymentError, SecretsError};
pub use self::service::{Outcome, Payments, Received};
pub use self::stripe::Stripe;
