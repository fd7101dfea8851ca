//! Limit keys: names for persons, beside the names of buyers.
//!
//! A person is known by a *limit key*: a salted hash of the claim's value. Units are counted by names, and a name is a
//! buyer or a limit key.

use sha2::{Digest, Sha256};

/// What every limit key begins with.
const PREFIX: &str = "limit:";

/// The claim that stands for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitBy {
    /// The name of the claim.
    pub claim: String,
    pub(crate) salt: String,
}

impl LimitBy {
    /// The limit key of the person for whom the claim has this value.
    #[must_use]
    pub fn key(&self, value: &str) -> String {
        let hash = Sha256::digest([&self.salt, "\0limit\0", &self.claim, "\0", value].concat());
        let mut key = String::with_capacity(PREFIX.len() + 2 * hash.len());
        key.push_str(PREFIX);
        for byte in hash {
            for half in [byte >> 4, byte & 15] {
                key.extend(char::from_digit(half.into(), 16));
            }
        }
        key
    }
}

/// The names under which a buyer's units are counted.
pub(crate) fn counted_names<'a>(
    buyer: &'a str,
    limit_key: Option<&'a str>,
) -> impl Iterator<Item = &'a str> + Clone {
    std::iter::once(buyer).chain(limit_key)
}

/// Units of the product `$product` that belong to the limit key `$key`, as rows of one column.
macro_rules! units_of_person {
    ($key:literal, $product:literal) => {
        concat!(
            "SELECT o.quantity AS units FROM orders o WHERE o.limit_key = ",
            $key,
            " AND o.product_id = ",
            $product,
            " AND o.",
            crate::sql::kept!(),
            " UNION ALL SELECT e.units FROM erased_units e WHERE e.limit_key = ",
            $key,
            " AND e.item = ",
            $product
        )
    };
}
pub(crate) use units_of_person;

/// Units of these products ($3) that belong to buyers ($1) and to limit keys ($2), by name; PostgreSQL only.
pub(crate) const BOUGHT_BY_NAMES: &str = concat!(
    "SELECT name, product, sum(units)::BIGINT FROM (\
     SELECT buyer AS name, product_id AS product, quantity AS units FROM orders \
     WHERE buyer = ANY($1) AND product_id = ANY($3) AND ",
    crate::sql::kept!(),
    " UNION ALL SELECT limit_key, product_id, quantity FROM orders \
     WHERE limit_key = ANY($2) AND product_id = ANY($3) AND ",
    crate::sql::kept!(),
    " UNION ALL SELECT limit_key, item, units FROM erased_units \
     WHERE limit_key = ANY($2) AND item = ANY($3)) counted GROUP BY name, product"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_salt_claim_and_value_and_tells_none_of_them() {
        let limit_by = |claim: &str, salt: &str| LimitBy { claim: claim.into(), salt: salt.into() };
        let key = limit_by("person", "s").key("4711");
        assert_eq!(key, limit_by("person", "s").key("4711"));
        assert!(key.starts_with(PREFIX) && key.len() == 70 && !key.contains("4711"), "{key}");
        for other in [
            limit_by("person", "s").key("4712"),
            limit_by("person", "t").key("4711"),
            limit_by("perso", "s").key("n4711"),
        ] {
            assert_ne!(key, other);
        }
    }
}
