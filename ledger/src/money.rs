//! Prices: whole numbers of the smallest unit of a currency of ISO 4217.

use std::fmt;

/// A currency that money is paid in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The currency of this code, in capital letters. `None`: there is none, or it is a metal, a fund, a unit of
    /// account or a currency of the past.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        let currency = iso_currency::Currency::from_code(code)?;
        // The table of the library calls VES replaced; VED is the same money.
        let is_past = currency.is_superseded().is_some() && currency != iso_currency::Currency::VES;
        let is_paid_in = !currency.is_special() && !currency.is_fund() && !is_past;
        (is_paid_in && currency.exponent().is_some()).then_some(Self(currency))
    }

    /// The code, such as `EUR`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Decimal places of an amount: 2 for `EUR`, 0 for `JPY`.
    #[must_use]
    pub fn decimals(self) -> u32 {
        u32::from(self.0.exponent().unwrap_or(0))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of money, or the price of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

impl Price {
    /// From the columns of a row; `None`: no price, or one that this version does not know.
    pub(crate) fn of_columns(amount: Option<i64>, currency: Option<&str>) -> Option<Self> {
        let currency = Currency::of(currency?)?;
        Some(Self { amount: amount.filter(|amount| *amount > 0)?, currency })
    }

    /// What as many units cost.
    #[must_use]
    pub fn of_units(self, quantity: i64) -> Self {
        Self { amount: self.amount.saturating_mul(quantity), ..self }
    }
}

/// The price of a unit as somebody declares it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredPrice {
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// A code of ISO 4217.
    pub currency: String,
}

/// The sum of these; `None`: there is none, or they are of several currencies.
pub(crate) fn sum(prices: impl Iterator<Item = Price>) -> Option<Price> {
    prices.map(Some).reduce(|sum, price| {
        let (sum, price) = (sum?, price?);
        (sum.currency == price.currency)
            .then(|| Price { amount: sum.amount.saturating_add(price.amount), ..sum })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_money_is_a_currency() {
        for (code, decimals) in [("EUR", 2), ("JPY", 0), ("KWD", 3), ("VES", 2), ("XAF", 0)] {
            let currency = Currency::of(code).unwrap();
            assert_eq!((currency.code(), currency.decimals()), (code, decimals));
        }
        for code in ["", "eur", "EURO", "XXX", "XTS", "XAU", "CLF", "HRK", "ZZZ", "E\u{440}R"] {
            assert_eq!(Currency::of(code), None, "{code}");
        }
    }

    #[test]
    fn a_sum_has_one_currency() {
        let price = |amount, code| Price { amount, currency: Currency::of(code).unwrap() };
        assert_eq!(sum([].into_iter()), None);
        let prices = [price(1, "EUR"), price(2, "EUR")];
        assert_eq!(sum(prices.into_iter()), Some(price(3, "EUR")));
        assert_eq!(sum([price(1, "EUR"), price(2, "USD"), price(1, "EUR")].into_iter()), None);
        assert_eq!(price(20, "EUR").of_units(3), price(60, "EUR"));
    }
}
