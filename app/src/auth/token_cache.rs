//! Verified tokens. A repeated token is found here instead of being verified again, which takes
//! longer: with HS256 several times, with Ed25519 hundreds and with ES256 and RS256 thousands of times.
//!
//! Only valid tokens are inserted, so nobody without a key can fill the cache. The hash of the whole
//! token is keyed with a random number of this process. A forged signature therefore hits the slot of
//! a genuine token only by chance, and the time of a lookup does not help to guess a signature.

use std::hash::RandomState;

use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::claims::Claims;

/// In bytes: about 140,000 tokens of the usual 200 bytes.
const CAPACITY: u64 = 48 << 20;
/// Memory of an entry in addition to its texts, in bytes.
const OVERHEAD: usize = 112;
const USUAL_WEIGHT: u64 = 320;

/// The claims of verified tokens by their full text.
pub(super) struct TokenCache(Cache<Box<str>, Claims, Bytes, RandomState>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, Claims> for Bytes {
    fn weight(&self, token: &Box<str>, claims: &Claims) -> u64 {
        (token.len() + claims.sub.len() + OVERHEAD) as u64
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl TokenCache {
    fn with_capacity(bytes: u64) -> Self {
        let tokens = usize::try_from(bytes / USUAL_WEIGHT).unwrap_or(usize::MAX);
        Self(Cache::with(tokens, bytes, Bytes, RandomState::new(), DefaultLifecycle::default()))
    }

    /// The claims of a token that has not expired.
    pub(super) fn get(&self, token: &str) -> Option<Claims> {
        let claims = self.0.get(token)?;
        if claims.have_expired(Timestamp::now().as_second()) {
            self.0.remove(token);
            return None;
        }
        Some(claims)
    }

    pub(super) fn insert(&self, token: &str, claims: Claims) {
        self.0.insert(token.into(), claims);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    const FAR: i64 = 4_000_000_000;

    fn claims(exp: i64) -> Claims {
        Claims { sub: "idp:ann".to_owned(), exp, role: Role::Buyer }
    }

    #[test]
    fn keeps_a_token_until_it_expires() {
        let cache = TokenCache::default();
        cache.insert("valid", claims(FAR));
        cache.insert("expired", claims(1));
        assert_eq!(cache.get("valid"), Some(claims(FAR)));
        assert_eq!(cache.get("expired"), None);
        assert_eq!(cache.get("unknown"), None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn holds_one_hundred_thousand_tokens_of_the_usual_length() {
        let cache = TokenCache::default();
        let token = |n: usize| format!("{n:0>210}");
        for n in 0..100_000 {
            cache.insert(&token(n), claims(FAR));
        }
        assert!((0..100_000).all(|n| cache.get(&token(n)).is_some()));
    }

    #[test]
    fn keeps_used_tokens_and_never_exceeds_its_capacity() {
        const SMALL: u64 = 1 << 20;
        let cache = TokenCache::with_capacity(SMALL);
        cache.insert("used", claims(FAR));
        for n in 0..50_000 {
            cache.insert(&n.to_string(), claims(FAR));
            assert!(cache.get("used").is_some());
        }
        assert!(cache.0.weight() <= SMALL);
        let kept = cache.len();
        // One token of any length is bounded too.
        cache.insert(&"x".repeat(2 << 20), claims(FAR));
        assert!(cache.0.weight() <= SMALL && cache.len() <= kept);
    }
}
