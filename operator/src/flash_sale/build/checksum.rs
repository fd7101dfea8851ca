//! Checksums in names and annotations.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Short checksum of a value, stable across versions of the operator. More users can read it than Secrets: a value of a
/// Secret goes through [`hash_secret`] instead.
pub(super) fn hash<T: Serialize>(value: &T) -> String {
    // Maps with keys that are not strings can't be written as JSON; no caller has one.
    let json = serde_json::to_vec(value).unwrap_or_default();
    let digest = Sha256::digest(&json);
    let short = digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte));
    format!("{short:032x}")
}

/// Checksum of a value of a Secret. Without the random `key`, a weak password cannot be found from it.
pub(super) fn hash_secret<T: Serialize>(key: &[u8], value: &T) -> String {
    hash(&(key, value))
}
