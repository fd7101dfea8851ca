//! Certificates of the Redis nodes and of the sale's own database that the operator makes. Takes no client and no
//! clock.
//!
//! Each certificate has an authority of its own, whose key is used once and never stored. A renewal has two steps:
//!
//! 1. Publish: the Secret gets the next certificate under keys that no pod mounts, and `ca.crt` has both authorities.
//! 2. Promote, an hour later: the next certificate becomes the current one. Every client trusts its authority by then.
//!
//! So servers and clients may read the Secret in any order, and no connection fails.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use thiserror::Error;

use super::dereference::SecretData;
use super::names::{CA_CERTIFICATE, TLS_CERTIFICATE, TLS_KEY};

/// Annotation of the Secret: end of the certificate's validity. Without it, the certificate is renewed at once.
pub const EXPIRES: &str = "flashsale.dev/certificate-expires";
/// Annotation: hosts of the certificate.
pub const HOSTS: &str = "flashsale.dev/certificate-hosts";
/// Annotation: when the next certificate becomes the current one.
const PROMOTE_AT: &str = "flashsale.dev/certificate-promote-at";
/// Annotation: end of the next certificate's validity.
const NEXT_EXPIRES: &str = "flashsale.dev/certificate-next-expires";
const NEXT_CERTIFICATE: &str = "next-tls.crt";
const NEXT_KEY: &str = "next-tls.key";

/// Validity of a certificate.
const VALIDITY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A certificate is renewed at two thirds of its validity.
const RENEWED_BEFORE_END: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The validity begins before the certificate is made: clocks differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
/// Time between the steps of a renewal. A kubelet updates a mounted Secret within two minutes.
const PROPAGATION: SignedDuration = SignedDuration::from_hours(1);

/// A certificate could not be made.
#[derive(Debug, Error)]
#[error("cannot make a certificate")]
pub struct Error(#[from] rcgen::Error);

/// Content of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Keys and values.
    pub data: SecretData,
    /// The operator's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a renewal needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The content to write; absent: the Secret stays as it is.
    pub changed: Option<Certificates>,
    /// Time of the next step.
    pub next: Timestamp,
}

/// The step that is due at `now` for the Secret that was `found`, for a certificate of these `hosts`.
///
/// # Errors
/// When a certificate cannot be made.
pub fn renew(
    found: Option<&Certificates>,
    hosts: &[String],
    now: Timestamp,
) -> Result<Renewal, Error> {
    let Some(found) = found.filter(|found| found.is_usable(hosts, now)) else {
        return Ok(Renewal::write(Issued::new(hosts, now)?.replace(found, hosts)));
    };
    let next = found.next_step();
    if now < next {
        return Ok(Renewal { changed: None, next });
    }
    let changed = match found.promoted() {
        Some(promoted) => promoted,
        None => Issued::new(hosts, now)?.publish(found, now),
    };
    Ok(Renewal::write(changed))
}

impl Renewal {
    fn write(changed: Certificates) -> Self {
        Self { next: changed.next_step(), changed: Some(changed) }
    }
}

impl Certificates {
    /// What the operator wrote into the Secret.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let keys = [CA_CERTIFICATE, TLS_CERTIFICATE, TLS_KEY, NEXT_CERTIFICATE, NEXT_KEY];
        let annotations = [EXPIRES, HOSTS, PROMOTE_AT, NEXT_EXPIRES];
        Self {
            data: chosen(secret.data.as_ref(), &keys),
            annotations: chosen(secret.metadata.annotations.as_ref(), &annotations),
        }
    }

    /// Whether the current certificate serves these hosts now.
    fn is_usable(&self, hosts: &[String], now: Timestamp) -> bool {
        let keys = [TLS_CERTIFICATE, TLS_KEY, CA_CERTIFICATE];
        let is_complete =
            keys.iter().all(|key| self.data.get(*key).is_some_and(|it| !it.0.is_empty()));
        let has_hosts = self.annotations.get(HOSTS).is_some_and(|it| *it == hosts.join(","));
        let is_over = self.time(EXPIRES).is_some_and(|end| end <= now);
        is_complete && has_hosts && !is_over
    }

    /// Time of the next step of a renewal.
    fn next_step(&self) -> Timestamp {
        if self.data.contains_key(NEXT_CERTIFICATE) {
            return self.time(PROMOTE_AT).unwrap_or(Timestamp::MIN);
        }
        let end = self.time(EXPIRES).and_then(|end| end.checked_sub(RENEWED_BEFORE_END).ok());
        end.unwrap_or(Timestamp::MIN)
    }

    /// With the next certificate as the current one; `None`: there is no complete next one.
    fn promoted(&self) -> Option<Self> {
        let mut promoted = self.clone();
        let expires = promoted.annotations.remove(NEXT_EXPIRES)?;
        promoted.annotations.remove(PROMOTE_AT);
        promoted.annotations.insert(EXPIRES.to_owned(), expires);
        let certificate = promoted.data.remove(NEXT_CERTIFICATE)?;
        let key = promoted.data.remove(NEXT_KEY)?;
        promoted.data.insert(TLS_CERTIFICATE.to_owned(), certificate);
        promoted.data.insert(TLS_KEY.to_owned(), key);
        Some(promoted)
    }

    fn time(&self, annotation: &str) -> Option<Timestamp> {
        self.annotations.get(annotation)?.parse().ok()
    }

    /// The latest authorities, the last one first. That of the current certificate is the first or the second.
    fn authorities(&self) -> String {
        const END: &str = "-----END CERTIFICATE-----\n";
        let all = self.data.get(CA_CERTIFICATE).map(|all| String::from_utf8_lossy(&all.0));
        let latest = all.as_deref().unwrap_or_default().split_inclusive(END).take(2);
        latest.filter(|one| one.ends_with(END)).collect()
    }
}

/// A certificate, its key and its authority in PEM.
struct Issued {
    authority: String,
    certificate: String,
    key: String,
    expires: Timestamp,
}

impl Issued {
    fn new(hosts: &[String], now: Timestamp) -> Result<Self, Error> {
        let begin = now.checked_sub(CLOCK_SKEW).unwrap_or(now);
        let end = now.checked_add(VALIDITY).unwrap_or(now);
        let params = |hosts: &[String], name: String| -> Result<CertificateParams, Error> {
            let mut params = CertificateParams::new(hosts)?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.serial_number = Some(SerialNumber::from_slice(&serial()));
            let epoch = rcgen::date_time_ymd(1970, 1, 1);
            params.not_before = epoch + since_epoch(begin);
            params.not_after = epoch + since_epoch(end);
            Ok(params)
        };
        // Clients find an authority by its name, so each has its own.
        let mut authority =
            params(&[], format!("flashsale stores {:016x}", rand::random::<u64>()))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();

        let mut leaf = params(hosts, "flashsale store".to_owned())?;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self {
            authority: unix_lines(&authority_pem),
            certificate: unix_lines(&leaf.pem()),
            key: unix_lines(&key.serialize_pem()),
            expires: end,
        })
    }

    /// In use at once. Clients that read the Secret before a server does still trust the server's authority.
    fn replace(self, found: Option<&Certificates>, hosts: &[String]) -> Certificates {
        let previous = found.map(Certificates::authorities).unwrap_or_default();
        let data = [
            (CA_CERTIFICATE, self.authority + &previous),
            (TLS_CERTIFICATE, self.certificate),
            (TLS_KEY, self.key),
        ];
        let annotations = [(EXPIRES, self.expires.to_string()), (HOSTS, hosts.join(","))];
        Certificates {
            data: data.map(|(key, value)| (key.to_owned(), ByteString(value.into()))).into(),
            annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    /// Beside the current certificate.
    fn publish(self, found: &Certificates, now: Timestamp) -> Certificates {
        let mut published = found.clone();
        let promote_at = now.checked_add(PROPAGATION).unwrap_or(now);
        for (key, value) in [
            (CA_CERTIFICATE, self.authority + &found.authorities()),
            (NEXT_CERTIFICATE, self.certificate),
            (NEXT_KEY, self.key),
        ] {
            published.data.insert(key.to_owned(), ByteString(value.into()));
        }
        for (key, time) in [(NEXT_EXPIRES, self.expires), (PROMOTE_AT, promote_at)] {
            published.annotations.insert(key.to_owned(), time.to_string());
        }
        published
    }
}

fn chosen<T: Clone>(all: Option<&BTreeMap<String, T>>, keys: &[&str]) -> BTreeMap<String, T> {
    let value = |key: &&str| Some(((*key).to_owned(), all?.get(*key)?.clone()));
    keys.iter().filter_map(value).collect()
}

/// 16 random bytes as a positive number.
fn serial() -> [u8; 16] {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    bytes
}

fn unix_lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

fn since_epoch(time: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
}
