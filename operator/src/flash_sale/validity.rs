//! The end of validity of the certificate of the stores.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::dereference::SecretData;
use super::names::{CA_CERTIFICATE, TLS_CERTIFICATE};

/// The end of validity of `tls.crt`; `None`: it cannot be read, or is later than any timestamp.
// rustls reads a certificate only to verify it, and tells the end of its validity in the error that it is over. So it is
// verified at the end of all time. Nothing else is judged: the validity is the first that is verified.
#[must_use]
pub fn not_after(data: &SecretData) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_slice(&data.get(TLS_CERTIFICATE)?.0).ok()?;
    let authorities = CertificateDer::pem_slice_iter(&data.get(CA_CERTIFICATE)?.0);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.map_while(Result::ok));
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let end_of_time = UnixTime::since_unix_epoch(Duration::MAX);
    let refused = verifier.verify_server_cert(&certificate, &[], &name, &[], end_of_time);
    let Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) =
        refused
    else {
        return None;
    };
    Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
}
