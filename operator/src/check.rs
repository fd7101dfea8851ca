//! `flashsale-operator check`: the test of a release. It needs the permissions of the operator only.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::{Request, Uri};
use clap::Args;
use kube::{Client, Config};

use crate::config::WatchedNamespaces;
use crate::controller::{Scope, can_list};

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
    let operator = Client::try_from(endpoint).context("cannot connect to the operator")?;
    let scope = Scope::of(options.watch.namespaces);

    let mut reason = String::new();
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
    println!("the operator at {} is ready: {readiness}", options.operator);
    println!("FlashSale objects can be listed in these namespaces: {scope}");
    Ok(())
}

/// What the readiness probe says, if sales can be listed as well.
async fn attempt(operator: &Client, api_server: &Client, scope: &Scope) -> Result<String> {
    let request = Request::get("/readyz").body(Vec::new())?;
    let readiness = operator.request_text(request).await.context("the operator is not ready")?;
    can_list(api_server, scope).await.context("cannot list FlashSale objects")?;
    Ok(readiness)
}
