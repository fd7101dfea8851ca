//! What a token may say, by one rule for every signer: our own key's and the identity provider's.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::TokenError;

/// How far a signer's clock may be from ours.
const LEEWAY_SECONDS: i64 = 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who it is. From an identity provider it starts with `idp:`, which no account's id can.
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// What they may do; a buyer unless it says otherwise.
    pub role: Role,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys.
    #[default]
    Buyer,
    /// Runs the sale.
    Admin,
}

/// The claims as they are in a token. A signer must set `sub` and `exp`.
#[derive(Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow)]
    pub sub: Cow<'a, str>,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    #[serde(borrow)]
    pub iss: Option<Text<'a>>,
    #[serde(borrow)]
    role: Option<Text<'a>>,
}

/// Seconds since 1970 (RFC 7519): any JSON number, also one with a fraction, which is cut off.
#[derive(Clone, Copy)]
struct NumericDate(i64);

/// A text; `None` for any other JSON value, which some signers have in its place.
pub(super) struct Text<'a>(pub Option<Cow<'a, str>>);

impl<'a> Payload<'a> {
    /// Reads the middle part of a token, in the form it had before it was encoded.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        serde_json::from_slice(json).map_err(|_| TokenError::Invalid)
    }

    /// The claims, if they are good now. A role that we do not know is a buyer's: a shop may have
    /// roles of its own.
    pub(super) fn check(self) -> Result<Claims, TokenError> {
        let now = Timestamp::now().as_second();
        let admin = self.role.is_some_and(|role| role.0.as_deref() == Some("admin"));
        let role = if admin { Role::Admin } else { Role::Buyer };
        let claims = Claims { sub: self.sub.into_owned(), exp: self.exp.0, role };
        if claims.have_ended(now) {
            return Err(TokenError::Expired);
        }
        let begun = self.nbf.is_none_or(|nbf| nbf.0 <= now + LEEWAY_SECONDS);
        // A buyer without a name, or with one no database takes, is nobody.
        let named = !claims.sub.is_empty() && claims.sub.len() <= 256 && !claims.sub.contains('\0');
        (begun && named).then_some(claims).ok_or(TokenError::Invalid)
    }
}

/// Decodes the middle part of a token.
pub(super) fn decode_payload(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)
}

impl Claims {
    /// Whom the sale does something for.
    #[must_use]
    pub fn caller(&self) -> sale::Caller<'_> {
        sale::Caller { buyer: &self.sub, is_admin: self.role == Role::Admin }
    }

    /// Whether the token is over, at this second since 1970.
    pub(super) fn have_ended(&self, now: i64) -> bool {
        self.exp.saturating_add(LEEWAY_SECONDS) <= now
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(seconds))
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(i64::try_from(seconds).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
                #[expect(clippy::cast_possible_truncation, reason = "cut off, and saturating")]
                Ok(NumericDate(seconds as i64))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(text.into())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(text.to_owned().into())))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Text<'de>, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text<'de>, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Text<'de>, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(claims: &Value) -> Result<Claims, TokenError> {
        Payload::parse(claims.to_string().as_bytes())?.check()
    }

    fn now() -> i64 {
        Timestamp::now().as_second()
    }

    #[test]
    fn a_time_is_any_number() {
        for (text, exp) in [
            ("4000000000", 4_000_000_000),
            ("4000000000.5", 4_000_000_000),
            ("4e9", 4_000_000_000),
            ("4E+9", 4_000_000_000),
            ("99999999999999999999", i64::MAX),
            ("18446744073709551615", i64::MAX),
            ("1e300", i64::MAX),
        ] {
            let claims = format!(r#"{{"sub": "ann", "exp": {text}, "nbf": 1.5}}"#);
            let claims = Payload::parse(claims.as_bytes()).and_then(Payload::check).unwrap();
            assert_eq!(claims.exp, exp, "{text}");
        }
        for exp in [json!("4000000000"), json!(null), json!([4_000_000_000_i64]), json!(true)] {
            assert_eq!(check(&json!({"sub": "ann", "exp": exp})), Err(TokenError::Invalid));
        }
        for past in [json!(-1), json!(1), json!(1.5), json!(-1e300)] {
            assert_eq!(check(&json!({"sub": "ann", "exp": past})), Err(TokenError::Expired));
        }
    }

    #[test]
    fn clocks_may_be_apart_by_the_leeway_and_no_more() {
        let [half, far] = [LEEWAY_SECONDS / 2, LEEWAY_SECONDS * 2];
        let token = |exp: i64, nbf: i64| check(&json!({"sub": "ann", "exp": exp, "nbf": nbf}));
        assert!(token(now() + far, now() + half).is_ok());
        assert_eq!(token(now() + 2 * far, now() + far), Err(TokenError::Invalid));
        assert!(token(now() - half, 0).is_ok());
        assert_eq!(token(now() - far, 0), Err(TokenError::Expired));
    }

    #[test]
    fn a_role_that_is_not_known_is_a_buyers() {
        let role =
            |role: Value| check(&json!({"sub": "ann", "exp": 4e9, "role": role})).unwrap().role;
        assert_eq!(role(json!("admin")), Role::Admin);
        for other in [
            json!(null),
            json!("buyer"),
            json!("customer"),
            json!("Admin"),
            json!("ad\u{6d}in "),
            json!(["admin"]),
            json!({"admin": [true]}),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(true),
        ] {
            assert_eq!(role(other.clone()), Role::Buyer, "{other}");
        }
        assert_eq!(check(&json!({"sub": "ann", "exp": 4e9})).unwrap().role, Role::Buyer);
    }
}
