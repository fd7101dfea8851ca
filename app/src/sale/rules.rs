//! What a product may be, whoever declares it. The operator's schema has the same rules.

use std::time::Duration;

use crate::ledger::{ProductDeclaration, ProductTerms};

/// More than any sale has, and far from any overflow.
const MAX_UNITS: i64 = 1_000_000_000;
/// No wait has a reason to be longer.
const MAX_WAIT_MS: i64 = 3_600_000;

/// A rule that a product breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct RuleError {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// Checks a product that is to be made; no lease may be longer than `longest_lease`.
///
/// # Errors
/// The first rule that is broken.
pub fn check_product(
    product: &ProductDeclaration,
    longest_lease: Duration,
) -> Result<(), RuleError> {
    check_id(&product.id)?;
    check_units("stock", product.stock, 0)?;
    check_terms(&product.terms(), longest_lease)
}

/// Checks what a product has beside its stock.
///
/// # Errors
/// The first rule that is broken.
pub fn check_terms(terms: &ProductTerms, longest_lease: Duration) -> Result<(), RuleError> {
    let name = &terms.name;
    if !(1..=128).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let rule = "must have 1 to 128 characters, no control characters";
        return Err(RuleError { field: "name", rule });
    }
    if let Some(limit) = terms.max_per_buyer {
        check_units("max_per_buyer", limit, 1)?;
    }
    if terms.wait_timeout_ms.is_some_and(|millis| !(1..=MAX_WAIT_MS).contains(&millis)) {
        return Err(RuleError { field: "wait_timeout_ms", rule: "must be from 1 to 3600000" });
    }
    // Replicas would hold the lock for a shorter time than was declared.
    let lease = terms.lease_time_ms.map(|millis| u64::try_from(millis).unwrap_or(0));
    let allowed = Duration::from_millis(1)..=longest_lease;
    if lease.is_some_and(|millis| !allowed.contains(&Duration::from_millis(millis))) {
        let rule = "must be at least 1 and not more than LOCK_LONGEST_LEASE_SECONDS of the sale";
        return Err(RuleError { field: "lease_time_ms", rule });
    }
    Ok(())
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

    const LONGEST: Duration = Duration::from_secs(5);

    type Break = fn(&mut ProductDeclaration);

    fn product() -> ProductDeclaration {
        ProductDeclaration {
            id: "ps-5.a_b".to_owned(),
            name: "Console".to_owned(),
            stock: 0,
            max_per_buyer: Some(1),
            wait_timeout_ms: Some(2000),
            lease_time_ms: Some(5000),
        }
    }

    #[test]
    fn names_the_field_that_breaks_a_rule() {
        assert_eq!(check_product(&product(), LONGEST), Ok(()));
        let broken: [(&str, Break); 15] = [
            ("id", |p| p.id = String::new()),
            ("id", |p| p.id = "..".to_owned()),
            ("id", |p| p.id = "a b".to_owned()),
            ("id", |p| p.id = "a\n".to_owned()),
            ("id", |p| p.id = "é".to_owned()),
            ("id", |p| p.id = "x".repeat(64)),
            ("name", |p| p.name = String::new()),
            ("name", |p| p.name = "a\0".to_owned()),
            ("name", |p| p.name = "x".repeat(129)),
            ("stock", |p| p.stock = -1),
            ("stock", |p| p.stock = MAX_UNITS + 1),
            ("max_per_buyer", |p| p.max_per_buyer = Some(0)),
            ("wait_timeout_ms", |p| p.wait_timeout_ms = Some(MAX_WAIT_MS + 1)),
            ("lease_time_ms", |p| p.lease_time_ms = Some(5001)),
            ("lease_time_ms", |p| p.lease_time_ms = Some(-1)),
        ];
        for (field, change) in broken {
            let mut product = product();
            change(&mut product);
            assert_eq!(check_product(&product, LONGEST).unwrap_err().field, field);
        }
    }
}
