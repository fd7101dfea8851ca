//! Signatures of webhooks, by the Standard Webhooks rules: HMAC-SHA256 over the id, the time and the body.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";

/// A key that the receiver has too.
// No `Debug`: it is a secret.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl FromStr for SigningKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be whsec_ and 24 to 64 bytes in base64, such as from: echo whsec_$(openssl rand -base64 32)";
        let key = text.trim().strip_prefix(PREFIX).and_then(|key| STANDARD.decode(key).ok());
        let key = key.filter(|key| KEY_BYTES.contains(&key.len())).ok_or(wrong)?;
        <Hmac<Sha256> as KeyInit>::new_from_slice(&key).map(Self).map_err(|_| wrong)
    }
}

/// The value of `webhook-signature`: a signature by each key.
pub(super) fn signatures(keys: &[SigningKey], id: &str, seconds: i64, body: &[u8]) -> String {
    let mut signatures = String::new();
    for SigningKey(key) in keys {
        let mut mac = key.clone();
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        let separator = if signatures.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ =
            write!(signatures, "{separator}v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    }
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the rules themselves.
    #[test]
    fn a_known_message_has_its_known_signature() {
        let key: SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".parse().unwrap();
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let keys = [key.clone(), key];
        assert_eq!(signatures(&keys[..1], id, 1_614_265_330, body), signature);
        let both = format!("{signature} {signature}");
        assert_eq!(signatures(&keys, id, 1_614_265_330, body), both);
    }

    #[test]
    fn a_short_key_is_refused() {
        for wrong in
            ["", "whsec_", "whsec_aHVudGVyMg==", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"]
        {
            assert!(wrong.parse::<SigningKey>().is_err(), "{wrong}");
        }
    }
}
