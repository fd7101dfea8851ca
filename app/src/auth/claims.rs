//! The claims of a token. The same rules hold for our own key and for the identity provider's.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

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

/// The claims as encoded in a token. `sub` and `exp` are required. Signers differ in the types of
/// the others.
#[derive(Deserialize)]
pub(super) struct Payload {
    pub sub: String,
    exp: Number,
    nbf: Option<Number>,
    pub iss: Option<Value>,
    role: Option<Value>,
}

/// Rules for `jsonwebtoken`: it checks the signature and leaves the claims to [`Payload::validate`].
pub(super) fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// Seconds since 1970 (RFC 7519): any JSON number. A fraction is truncated.
fn seconds(date: &Number) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "truncates and saturates")]
    let rounded = || date.as_f64().unwrap_or_default() as i64;
    date.as_i64().unwrap_or_else(rounded)
}

impl Payload {
    /// The claims, if they are valid now. An unknown role counts as a buyer's, because a shop may have
    /// roles of its own.
    pub(super) fn validate(self) -> Result<Claims, TokenError> {
        let now = Timestamp::now().as_second();
        let admin = self.role.is_some_and(|role| role == "admin");
        let role = if admin { Role::Admin } else { Role::Buyer };
        let claims = Claims { sub: self.sub, exp: seconds(&self.exp), role };
        if claims.have_expired(now) {
            return Err(TokenError::Expired);
        }
        let started = self.nbf.is_none_or(|nbf| seconds(&nbf) <= now + LEEWAY_SECONDS);
        // An empty `sub` identifies nobody, and PostgreSQL stores no NUL.
        let named = !claims.sub.is_empty() && claims.sub.len() <= 256 && !claims.sub.contains('\0');
        (started && named).then_some(claims).ok_or(TokenError::Invalid)
    }
}

/// The most bytes of a claim that stands for a person.
const MAX_PERSON: usize = 256;

/// What a claim of a token says, if it can stand for a person: a text that is not blank, or a whole number. The token was
/// verified before.
#[must_use]
pub(crate) fn person(token: &str, claim: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    match claims.get(claim)? {
        Value::String(text) => {
            let is_usable = !text.trim().is_empty() && text.len() <= MAX_PERSON;
            is_usable.then(|| text.clone())
        }
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(claims: &str) -> Result<Payload, TokenError> {
        serde_json::from_str(claims).map_err(|_| TokenError::Invalid)
    }

    fn validate(claims: &Value) -> Result<Claims, TokenError> {
        parse(&claims.to_string())?.validate()
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
            let claims = parse(&claims).and_then(Payload::validate).unwrap();
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
    fn a_person_is_a_text_or_a_whole_number() {
        let person = |value: Value| {
            let payload = json!({"sub": "ann", "https://shop.example/person": value}).to_string();
            let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
            person(&token, "https://shop.example/person")
        };
        assert_eq!(person(json!("p-1")).as_deref(), Some("p-1"));
        assert_eq!(person(json!(4711)), person(json!("4711")));
        assert_eq!(person(json!(u64::MAX)).as_deref(), Some("18446744073709551615"));
        for none in [
            json!(null),
            json!(""),
            json!(" \t"),
            json!("x".repeat(257)),
            json!(1.5),
            json!(1e30),
            json!(true),
            json!(["p-1"]),
            json!({"id": "p-1"}),
        ] {
            assert_eq!(person(none.clone()), None, "{none}");
        }
        assert_eq!(super::person("e30.e30.c2ln", "person"), None);
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
