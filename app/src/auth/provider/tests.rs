//! With real keys from openssl.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::auth::{Role, Tokens};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const FAR: i64 = 4_000_000_000;

struct Signer {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The JWK.
    public: Value,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: &str) -> Self {
        let (family, option) = match algorithm {
            Algorithm::EdDSA => ("ed25519", None),
            Algorithm::ES256 => ("EC", Some("ec_paramgen_curve:P-256")),
            _ => ("RSA", Some("rsa_keygen_bits:2048")),
        };
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", family]);
        openssl.args(option.iter().flat_map(|option| ["-pkeyopt", option]));
        let pem = openssl.output().unwrap().stdout;
        let private = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
            _ => EncodingKey::from_rsa_pem(&pem),
        }
        .unwrap();
        let public = Jwk::from_encoding_key(&private, algorithm).unwrap();
        let mut public = serde_json::to_value(public).unwrap();
        public["kid"] = kid.into();
        Self { algorithm, private, public }
    }

    fn all() -> [Self; 3] {
        [
            Self::new(Algorithm::EdDSA, "ed"),
            Self::new(Algorithm::ES256, "es"),
            Self::new(Algorithm::RS256, "rs"),
        ]
    }

    fn kid(&self) -> &str {
        self.public["kid"].as_str().unwrap()
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.private).unwrap()
    }
}

fn ann() -> Value {
    json!({"sub": "ann", "exp": FAR})
}

fn write(folder: &TempDir, keys: &[&Value]) -> PathBuf {
    let file = folder.path().join("jwks.json");
    // Replaced atomically, like a mounted Secret.
    let next = folder.path().join("next.json");
    std::fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
    std::fs::rename(next, &file).unwrap();
    file
}

fn config(file: PathBuf) -> ProviderConfig {
    ProviderConfig { file, issuer: None, audience: None }
}

fn trusting(signers: &[&Signer]) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.public).collect();
    let provider = Provider::read(config(write(&folder, &keys))).unwrap();
    Tokens::new(SECRET).trusting(Arc::new(provider))
}

#[test]
fn accepts_tokens_of_each_algorithm() {
    let signers = Signer::all();
    let tokens = trusting(&signers.each_ref());
    for signer in &signers {
        let token = signer.sign(Some(signer.kid()), &ann());
        // The second time from the cache.
        for _ in 0..2 {
            let claims = tokens.verify(&token).unwrap();
            assert_eq!((claims.sub.as_str(), claims.role), ("idp:ann", Role::Buyer));
        }
        let mut admin = ann();
        admin["role"] = "admin".into();
        let token = signer.sign(Some(signer.kid()), &admin);
        assert_eq!(tokens.verify(&token).unwrap().role, Role::Admin);
        admin["role"] = json!(["admin", "customer"]);
        let token = signer.sign(Some(signer.kid()), &admin);
        assert_eq!(tokens.verify(&token).unwrap().role, Role::Buyer);
    }
    // Our own tokens are accepted too.
    let (own, _) = tokens.sign("ann", Role::Buyer).unwrap();
    assert_eq!(tokens.verify(&own).unwrap().sub, "ann");
}

#[test]
fn a_key_accepts_only_its_own_algorithm() {
    let signers = Signer::all();
    let tokens = trusting(&signers.each_ref());
    for signer in &signers {
        for other in signers.iter().filter(|other| other.kid() != signer.kid()) {
            let token = signer.sign(Some(other.kid()), &ann());
            assert_eq!(tokens.verify(&token), Err(TokenError::Invalid), "{}", other.kid());
        }
        let unknown = signer.sign(Some("unknown"), &ann());
        assert_eq!(tokens.verify(&unknown), Err(TokenError::Invalid));
        // With several keys, a token must name its own.
        assert_eq!(tokens.verify(&signer.sign(None, &ann())), Err(TokenError::Invalid));
        assert_eq!(trusting(&[signer]).verify(&signer.sign(None, &ann())).unwrap().exp, FAR);
        // Another key under the same name.
        let impostor = Signer::new(signer.algorithm, signer.kid());
        let forged = impostor.sign(Some(signer.kid()), &ann());
        assert_eq!(tokens.verify(&forged), Err(TokenError::Invalid));
        // The same family, but not the key's algorithm.
        if signer.algorithm == Algorithm::RS256 {
            let header = Header { kid: Some("rs".to_owned()), ..Header::new(Algorithm::PS256) };
            let token = encode(&header, &ann(), &signer.private).unwrap();
            assert_eq!(tokens.verify(&token), Err(TokenError::Invalid));
        }
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    let signers = Signer::all();
    let tokens = trusting(&signers.each_ref());
    for signer in &signers {
        // The public parts of the key, in each form that could be mistaken for a secret.
        let mut guesses: Vec<Vec<u8>> = vec![signer.public.to_string().into_bytes()];
        for part in ["x", "y", "n"] {
            let Some(text) = signer.public[part].as_str() else { continue };
            guesses.push(text.as_bytes().to_vec());
            guesses.push(URL_SAFE_NO_PAD.decode(text).unwrap());
        }
        for guess in guesses {
            for kid in [None, Some(signer.kid().to_owned())] {
                let header = Header { kid, ..Header::new(Algorithm::HS256) };
                let token = encode(&header, &ann(), &EncodingKey::from_secret(&guess)).unwrap();
                assert_eq!(tokens.verify(&token), Err(TokenError::Invalid));
            }
        }
    }
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": "ed"}).to_string());
    let unsigned = format!("{header}.{}.", URL_SAFE_NO_PAD.encode(ann().to_string()));
    assert_eq!(tokens.verify(&unsigned), Err(TokenError::Invalid));
}

#[test]
fn claims_are_checked() {
    let signer = Signer::new(Algorithm::EdDSA, "ed");
    let folder = tempfile::tempdir().unwrap();
    let config = ProviderConfig {
        issuer: Some("shop".to_owned()),
        audience: Some("sale".to_owned()),
        ..config(write(&folder, &[&signer.public]))
    };
    let provider = Provider::read(config).unwrap();
    let tokens = Tokens::new(SECRET).trusting(Arc::new(provider));
    let good = json!({"sub": "ann", "exp": FAR, "iss": "shop", "aud": ["sale", "mail"]});
    let verify = |changes: Value| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims = claims.as_object_mut().unwrap();
        claims.retain(|_, value| !value.is_null());
        tokens.verify(&signer.sign(Some("ed"), &json!(claims)))
    };
    assert!(verify(json!({})).is_ok());
    assert_eq!(verify(json!({"exp": 1})), Err(TokenError::Expired));
    for wrong in [
        json!({"iss": "elsewhere"}),
        json!({"iss": null}),
        json!({"aud": "mail"}),
        json!({"aud": null}),
        json!({"nbf": FAR - 1}),
        json!({"exp": null}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": "a\0"}),
        json!({"sub": "x".repeat(256)}),
    ] {
        assert_eq!(verify(wrong.clone()), Err(TokenError::Invalid), "{wrong}");
    }
    for right in [
        json!({"exp": 4_000_000_000.5}),
        json!({"exp": 4e9}),
        json!({"nbf": Timestamp::now().as_second() + 1}),
        json!({"role": "customer"}),
        json!({"role": ["admin"]}),
        json!({"iss": ["shop", "elsewhere"]}),
    ] {
        assert_eq!(verify(right.clone()).map(|claims| claims.role), Ok(Role::Buyer), "{right}");
    }
    // An unknown extension may change the meaning of the token.
    let header = Header {
        kid: Some("ed".to_owned()),
        crit: Some(vec!["b64".to_owned()]),
        ..Header::new(Algorithm::EdDSA)
    };
    let token = encode(&header, &good, &signer.private).unwrap();
    assert_eq!(tokens.verify(&token), Err(TokenError::Invalid));
}

#[tokio::test]
async fn the_file_is_reloaded_when_it_changes() {
    let [first, second] = ["first", "second"].map(|kid| Signer::new(Algorithm::EdDSA, kid));
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, &[&first.public]);
    let provider = Arc::new(Provider::read(config(file.clone())).unwrap());
    let tokens = Tokens::new(SECRET).trusting(Arc::clone(&provider));
    let [old, new] = [&first, &second].map(|signer| signer.sign(Some(signer.kid()), &ann()));
    assert!(tokens.verify(&old).is_ok());
    assert!(tokens.verify(&new).is_err());

    write(&folder, &[&first.public, &second.public]);
    provider.reload_if_changed().await.unwrap();
    assert!(tokens.verify(&old).is_ok() && tokens.verify(&new).is_ok());

    // An unusable file changes nothing.
    std::fs::write(&file, "{").unwrap();
    assert!(provider.reload_if_changed().await.is_err());
    assert!(tokens.verify(&old).is_ok() && tokens.verify(&new).is_ok());

    // Tokens of a removed key are refused, even if they were cached.
    write(&folder, &[&second.public]);
    provider.reload_if_changed().await.unwrap();
    assert_eq!(tokens.verify(&old), Err(TokenError::Invalid));
    assert!(tokens.verify(&new).is_ok());
}

#[test]
fn unusable_keys_are_refused_or_skipped() {
    let signer = Signer::new(Algorithm::EdDSA, "ed");
    let folder = tempfile::tempdir().unwrap();
    let read = |keys: &[&Value]| Provider::read(config(write(&folder, keys)));
    let secret = json!({"kty": "oct", "kid": "ed", "alg": "HS256", "k": "c2VjcmV0"});
    let mut encryption = signer.public.clone();
    encryption["use"] = "enc".into();
    let mut elsewhere = Signer::new(Algorithm::RS256, "rs").public;
    elsewhere["alg"] = "RS512".into();
    let others = [&secret, &encryption, &elsewhere];
    assert!(matches!(read(&others), Err(ProviderError::Empty)));
    assert!(read(&[&others[..], &[&signer.public]].concat()).is_ok());
    let mut short = signer.public.clone();
    short["x"] = "AAAA".into();
    let weak = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"});
    let weak_named = json!({"kty": "RSA", "kid": "weak", "n": weak["n"], "e": "AQAB"});
    let no_text = json!({"kty": 1, "kid": "ed"});
    let ones = URL_SAFE_NO_PAD.encode([1; 32]);
    let no_point = json!({"kty": "EC", "crv": "P-256", "x": ones, "y": ones});
    for unusable in [&short, &weak, &weak_named, &no_text, &no_point, &json!("ed")] {
        assert!(matches!(read(&[unusable]), Err(ProviderError::Key(..))), "{unusable}");
        // Other keys stay in use.
        let provider = Arc::new(read(&[unusable, &signer.public]).unwrap());
        let tokens = Tokens::new(SECRET).trusting(provider);
        assert!(tokens.verify(&signer.sign(Some("ed"), &ann())).is_ok(), "{unusable}");
    }
    let both = json!({"keys": [weak_named, signer.public]}).to_string();
    let (_, skipped) = KeySet::parse(both, &config(PathBuf::new())).unwrap();
    let [skipped] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(
        skipped.to_string(),
        "key \"weak\" is no good RS256 key: n must have 2048 to 4096 bits"
    );
    let none = Provider::read(config(folder.path().join("none")));
    assert!(matches!(none, Err(ProviderError::Read { .. })));
}
