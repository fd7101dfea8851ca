//! Rules for a product, for every way to declare one. The operator's schema has the same rules;
//! `bounds.yaml` has the cases by which both are tested.

use std::time::Duration;

use ledger::{Currency, DeclaredPrice, ProductDeclaration, ProductTerms};

use crate::bounds;

/// More than any sale has, and far from any overflow.
const MAX_UNITS: i64 = 1_000_000_000;
/// In the smallest unit of a currency. The dearest order that is allowed is far from any overflow.
const MAX_PRICE: i64 = 100_000_000_000;

/// The leases that a product may ask for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseBounds {
    /// `LOCK_NODE_TIMEOUT_SECONDS`: a lease must be more than twice as long.
    pub node_timeout: Duration,
    /// `LOCK_LONGEST_LEASE_SECONDS`: the upper bound.
    pub longest: Duration,
}

impl From<&redlock::Config> for LeaseBounds {
    fn from(config: &redlock::Config) -> Self {
        Self { node_timeout: config.node_timeout, longest: config.longest_lease }
    }
}

impl LeaseBounds {
    /// The length that is allowed and nearest to this one.
    pub(crate) fn nearest(self, lease: Duration) -> Duration {
        let shortest =
            self.node_timeout * bounds::NODE_TIMEOUTS_PER_LEASE + Duration::from_millis(1);
        lease.max(shortest).min(self.longest)
    }

    fn contain(self, lease: Duration) -> bool {
        // With a longer lease, replicas would hold the lock for a shorter time than declared.
        lease > self.node_timeout * bounds::NODE_TIMEOUTS_PER_LEASE && lease <= self.longest
    }
}

/// A rule that a product breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct RuleError {
    /// The field.
    pub field: &'static str,
    /// The rule for its value.
    pub rule: &'static str,
}

/// Checks a new product.
///
/// # Errors
/// The first broken rule.
pub fn check_product(product: &ProductDeclaration, leases: LeaseBounds) -> Result<(), RuleError> {
    check_id(&product.id)?;
    check_units("stock", product.stock, 0)?;
    check_terms(&product.terms(), leases)
}

/// Checks the terms of a product, everything but its stock.
///
/// # Errors
/// The first broken rule.
pub fn check_terms(terms: &ProductTerms, leases: LeaseBounds) -> Result<(), RuleError> {
    check_name(&terms.name)?;
    if let Some(limit) = terms.max_per_buyer {
        check_units("max_per_buyer", limit, 1)?;
    }
    // Negative numbers fail like 0.
    let millis = |millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    let wait_timeout = terms.wait_timeout_ms.map(millis);
    if wait_timeout.is_some_and(|wait| !bounds::WAIT_TIMEOUT.contains(&wait)) {
        return Err(RuleError { field: "wait_timeout_ms", rule: "must be from 1 to 60000" });
    }
    if terms.lease_time_ms.map(millis).is_some_and(|lease| !leases.contain(lease)) {
        let rule = "must be more than twice LOCK_NODE_TIMEOUT_SECONDS and not more than \
                    LOCK_LONGEST_LEASE_SECONDS of the sale";
        return Err(RuleError { field: "lease_time_ms", rule });
    }
    let seconds = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if terms.hold_seconds.map(seconds).is_some_and(|hold| !bounds::HOLD.contains(&hold)) {
        return Err(RuleError { field: "hold_seconds", rule: "must be from 5 to 86400" });
    }
    terms.price.as_ref().map_or(Ok(()), check_price)
}

fn check_price(DeclaredPrice { amount, currency }: &DeclaredPrice) -> Result<(), RuleError> {
    let broken = |rule| Err(RuleError { field: "price", rule });
    if !(1..=MAX_PRICE).contains(amount) {
        return broken(
            "must have an amount from 1 to 100000000000, in the smallest unit of the currency",
        );
    }
    if Currency::of(currency).is_none() {
        return broken(
            "must have a currency of ISO 4217 that is in use, such as EUR, in capital letters",
        );
    }
    Ok(())
}

/// Claims that say nothing about a person beyond the account: they are the same for all, another in each token, or the
/// account itself.
const IMPERSONAL_CLAIMS: [&str; 8] = ["aud", "exp", "iat", "iss", "jti", "nbf", "role", "sub"];

/// Checks the name of a claim that stands for a person.
///
/// # Errors
/// When no claim has that name, or it can stand for nobody.
pub fn check_limit_claim(claim: &str) -> Result<(), RuleError> {
    let is_name =
        (1..=128).contains(&claim.len()) && claim.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name && !IMPERSONAL_CLAIMS.contains(&claim) {
        return Ok(());
    }
    let rule = "must be 1 to 128 visible ASCII characters, and not aud, exp, iat, iss, jti, nbf, role or sub: \
                they say nothing about a person beyond the account";
    Err(RuleError { field: "limit_claim", rule })
}

/// A name must fit on one line of pages and logs.
fn check_name(name: &str) -> Result<(), RuleError> {
    let length = name.chars().count();
    let blank = name.chars().all(char::is_whitespace);
    if (1..=128).contains(&length) && !blank && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let rule = "must have 1 to 128 characters, not only blanks, and no control characters such as \
                tabs and line ends";
    Err(RuleError { field: "name", rule })
}

/// Checks a number of units.
///
/// # Errors
/// When it is out of range.
pub fn check_units(field: &'static str, units: i64, least: i64) -> Result<(), RuleError> {
    if (least..=MAX_UNITS).contains(&units) {
        return Ok(());
    }
    let rule =
        if least == 0 { "must be from 0 to 1000000000" } else { "must be from 1 to 1000000000" };
    Err(RuleError { field, rule })
}

/// An id is part of Redis keys, metric labels and paths.
fn check_id(id: &str) -> Result<(), RuleError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let at_ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = id.as_bytes();
    let framed = at_ends(bytes.first()) && at_ends(bytes.last());
    if framed && bytes.len() <= 63 && bytes.iter().all(|&byte| allowed(byte)) {
        return Ok(());
    }
    let rule =
        "must be 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends";
    Err(RuleError { field: "id", rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASES: LeaseBounds =
        LeaseBounds { node_timeout: Duration::from_millis(50), longest: Duration::from_secs(5) };

    fn price(amount: i64, currency: &str) -> DeclaredPrice {
        DeclaredPrice { amount, currency: currency.to_owned() }
    }

    #[test]
    fn a_claim_that_says_nothing_about_a_person_limits_nobody() {
        for claim in ["person_id", "https://shop.example/person", "x"] {
            assert_eq!(check_limit_claim(claim), Ok(()), "{claim}");
        }
        let long = "x".repeat(129);
        for claim in ["", "a b", "é", "a\n", long.as_str(), "iss", "exp", "role", "sub"] {
            assert_eq!(check_limit_claim(claim).unwrap_err().field, "limit_claim", "{claim}");
        }
    }

    type Break = fn(&mut ProductDeclaration);

    fn product() -> ProductDeclaration {
        ProductDeclaration {
            id: "ps-5.a_b".to_owned(),
            name: "Console".to_owned(),
            stock: 0,
            max_per_buyer: Some(1),
            wait_timeout_ms: Some(2000),
            lease_time_ms: Some(5000),
            hold_seconds: Some(5),
            price: Some(price(1, "EUR")),
        }
    }

    #[test]
    fn names_the_field_that_breaks_a_rule() {
        assert_eq!(check_product(&product(), LEASES), Ok(()));
        let broken: [(&str, Break); 28] = [
            ("id", |p| p.id = String::new()),
            ("id", |p| p.id = "..".to_owned()),
            ("id", |p| p.id = "a b".to_owned()),
            ("id", |p| p.id = "a\n".to_owned()),
            ("id", |p| p.id = "é".to_owned()),
            ("id", |p| p.id = "x".repeat(64)),
            ("name", |p| p.name = String::new()),
            ("name", |p| p.name = "a\0".to_owned()),
            ("name", |p| p.name = "x".repeat(129)),
            ("name", |p| p.name = "Console\n".to_owned()),
            ("name", |p| p.name = "a\u{85}".to_owned()),
            ("name", |p| p.name = " \u{a0}\u{3000}".to_owned()),
            ("stock", |p| p.stock = -1),
            ("stock", |p| p.stock = MAX_UNITS + 1),
            ("max_per_buyer", |p| p.max_per_buyer = Some(0)),
            ("wait_timeout_ms", |p| p.wait_timeout_ms = Some(60_001)),
            ("lease_time_ms", |p| p.lease_time_ms = Some(5001)),
            ("lease_time_ms", |p| p.lease_time_ms = Some(100)),
            ("lease_time_ms", |p| p.lease_time_ms = Some(-1)),
            ("hold_seconds", |p| p.hold_seconds = Some(4)),
            ("hold_seconds", |p| p.hold_seconds = Some(86_401)),
            ("price", |p| p.price = Some(price(0, "EUR"))),
            ("price", |p| p.price = Some(price(-1, "EUR"))),
            ("price", |p| p.price = Some(price(MAX_PRICE + 1, "EUR"))),
            ("price", |p| p.price = Some(price(1, "eur"))),
            ("price", |p| p.price = Some(price(1, "ZZZ"))),
            ("price", |p| p.price = Some(price(1, "XAU"))),
            ("price", |p| p.price = Some(price(1, ""))),
        ];
        for (field, change) in broken {
            let mut product = product();
            change(&mut product);
            assert_eq!(check_product(&product, LEASES).unwrap_err().field, field);
        }
    }
}
