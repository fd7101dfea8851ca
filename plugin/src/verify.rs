//! `verify`: the verdict on a sale, from a Job in its namespace.

use std::process::ExitCode;

use anyhow::{Result, bail};
use flashsale_operator::crd::{FlashSale, Phase, condition};
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::interrupts::Interrupts;
use crate::jobs::Started;
use crate::jobs::build::Tool;
use crate::{sales, terminal};

/// Seconds for the stores to answer, and for a network policy to be in force.
const WAIT_SECONDS: u32 = 60;
/// Seconds until the Job is removed if this command cannot do it.
const KEPT_SECONDS: i32 = 600;
/// Exit status of the tool: PASS, FAIL. Any other: it could not tell.
const JUDGED: [i32; 2] = [0, 1];

/// The flags of `verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It reads the database and the Redis nodes from a Job in the sale's namespace, and buys nothing:
  units of all orders + stock left = stock ever put on sale, for each product
  no buyer has more than maxPerBuyer, nothing is oversold
  the copies of the stock on the nodes agree with the database

Exit status: 0 PASS, 1 FAIL, 2 could not tell.

Examples:
  kubectl flashsale verify -n shop black-friday
  kubectl flashsale verify -n shop black-friday --image registry.example/flashsale-load:0.1.0
  kubectl flashsale verify -n shop black-friday -o json | jq .verdict")]
pub struct Options {
    /// The sale
    name: String,
    /// Image of the load tool (default: that of the replicas, with flashsale-load for flashsale-app)
    #[arg(long)]
    image: Option<String>,
    /// Seconds in which each copy of the stock must agree with the database once
    #[arg(long, default_value_t = 15)]
    settle_seconds: u32,
    /// How the verdict is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// A form of the verdict.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// A line for each rule
    Text,
    /// One JSON object
    Json,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let sale = sales::find(cluster, &options.name).await?;
    let tool = tool(&sale, options)?;
    let started = Started::create(cluster, &sale, &tool, Interrupts::listen()?).await?;
    let ended = started
        .finally_removed(async {
            let pod = started.pod().await?;
            let text = options.output == Output::Text;
            let show = |line: &str| {
                if text {
                    return terminal::result(line);
                }
                terminal::note(line);
                Ok(())
            };
            started.follow(&pod, show).await
        })
        .await?;
    if options.output == Output::Json
        && let Some(report) = &ended.report
    {
        terminal::result(report)?;
    }
    match ended.code.filter(|code| JUDGED.contains(code) && ended.report.is_some()) {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None if ended.report.is_some() => Ok(ExitCode::from(2)),
        None => bail!("the load tool ended without a verdict ({})", ended.reason),
    }
}

/// What the Job runs. A hibernating sale has an external database at most.
fn tool<'a>(sale: &FlashSale, options: &'a Options) -> Result<Tool<'a>> {
    let status = sale.status.as_ref();
    let hibernates = status.is_some_and(|status| status.phase == Phase::Hibernated);
    if hibernates && sale.spec.database.secret_ref.is_none() {
        bail!(
            "the sale {0} hibernates, so its database does not run: kubectl flashsale resume -n {1} {0}",
            sale.name_any(),
            sale.namespace().unwrap_or_default()
        );
    }
    let mut environment = Vec::new();
    // Until the seed is done, the database has another stock than the spec.
    if status.is_some_and(|status| status.is_true(condition::STOCK_SEEDED)) {
        environment.push(("DECLARED_STOCK".to_owned(), declared(sale)));
    }
    Ok(Tool {
        command: "verify",
        arguments: vec![
            "verify".to_owned(),
            format!("--wait-seconds={WAIT_SECONDS}"),
            format!("--settle-seconds={}", options.settle_seconds),
        ],
        environment,
        without: if hibernates { &["REDIS_NODES"] } else { &[] },
        image: options.image.as_deref(),
        deadline_seconds: i64::from(WAIT_SECONDS + options.settle_seconds) + 600,
        kept_seconds: KEPT_SECONDS,
        ..Tool::default()
    })
}

fn declared(sale: &FlashSale) -> String {
    let products = sale.spec.products.iter();
    products.map(|it| format!("{}={}", it.id, it.stock)).collect::<Vec<_>>().join(",")
}
