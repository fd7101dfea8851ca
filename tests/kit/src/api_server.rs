//! A kube-apiserver and its etcd: nothing else of Kubernetes runs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::port::free_port;

/// Ends both servers when the process that started them ends, however it ends: its end of the pipe closes.
const SUPERVISOR: &str = r#"
cd "$DIR"
etcd --data-dir etcd --listen-client-urls "$ETCD" --advertise-client-urls "$ETCD" \
  --listen-peer-urls http://127.0.0.1:0 --unsafe-no-fsync --log-level error >etcd.log 2>&1 &
etcd=$!
start() {
  "$APISERVER" --etcd-servers "$ETCD" --bind-address 127.0.0.1 --secure-port "$PORT" --cert-dir certs \
    --token-auth-file tokens --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/16 \
    --service-account-issuer https://test --service-account-key-file sa.key \
    --service-account-signing-key-file sa.key --disable-admission-plugins ServiceAccount \
    --profiling=false $OPTIONS >>apiserver.log 2>&1 &
  apiserver=$!
}
start
while read -r command; do
  case $command in
    kill) kill -9 "$apiserver"; wait "$apiserver" ;;
    start) start ;;
  esac
done
kill "$apiserver" "$etcd"
wait
rm -rf "$DIR"
"#;

/// For a log of the audited user's requests, in one file: without a size, a new one is begun after 100 MB. The admission
/// plugin is one that strict clusters have.
const AUDIT: &str = "--audit-policy-file=policy --audit-log-path=audit.log --audit-log-maxsize=100000 \
  --enable-admission-plugins=OwnerReferencesPermissionEnforcement";

/// A user; the name is the token too.
#[derive(Debug, Clone, Copy)]
pub struct ApiUser<'a> {
    /// Name and token.
    pub name: &'a str,
    /// Group, such as `system:masters`.
    pub group: &'a str,
}

/// Both servers. They end with this process, not with this value.
#[derive(Debug)]
pub struct ApiServer {
    port: u16,
    dir: PathBuf,
    supervisor: Mutex<ChildStdin>,
}

impl ApiServer {
    /// Starts both servers with the program in the folder `bin`; they are not ready yet. The requests of the user
    /// `audited` are logged.
    ///
    /// # Errors
    /// When the program or openssl is missing.
    pub fn start(bin: &Path, users: &[ApiUser<'_>], audited: Option<&str>) -> Result<Self> {
        let apiserver = bin.join("kube-apiserver");
        ensure!(apiserver.exists(), "no {}: set FLASHSALE_CLUSTER_BIN", apiserver.display());
        let dir = tempfile::tempdir()?.keep();
        let token = |user: &ApiUser<'_>| format!("{0},{0},{0},{1}\n", user.name, user.group);
        std::fs::write(dir.join("tokens"), users.iter().map(token).collect::<String>())?;
        let audit = match audited {
            Some(user) => {
                let policy = format!(
                    r#"{{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                        "rules": [{{"level": "Metadata", "users": ["{user}"]}}, {{"level": "None"}}]}}"#
                );
                std::fs::write(dir.join("policy"), policy)?;
                AUDIT
            }
            None => "",
        };
        let key = Command::new("openssl").args(["genrsa", "-out"]).arg(dir.join("sa.key")).output();
        ensure!(key.context("openssl")?.status.success(), "openssl made no key");
        let port = free_port()?;
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR])
            .env("DIR", &dir)
            .env("OPTIONS", audit)
            .env("APISERVER", apiserver)
            .env("PORT", port.to_string())
            .env("ETCD", format!("http://127.0.0.1:{}", free_port()?))
            .stdin(Stdio::piped())
            // It outlives the test for a moment, and must not hold its output.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let lifeline = supervisor.stdin.take().context("the supervisor has no input")?;
        Ok(Self { port, dir, supervisor: Mutex::new(lifeline) })
    }

    /// Kills the API server; its etcd runs on.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn kill(&self) -> Result<()> {
        self.tell("kill")
    }

    /// Starts the killed API server again; it is not ready yet.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn start_again(&self) -> Result<()> {
        self.tell("start")
    }

    fn tell(&self, command: &str) -> Result<()> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(supervisor, "{command}").context("the supervisor is gone")
    }

    /// Such as `https://127.0.0.1:11000`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The log of the audited user's requests, an object a line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// A kubeconfig for other programs.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> String {
        let server = self.url();
        format!(
            r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "test",
                "contexts": [{{"name": "test", "context": {{"cluster": "test", "user": "test"}}}}],
                "clusters": [{{"name": "test",
                    "cluster": {{"server": "{server}", "insecure-skip-tls-verify": true}}}}],
                "users": [{{"name": "test", "user": {{"token": "{user}"}}}}]}}"#
        )
    }
}
