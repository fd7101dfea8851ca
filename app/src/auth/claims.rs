//! The claims of a token. The same rules hold for our own key and for the identity provider's.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::TokenError;

/// Tolerated difference between a signer's clock and ours.
const LEEWAY_SECONDS: i64 = 10;

/// The claims of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The caller's id. For an identity provider's token it begins with `idp:`, which no account's id
    /// does.
    pub sub: String,
    /// End of the token's validity, in seconds since 1970.
    pub exp: i64,
    /// The caller's rights. Tokens without a role are buyers'.
    pub role: Role,
}

/// A caller's rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys products and gets coupons.
    #[default]
    Buyer,
    /// Administers the sale.
    Admin,
}

/// The claims as encoded in a token. `sub` and `exp` are required.
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

/// Seconds since 1970 (RFC 7519): any JSON number. A fraction is truncated.
#[derive(Clone, Copy)]
struct NumericDate(i64);

/// A string, or `None` for any other JSON value: some signers use other types.
pub(super) struct Text<'a>(pub Option<Cow<'a, str>>);

impl<'a> Payload<'a> {
    /// Parses the decoded middle part of a token.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        serde_json::from_slice(json).map_err(|_| TokenError::Invalid)
    }

    /// The claims, if they are valid now. An unknown role counts as a buyer's, because a shop may have
    /// roles of its own.
    pub(super) fn validate(self) -> Result<Claims, TokenError> {
        let now = Timestamp::now().as_second();
        let admin = self.role.is_some_and(|role| role.0.as_deref() == Some("admin"));
        let role = if admin { Role::Admin } else { Role::Buyer };
        let claims = Claims { sub: self.sub.into_owned(), exp: self.exp.0, role };
        if claims.have_expired(now) {
            return Err(TokenError::Expired);
        }
        let started = self.nbf.is_none_or(|nbf| nbf.0 <= now + LEEWAY_SECONDS);
        // An empty `sub` identifies nobody, and PostgreSQL stores no NUL.
        let named = !claims.sub.is_empty() && claims.sub.len() <= 256 && !claims.sub.contains('\0');
        (started && named).then_some(claims).ok_or(TokenError::Invalid)
    }
}

/// Decodes the middle part of a token.
pub(super) fn decode_payload(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)
}

impl Claims {
    /// The caller, as the sale knows it.
    #[must_use]
    pub fn caller(&self) -> sale::Caller<'_> {
        sale::Caller { buyer: &self.sub, is_admin: self.role == Role::Admin }
    }

    /// Whether the token has expired at `now`, in seconds since 1970.
    pub(super) fn have_expired(&self, now: i64) -> bool {
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
                #[expect(clippy::cast_possible_truncation, reason = "truncates and saturates")]
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

    fn validate(claims: &Value) -> Result<Claims, TokenError> {
        Payload::parse(claims.to_string().as_bytes())?.validate()
    }

    fn now() -> i64 {
        Timestamp::now().as_second()
    }

    #[test]
    fn times_are_any_json_number() {
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
            let claims = Payload::parse(claims.as_bytes()).and_then(Payload::validate).unwrap();
            assert_eq!(claims.exp, exp, "{text}");
        }
        for exp in [json!("4000000000"), json!(null), json!([4_000_000_000_i64]), json!(true)] {
            assert_eq!(validate(&json!({"sub": "ann", "exp": exp})), Err(TokenError::Invalid));
        }
        for past in [json!(-1), json!(1), json!(1.5), json!(-1e300)] {
            assert_eq!(validate(&json!({"sub": "ann", "exp": past})), Err(TokenError::Expired));
        }
    }

    #[test]
    fn clocks_may_differ_by_the_leeway_and_no_more() {
        let [half, far] = [LEEWAY_SECONDS / 2, LEEWAY_SECONDS * 2];
        let token = |exp: i64, nbf: i64| validate(&json!({"sub": "ann", "exp": exp, "nbf": nbf}));
        assert!(token(now() + far, now() + half).is_ok());
        assert_eq!(token(now() + 2 * far, now() + far), Err(TokenError::Invalid));
        assert!(token(now() - half, 0).is_ok());
        assert_eq!(token(now() - far, 0), Err(TokenError::Expired));
    }

    #[test]
    fn an_unknown_role_is_a_buyers() {
        let role =
            |role: Value| validate(&json!({"sub": "ann", "exp": 4e9, "role": role})).unwrap().role;
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
        assert_eq!(validate(&json!({"sub": "ann", "exp": 4e9})).unwrap().role, Role::Buyer);
    }
}
