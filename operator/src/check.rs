//! `flashsale-operator check`: the test of a release. It needs the permissions of the operator only.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{Request, Uri};
use clap::Args;
use kube::{Client, Config};

use crate::config::WatchedNamespaces;
use crate::controller::{Scope, can_list};
use crate::error_chain::error_chain;

/// Interval between attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Options of `flashsale-operator check`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// URL of the operator's metrics and probes. A certificate is not verified, as by a kubelet.
    #[arg(long, value_name = "URL")]
    operator: Uri,
    /// Seconds until the check fails.
    #[arg(long, default_value_t = 60)]
    timeout_seconds: u64,
    #[command(flatten)]
    watch: WatchedNamespaces,
}

/// Waits until the operator is ready and its sales can be listed, and says so.
///
/// # Errors
/// When that is not so in time: the reason of the last attempt.
pub async fn check(options: Options) -> Result<()> {
    let api_server = Client::try_default().await.context("cannot connect to an API server")?;
    let mut endpoint = Config::new(options.operator.clone());
    endpoint.accept_invalid_certs = true;
    // Without a list, the system's roots are loaded, and the image has none.
    endpoint.root_cert = Some(Vec::new());
    let operator = Client::try_from(endpoint).context("cannot connect to the operator")?;
    let scope = Scope::of(options.watch.names());

    let mut reason = "no answer".to_owned();
    let attempts = async {
        loop {
            match attempt(&operator, &api_server, &scope).await {
                Ok(readiness) => return readiness,
                Err(error) => reason = format!("{error:#}"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    let timeout = Duration::from_secs(options.timeout_seconds);
    let Ok(readiness) = tokio::time::timeout(timeout, attempts).await else {
        bail!("not within {timeout:?}: {reason}");
    };
    let mut out = std::io::stdout();
    writeln!(out, "the operator at {} is ready: {readiness}", options.operator)
        .and_then(|()| {
            writeln!(out, "FlashSale objects can be listed in these namespaces: {scope}")
        })
        .context("cannot write to stdout")
}

/// What the readiness probe says, if sales can be listed as well.
async fn attempt(operator: &Client, api_server: &Client, scope: &Scope) -> Result<String> {
    let request = Request::get("/readyz").body(Vec::new())?;
    let readiness = operator.request_text(request).await;
    let readiness =
        readiness.map_err(|error| anyhow!("the operator is not ready: {}", error_chain(&error)))?;
    let listed = can_list(api_server, scope).await;
    listed.map_err(|error| anyhow!("cannot list FlashSale objects: {}", error_chain(&error)))?;
    Ok(readiness)
}
