//! The `fuzz` step: schemathesis makes requests from the API's own OpenAPI document, good and bad
//! ones, as a buyer and as an administrator. No answer may be a 5xx, or one the document does not
//! have.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use testkit::{Postgres, RedisServer, free_port};

use crate::background::Background;
use crate::binaries::Build;
use crate::local::{secret, token};
use crate::shell::{self, command, nice, say};
use crate::tools;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";
/// Cases for each call and role, of the random part.
const CASES: &str = "40";
/// Of each role. The two run at the same time, beside other tests or alone.
const SECONDS: &str = "90";
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// A replica with real stores.
struct Sale {
    _redis: Vec<RedisServer>,
    _postgres: Postgres,
    folder: tempfile::TempDir,
    app: Child,
    api: SocketAddr,
    jwt_secret: String,
}

/// Fuzzes with each role.
pub fn run(check: &mut dyn FnMut(Result<()>)) {
    let prepared = tools::ensure_schemathesis().and_then(|program| Ok((program, Sale::start()?)));
    match prepared {
        Ok((program, sale)) => thread::scope(|scope| {
            let fuzz = |role| {
                let (program, sale) = (&program, &sale);
                let fuzz = move || sale.fuzz(program, role);
                (role, Background::start(scope, fuzz))
            };
            // Both begin before the first is waited for.
            for (role, fuzzing) in ["buyer", "admin"].map(fuzz) {
                let result = fuzzing.and_then(Background::join).and_then(|result| result);
                check(result.with_context(|| format!("fuzzing as {role}")));
            }
        }),
        Err(error) => check(Err(error.context("the fuzzing did not start"))),
    }
}

impl Sale {
    fn start() -> Result<Self> {
        // Not the one package: that would be another choice of features, and another build.
        Build::Test.run()?;
        let redis = RedisServer::start_many(5)?;
        let postgres = Postgres::start()?;
        let database_url = postgres.create_database("fuzz")?;
        let folder = tempfile::tempdir()?;
        let catalog = folder.path().join("catalog.json");
        let products = json!({"products": [
            {"id": "1", "name": "Console", "stock": 1_000_000},
            {"id": "2", "name": "Limited", "stock": 100, "max_per_buyer": 1},
        ]});
        std::fs::write(&catalog, products.to_string())?;
        let nodes: Vec<String> = redis.iter().map(RedisServer::address).collect();
        let [api, internal] =
            [free_port()?, free_port()?].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let jwt_secret = secret()?;
        let app = |subcommand: &str| {
            let mut app = command(Build::Test.program("flashsale-app"));
            app.arg(subcommand)
                .env("DATABASE_URL", &database_url)
                .env("REDIS_NODES", nodes.join(","))
                .env("JWT_SECRET", &jwt_secret)
                .env("CATALOG_FILE", &catalog)
                .env("LISTEN", api.to_string())
                .env("METRICS_LISTEN", internal.to_string())
                // Slow machines are not what is looked for.
                .env("LOCK_NODE_TIMEOUT_SECONDS", "1")
                .env("RUST_LOG", "warn")
                .stdin(Stdio::null());
            app
        };
        shell::run(&mut app("seed"))?;
        let running = nice(&app("serve")).spawn().context("cannot start flashsale-app serve")?;
        let mut sale =
            Self { _redis: redis, _postgres: postgres, folder, app: running, api, jwt_secret };
        sale.await_ready(internal)?;
        Ok(sale)
    }

    fn await_ready(&mut self, internal: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let ready = format!("http://{internal}/readyz");
        while !shell::succeeds(command("curl").args(["--fail", "--silent", &ready])) {
            if let Some(status) = self.app.try_wait()? {
                bail!("the app ended at start: {status}");
            }
            if Instant::now() > deadline {
                bail!("the app is not ready after {READY_TIMEOUT:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn fuzz(&self, program: &std::path::Path, role: &str) -> Result<()> {
        say(&format!("schemathesis, as {role}"));
        let token = token(&self.jwt_secret, role, role)?;
        let mut fuzz = command(program);
        fuzz.args(["run", &format!("http://{}/openapi.json", self.api)])
            .args(["--checks", CHECKS, "--max-examples", CASES, "--max-time", SECONDS])
            .args(["--phases", "examples,coverage,fuzzing", "--generation-deterministic"])
            // These answers have no end.
            .args(["--exclude-path-regex", "/events$"])
            .args(["--continue-on-failure", "--no-color"])
            .args(["--warnings", "off", "--request-timeout", "30"])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .current_dir(self.folder.path());
        let status = nice(&fuzz).status().context("cannot start schemathesis")?;
        // Not the whole line: it has the token.
        anyhow::ensure!(status.success(), "schemathesis found something: {status}");
        Ok(())
    }
}

impl Drop for Sale {
    fn drop(&mut self) {
        let _ = self.app.kill();
        let _ = self.app.wait();
    }
}
