//! Authorities, certificates, and their files as the kubelet mounts a Secret.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::unistd::{User, getuid};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::redis::RedisServer;

const DAY: Duration = Duration::from_hours(24);

/// An authority that issues certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate and its key in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new authority with a name of its own.
    ///
    /// # Errors
    /// When its key cannot be made.
    pub fn new() -> Result<Self> {
        let mut params = params(&[], 30)?;
        let name = format!("authority {:016x}", rand::random::<u64>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for `host` that is valid for this many days; it began to be valid two days ago, so -1 is expired.
    ///
    /// # Errors
    /// When its key cannot be made.
    pub fn issue(&self, host: &str, days: i32) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        let certificate = params(&[host.to_owned()], days)?.signed_by(&key, &self.issuer)?.pem();
        Ok(Certificate { certificate, key: key.serialize_pem() })
    }
}

fn params(hosts: &[String], days: i32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(hosts)?;
    let now = rcgen::date_time_ymd(1970, 1, 1) + SystemTime::UNIX_EPOCH.elapsed()?;
    let length = DAY * days.unsigned_abs();
    params.not_before = now - 2 * DAY;
    params.not_after = if days < 0 { now - length } else { now + length };
    Ok(params)
}

/// `tls.crt`, `tls.key` and `ca.crt` as links through `..data`, which the kubelet replaces at once. Redis and PostgreSQL
/// can read them.
#[derive(Debug)]
pub struct TlsFolder {
    folder: TempDir,
}

impl TlsFolder {
    /// The files of this certificate and of the authorities that clients trust, in PEM.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn new(certificate: &Certificate, authorities: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let mounted = Self { folder };
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), mounted.path(name))?;
        }
        mounted.replace(certificate, authorities)?;
        Ok(mounted)
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces all files at once.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn replace(&self, certificate: &Certificate, authorities: &str) -> Result<()> {
        let version = tempfile::Builder::new().prefix("..").tempdir_in(self.folder.path())?.keep();
        std::fs::set_permissions(&version, PermissionsExt::from_mode(0o755))?;
        // PostgreSQL takes a key that is root's and its group's, or its own alone.
        let (group, mode) = if getuid().is_root() {
            let user = User::from_name("postgres")?.context("there is no user postgres")?;
            (Some(user.gid.as_raw()), 0o440)
        } else {
            (None, 0o400)
        };
        for (name, content) in [
            ("tls.crt", certificate.certificate.as_str()),
            ("tls.key", certificate.key.as_str()),
            ("ca.crt", authorities),
        ] {
            let path = version.join(name);
            std::fs::write(&path, content)?;
            chown(&path, None, group)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        }
        symlink(version.file_name().context("a folder has a name")?, self.path("..data_tmp"))?;
        Ok(std::fs::rename(self.path("..data_tmp"), self.path("..data"))?)
    }
}

impl RedisServer {
    /// Accepts TLS too, on `port`, with the present certificate of the folder; until the next restart. Again after a change
    /// of the files: the server then uses them for new connections.
    ///
    /// # Errors
    /// When the server refuses the certificate.
    pub fn use_tls(&self, files: &TlsFolder, port: u16) -> Result<()> {
        let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
        self.command(&format!(
            "CONFIG SET tls-cert-file {} tls-key-file {} tls-auth-clients no tls-port {port}",
            certificate.display(),
            key.display()
        ))
        .map(drop)
    }
}
