//! Prices as answers show them.

use ledger::Price;
use serde::Serialize;
use utoipa::ToSchema;

/// The price of a unit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceView {
    /// In the smallest unit of the currency.
    #[schema(example = 49_900)]
    amount: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    currency: &'static str,
    /// Decimal places of the currency: an `amount` of 49900 with 2 is 499.00.
    #[schema(example = 2)]
    decimals: u32,
}

impl From<Price> for PriceView {
    fn from(Price { amount, currency }: Price) -> Self {
        Self { amount, currency: currency.code(), decimals: currency.decimals() }
    }
}
