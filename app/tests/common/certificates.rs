//! A certificate authority, and certificates in files as the kubelet mounts a Secret.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uuid::Uuid;

const CONFIG: &str = "[req]\ndistinguished_name=name\n[name]\n\
    [authority]\nbasicConstraints=critical,CA:true\n\
    [server]\nbasicConstraints=CA:false\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";

/// Certificate and key in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("openssl.cnf"), CONFIG).unwrap();
        let authority = Self { folder };
        authority.openssl("ca", 30, &["-extensions", "authority"]);
        authority
    }

    /// The authority's own certificate in PEM.
    pub fn certificate(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ca.crt")).unwrap()
    }

    /// A certificate for `localhost` that is valid for this many days.
    pub fn issue(&self, days: u32) -> Pair {
        self.openssl(
            "server",
            days,
            &["-extensions", "server", "-CA", "ca.crt", "-CAkey", "ca.key"],
        );
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        Pair { certificate: read("server.crt"), key: read("server.key") }
    }

    fn openssl(&self, name: &str, days: u32, arguments: &[&str]) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-nodes"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={name}")])
            .args(["-days", &days.to_string()])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// `tls.crt` and `tls.key` as links through `..data`, which the kubelet replaces at once.
pub struct MountedSecret {
    folder: TempDir,
}

impl MountedSecret {
    pub fn new(pair: &Pair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tls.crt", "tls.key"] {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        }
        let secret = Self { folder };
        secret.replace(pair);
        secret
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn replace(&self, pair: &Pair) {
        let version = format!("..{}", Uuid::now_v7());
        std::fs::create_dir(self.path(&version)).unwrap();
        std::fs::write(self.path(&version).join("tls.crt"), &pair.certificate).unwrap();
        std::fs::write(self.path(&version).join("tls.key"), &pair.key).unwrap();
        std::os::unix::fs::symlink(version, self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }
}
