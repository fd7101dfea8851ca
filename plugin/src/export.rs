//! `orders export`: all orders, from the database through a pod to a file or stdout.
//!
//! The load tool writes them to its stdout inside the pod, and the API server streams it. A log would be the other way: it
//! is rotated after 10 MiB, and it would leave the buyers on the machine and in whatever collects logs.

mod receive;
mod wake;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use flashsale_operator::crd::{FlashSale, Phase, Strategy};
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use kube::{Api, ResourceExt};

use self::receive::{Received, receive};
use crate::cluster::{Cluster, Explained};
use crate::interrupts::Interrupts;
use crate::jobs::Started;
use crate::jobs::build::{CONTAINER, Tool};
use crate::partial::to_file;
use crate::sales;
use crate::table::parse_duration;
use crate::terminal::note;

/// Bytes of the stream that are in memory.
const BUFFER: usize = 64 << 10;
/// Seconds for the database to answer, and for a network policy to be in force.
const WAIT_SECONDS: u32 = 60;
/// Seconds until the Job is removed if this command cannot do it.
const KEPT_SECONDS: i32 = 600;

/// The flags of `orders export`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Columns: id, line, product, buyer, quantity, state (pending, confirmed, paid, cancelled, payment_failed,
expired, refund_required, refunded), payment_reference, created_at (UTC), amount (of the line, in the smallest unit
of the currency), currency. An order of several products has a line for each.
The export is one moment of the database. A cut stream is an error, never a shorter file.

Examples:
  kubectl flashsale orders export -n shop black-friday --format csv -o orders.csv
  kubectl flashsale orders export -n shop black-friday --format ndjson | jq -r .buyer
  kubectl flashsale orders export -n shop black-friday -o orders.csv --wake     (a hibernated sale)")]
pub struct Options {
    /// The sale
    name: String,
    /// The format
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// File to write (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Wake a hibernated sale for the export, and let it hibernate again, also after an error or Ctrl-C; an unfinished sale
    /// sells meanwhile
    #[arg(long)]
    wake: bool,
    /// Image of the load tool (default: that of the replicas, with flashsale-load for flashsale-app)
    #[arg(long)]
    image: Option<String>,
    /// How long the export may take
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    timeout: Duration,
}

/// A format of the orders.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// RFC 4180, with a header
    Csv,
    /// One JSON object a line
    Ndjson,
}

impl Format {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let sale = sales::find(cluster, &options.name).await?;
    let work =
        async |interrupts: Interrupts| Box::pin(export(cluster, &sale, options, interrupts)).await;
    let received = if must_wake(cluster, &sale, options)? {
        Box::pin(wake::awake(cluster, &options.name, work)).await?
    } else {
        work(Interrupts::listen()?).await?
    };
    note(format_args!("{} lines of orders, {} bytes", received.rows, received.bytes));
    if sale.spec.strategy == Strategy::Atomic {
        note(
            "note: with strategy Atomic, orders reach the database a moment later; flashsale_orders_unrecorded counts \
             those that are missing here",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the database does not run, and the sale may be woken for it.
fn must_wake(cluster: &Cluster, sale: &FlashSale, options: &Options) -> Result<bool> {
    let phase = sale.status.as_ref().map(|status| status.phase);
    if phase != Some(Phase::Hibernated) || sale.spec.database.secret_ref.is_some() {
        return Ok(false);
    }
    let (name, namespace) = (sale.name_any(), &cluster.namespace);
    if !options.wake {
        bail!(
            "the sale {name} hibernates, so its database does not run: add --wake, or use kubectl flashsale resume -n \
             {namespace} {name} and hibernate"
        );
    }
    Ok(true)
}

async fn export(
    cluster: &Cluster,
    sale: &FlashSale,
    options: &Options,
    interrupts: Interrupts,
) -> Result<Received> {
    let seconds = options.timeout.as_secs();
    let tool = Tool {
        command: "orders",
        // The pod waits; the tool is started in it when somebody listens.
        program: Some("sleep"),
        arguments: vec![seconds.to_string()],
        image: options.image.as_deref(),
        deadline_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        kept_seconds: KEPT_SECONDS,
        ..Tool::default()
    };
    let started = Started::create(cluster, sale, &tool, interrupts).await?;
    started
        .finally_removed(async {
            let pod = started.pod().await?;
            match &options.output {
                Some(file) => {
                    to_file(file, async |out| stream(cluster, &pod, options, out).await).await
                }
                None => stream(cluster, &pod, options, &mut io::stdout().lock()).await,
            }
        })
        .await
}

async fn stream(
    cluster: &Cluster,
    pod: &str,
    options: &Options,
    out: &mut impl Write,
) -> Result<Received> {
    let pods: Api<Pod> = Api::namespaced(cluster.upgrading()?, &cluster.namespace);
    let wait = format!("--wait-seconds={WAIT_SECONDS}");
    let command = ["flashsale-load", "orders", "--format", options.format.as_str(), &wait];
    let params = AttachParams::default()
        .container(CONTAINER)
        .stdin(false)
        .stdout(true)
        .stderr(true)
        .max_stdout_buf_size(BUFFER);
    let mut process = pods.exec(pod, command, &params).await.explained(cluster)?;
    let status = process.take_status().context("the process has no status")?;
    let stdout = process.stdout().context("the process has no stdout")?;
    let stderr = process.stderr().context("the process has no stderr")?;
    receive(stdout, stderr, status, out).await
}
