//! Stripe's amounts. Its smallest unit is that of ISO 4217, with some exceptions:
//! <https://docs.stripe.com/currencies#minor-units>.

use ledger::{Currency, Price};

/// Currencies whose amounts have other decimal places at Stripe than in ISO 4217.
const EXCEPTIONS: [(&str, u32); 3] = [
    // Whole units there, although the currency has a smaller one.
    ("MGA", 0),
    // Two decimal places there, which are always 0.
    ("ISK", 2),
    ("UGX", 2),
];

/// The amount that Stripe means. `None`: no price can have this currency, or this part of its smallest unit.
pub(super) fn price(amount: i64, currency: &str) -> Option<Price> {
    let currency = Currency::of(&currency.to_ascii_uppercase())?;
    let (own, theirs) = (currency.decimals(), decimals(currency));
    let amount = if theirs > own {
        let part = 10_i64.pow(theirs - own);
        (amount % part == 0).then_some(amount / part)?
    } else {
        amount.checked_mul(10_i64.pow(own - theirs))?
    };
    Some(Price { amount, currency })
}

fn decimals(currency: Currency) -> u32 {
    let exception = EXCEPTIONS.iter().find(|(code, _)| *code == currency.code());
    exception.map_or(currency.decimals(), |(_, decimals)| *decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_in_the_smallest_unit_of_iso_4217() {
        for (amount, currency, expected) in [
            (49_900, "eur", Some(49_900)),
            (500, "jpy", Some(500)),
            (1_230, "kwd", Some(1_230)),
            (5, "mga", Some(500)),
            (50_000, "isk", Some(500)),
            (50_050, "isk", None),
            (50_000, "UGX", Some(500)),
            (1, "zzz", None),
            (1, "", None),
        ] {
            let price = price(amount, currency);
            assert_eq!(price.map(|price| price.amount), expected, "{amount} {currency}");
        }
    }
}
