//! `status`: one sale on one screen, live if wanted, or all sales as a table.

mod screen;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use flashsale_operator::crd::{FlashSale, condition};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::table::{age, table};
use crate::{sales, terminal};

/// The flags of `status`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  kubectl flashsale status -A
  kubectl flashsale status -n shop black-friday
  kubectl flashsale status -n shop black-friday --watch")]
pub struct Options {
    /// The sale; without it, all sales are listed
    name: Option<String>,
    /// Follow the sale until Ctrl-C: live in a terminal, a line for each change elsewhere
    #[arg(short, long, requires = "name")]
    watch: bool,
    /// List the sales of all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let Some(name) = &options.name else {
        let sales = sales::list(cluster, options.all_namespaces).await?;
        if sales.is_empty() {
            let place = if options.all_namespaces { "the cluster" } else { &cluster.namespace };
            terminal::note(format_args!("there is no sale in {place}"));
        } else {
            let sales = list(&sales, options.all_namespaces, Timestamp::now());
            terminal::result(sales.trim_end())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let sale = sales::find(cluster, name).await?;
    if options.watch {
        watch::run(cluster, sale, std::io::stdout().is_terminal()).await?;
    } else {
        terminal::result(screen::screen(&sale, None, Timestamp::now()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of all sales.
fn list(sales: &[FlashSale], with_namespace: bool, now: Timestamp) -> String {
    let headings =
        ["NAME", "PHASE", "READY", "REDIS", "APP", "STOCK", "SOLD", "LEFT", "AGE", "REASON"];
    let namespace = with_namespace.then_some("NAMESPACE");
    let headings = namespace.into_iter().chain(headings).map(str::to_owned).collect();
    let rows = sales.iter().map(|sale| {
        let status = sale.status.as_ref();
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let totals = status.and_then(|status| status.totals);
        let ready = status.and_then(|status| {
            status.conditions.iter().find(|condition| condition.type_ == condition::READY)
        });
        // The reason of a sale that is as it should be says nothing.
        let reason = ready.filter(|ready| ready.status != "True").map(|ready| ready.reason.clone());
        let cells = [
            sale.name_any(),
            text(status.map(|status| status.phase.to_string())),
            text(ready.map(|ready| ready.status.clone())),
            text(status.and_then(|status| Some(status.redis.as_ref()?.summary.clone()))),
            text(status.and_then(|status| Some(status.app.as_ref()?.summary.clone()))),
            text(totals.map(|totals| totals.stock.to_string())),
            text(totals.map(|totals| totals.sold.to_string())),
            text(totals.map(|totals| totals.remaining.to_string())),
            text(sale.creation_timestamp().map(|created| age(created.0, now))),
            reason.unwrap_or_default(),
        ];
        let namespace = with_namespace.then(|| sale.namespace().unwrap_or_default());
        namespace.into_iter().chain(cells).collect()
    });
    table(&[headings].into_iter().chain(rows).collect::<Vec<Vec<String>>>())
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
