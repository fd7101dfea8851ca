//! Tokens that were checked before: checking a public key's signature takes hundreds of times as
//! long as finding the token here, with ES256 and RS256 thousands of times.

use std::collections::HashMap;

use super::claims::Claims;

/// Half of the tokens that are remembered: with [`MAX_TOKEN`], 16 MiB in all.
const HALF: usize = 4096;
/// A longer one is checked each time.
const MAX_TOKEN: usize = 2048;

/// The last tokens that were good, by their full text. Only good ones come in: nobody without the
/// provider's key can fill it.
#[derive(Default)]
pub(super) struct TokenCache {
    young: HashMap<Box<str>, Claims>,
    /// Dropped as a whole when `young` is full; what is used moves to `young`.
    old: HashMap<Box<str>, Claims>,
}

impl TokenCache {
    /// The claims of a token that is still good.
    pub(super) fn get(&mut self, token: &str, now: i64) -> Option<Claims> {
        let good = |claims: &&Claims| !claims.have_expired(now);
        if let Some(claims) = self.young.get(token) {
            return Some(claims).filter(good).cloned();
        }
        let (token, claims) = self.old.remove_entry(token)?;
        let found = Some(&claims).filter(good).cloned()?;
        self.put(token, claims);
        Some(found)
    }

    pub(super) fn insert(&mut self, token: &str, claims: Claims) {
        if token.len() <= MAX_TOKEN {
            self.put(token.into(), claims);
        }
    }

    fn put(&mut self, token: Box<str>, claims: Claims) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    fn claims(exp: i64) -> Claims {
        Claims { sub: "idp:ann".to_owned(), exp, role: Role::Buyer }
    }

    #[test]
    fn knows_a_token_until_it_ends() {
        let mut seen = TokenCache::default();
        seen.insert("t", claims(10));
        assert_eq!(seen.get("t", 9), Some(claims(10)));
        assert_eq!(seen.get("t", 100), None);
        assert_eq!(seen.get("u", 9), None);
    }

    #[test]
    fn keeps_what_is_used_and_never_more_than_its_bound() {
        let mut seen = TokenCache::default();
        seen.insert("used", claims(10));
        seen.insert(&"x".repeat(MAX_TOKEN + 1), claims(10));
        for token in 0..5 * HALF {
            seen.insert(&token.to_string(), claims(10));
            assert!(seen.get("used", 9).is_some());
            assert!(seen.young.len() + seen.old.len() <= 2 * HALF);
        }
        assert!(seen.get("0", 9).is_none());
    }
}
