//! The header `Stripe-Signature`: `t=<seconds>,v1=<hex>,v1=<hex>`. Each `v1` is HMAC-SHA-256 of `<t>.<body>` by one of
//! the endpoint's secrets; there are several while Stripe replaces a secret. Other schemes are ignored.

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::payments::error::PaymentError;

const HEADER: &str = "stripe-signature";
/// Seconds that a signature may be old; of Stripe's own libraries.
const TOLERANCE: u64 = 300;
/// More are no signatures of Stripe.
const MOST_SIGNATURES: usize = 8;

/// Checks the signature first, then its time: an old one tells nothing to somebody without the secret.
pub(super) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[String],
    now: Timestamp,
) -> Result<(), PaymentError> {
    let (time, signatures) = parse(headers).ok_or(PaymentError::Signature)?;
    let is_signed = |secret: &String| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // `verify_slice` compares in constant time.
        signatures.iter().any(|one| mac.clone().verify_slice(one).is_ok()).then_some(())
    };
    secrets.iter().find_map(is_signed).ok_or(PaymentError::Signature)?;
    let time: i64 = time.parse().map_err(|_| PaymentError::Signature)?;
    if now.as_second().abs_diff(time) > TOLERANCE {
        return Err(PaymentError::Time);
    }
    Ok(())
}

/// The text of the time, and the signatures.
fn parse(headers: &HeaderMap) -> Option<(&str, Vec<[u8; 32]>)> {
    let mut values = headers.get_all(HEADER).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (mut time, mut signatures) = (None, Vec::new());
    for part in value.split(',') {
        match part.trim().split_once('=')? {
            ("t", text) if time.is_none() => time = Some(text),
            ("v1", text) if signatures.len() < MOST_SIGNATURES => signatures.push(hex(text)?),
            ("t" | "v1", _) => return None,
            _ => {}
        }
    }
    let time = time.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((time, signatures))
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const SECRET: &str = "whsec_test_secret";
    const BODY: &[u8] = br#"{"id": "evt_test"}"#;
    const NOW: i64 = 1_764_201_600;

    fn signed(secret: &str, time: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{time}.").as_bytes());
        mac.update(body);
        let mut text = String::new();
        for byte in mac.finalize().into_bytes() {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }

    fn check(header: &str, secrets: &[&str]) -> Result<(), &'static str> {
        check_at(NOW, header, secrets)
    }

    fn check_at(now: i64, header: &str, secrets: &[&str]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, header.parse().unwrap());
        let secrets: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).collect();
        let now = Timestamp::from_second(now).unwrap();
        verify(&headers, BODY, &secrets, now).map_err(|error| error.code())
    }

    #[test]
    fn any_secret_and_any_signature_will_do_while_one_is_replaced() {
        let (own, other) = (signed(SECRET, NOW, BODY), signed("another_secret_of", NOW, BODY));
        let header = format!("t={NOW},v1={own},v0=00");
        assert_eq!(check(&header, &[SECRET]), Ok(()));
        assert_eq!(check(&header, &["new_secret_is_here", SECRET]), Ok(()));
        assert_eq!(check(&format!("t={NOW},v1={other},v1={own}"), &[SECRET]), Ok(()));
        assert_eq!(check(&format!("t={NOW}, v1={own}"), &[SECRET]), Ok(()));
    }

    #[test]
    fn everything_else_is_no_signature() {
        let own = signed(SECRET, NOW, BODY);
        let many = format!("t={NOW}{}", format!(",v1={own}").repeat(9));
        for wrong in [
            "",
            "t=1",
            &own,
            &format!("v1={own}"),
            &format!("t={NOW}"),
            &format!("t={NOW},v0={own}"),
            &format!("t={NOW},v1="),
            &format!("t={NOW},v1={}", &own[2..]),
            &format!("t={NOW},v1={own}00"),
            &format!("t={NOW},v1=zz{}", &own[2..]),
            &format!("t={},v1={own}", NOW + 1),
            &format!("t={NOW},t={NOW},v1={own}"),
            &format!("t=+{NOW},v1={own}"),
            &format!("t={NOW},v1={}", signed(SECRET, NOW, b"{}")),
            &many,
        ] {
            assert_eq!(check(wrong, &[SECRET]), Err("payment_signature"), "{wrong}");
        }
        assert_eq!(
            check(&format!("t={NOW},v1={own}"), &["another_secret_of"]),
            Err("payment_signature")
        );
    }

    #[test]
    fn a_signature_is_good_for_five_minutes() {
        for (time, expected) in [
            (NOW - 300, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 301, Err("payment_time")),
            (NOW + 301, Err("payment_time")),
        ] {
            let header = format!("t={time},v1={}", signed(SECRET, time, BODY));
            assert_eq!(check(&header, &[SECRET]), expected, "{time}");
        }
        let unsigned = format!("t={},v1={}", NOW - 301, signed("another_secret_of", NOW, BODY));
        assert_eq!(check(&unsigned, &[SECRET]), Err("payment_signature"), "not its time");
    }

    /// A clock that shows the time of the signature tolerates any: who has an event could deliver it for ever.
    #[test]
    fn without_the_tolerance_a_signature_of_last_year_is_good() {
        let last_year = NOW - 365 * 24 * 3_600;
        let signature = signed(SECRET, last_year, BODY);
        let header = format!("t={last_year},v1={signature}");
        assert_eq!(check(&header, &[SECRET]), Err("payment_time"));
        assert_eq!(check_at(last_year, &header, &[SECRET]), Ok(()));
        // Its time is signed, too.
        let renewed = format!("t={NOW},v1={signature}");
        assert_eq!(check(&renewed, &[SECRET]), Err("payment_signature"));
    }
}
