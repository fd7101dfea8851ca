//! The parts of the spec about money: prices, and the services that report payments.

use iso_currency::{Currency, IntoEnumIterator};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema::OBJECT_NAME;

/// Price of a unit. An order keeps the price that it was placed with.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Whole number of the currency's smallest unit: 49900 is 499.00 EUR, or 49900 JPY.
    #[schemars(range(min = 1, max = 100_000_000_000_i64))]
    pub amount: i64,
    /// Currency of ISO 4217 that is in use, such as `EUR`.
    #[schemars(schema_with = "currency")]
    pub currency: String,
}

/// The codes of currencies that money is paid in: no metals, funds, units of account and currencies of the past.
fn currencies() -> impl Iterator<Item = &'static str> {
    let is_paid_in = |currency: &Currency| {
        // The table of the library calls VES replaced; VED is the same money.
        let is_past = currency.is_superseded().is_some() && *currency != Currency::VES;
        !currency.is_special() && !currency.is_fund() && !is_past && currency.exponent().is_some()
    };
    Currency::iter().filter(is_paid_in).map(|currency| currency.code())
}

fn currency(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": currencies().collect::<Vec<_>>() })
}

/// Services that report payments to the sale by themselves.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Payments {
    /// Webhook of Stripe at `POST /v1/payments/stripe`. Absent: its events are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe: Option<StripePayments>,
}

/// Webhook of Stripe.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StripePayments {
    /// Secret with the signing secret of the webhook endpoint. A changed value is used within about two minutes, without
    /// a restart.
    pub secret_ref: StripeSecret,
}

/// Key of a Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StripeSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key whose value is the signing secret (`whsec_...`), or several while it is replaced, separated by blanks or line
    /// ends.
    #[serde(default = "StripeSecret::default_key")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\.?[-A-Za-z0-9_][-.A-Za-z0-9_]*)$")
    )]
    pub key: String,
}

impl StripeSecret {
    fn default_key() -> String {
        "webhook-secret".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_money_is_a_currency() {
        let all: Vec<&str> = currencies().collect();
        assert!(["EUR", "JPY", "KWD", "VES", "XAF"].iter().all(|code| all.contains(code)));
        assert!(!["XXX", "XTS", "XAU", "CLF", "HRK"].iter().any(|code| all.contains(code)));
    }
}
