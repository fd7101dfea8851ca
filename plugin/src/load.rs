//! `load`: a load scenario against a sale, as a Job in its namespace.

use std::process::ExitCode;

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::names::{METRICS_PORT, pods, service_port};
use kube::ResourceExt;

use crate::cluster::Cluster;
use crate::jobs::Started;
use crate::jobs::build::Tool;
use crate::{report, sales};

/// The Job and its log are kept for a week.
const KEPT_SECONDS: i32 = 7 * 24 * 3600;

/// The flags of `load`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The run buys for real. Its report is the log of the Job, which is kept for a week: kubectl flashsale report NAME.
Ctrl-C ends this command, not the run.

Exit status: 0 PASS, 1 FAIL, 2 no verdict.

Examples:
  kubectl flashsale load -n shop black-friday --scenario v3-redlock
  kubectl flashsale load -n shop black-friday --scenario sustained --detach")]
pub struct Options {
    /// The sale
    name: String,
    /// A scenario of the load tool; an unknown name lists them
    #[arg(long)]
    scenario: String,
    /// The product to buy
    #[arg(long, default_value = "1")]
    product: String,
    /// Image of the load tool (default: that of the replicas, with flashsale-load for flashsale-app)
    #[arg(long)]
    image: Option<String>,
    /// Do not fail for a missed timing target; correctness always counts
    #[arg(long)]
    ignore_timing: bool,
    /// Seconds after which Kubernetes ends the run
    #[arg(long, default_value_t = 7200)]
    deadline_seconds: u32,
    /// Return as soon as the run has begun
    #[arg(long)]
    detach: bool,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let sale = sales::find(cluster, &options.name).await?;
    let tool = tool(&sale, options)?;
    let started = Started::create(cluster, &sale, &tool).await?;
    let pod = match started.pod().await {
        Ok(pod) => pod,
        Err(error) => return Err(started.remove_after(error).await),
    };
    eprintln!("the Job {} runs in the namespace {}", started.job, cluster.namespace);
    if options.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::select! {
        ended = started.follow(&pod, |line| println!("{line}")) => ended?,
        _ = tokio::signal::ctrl_c() => {
            bail!(
                "the run goes on: kubectl flashsale report -n {0} {1} has its report, and kubectl delete job -n {0} {2} \
                 ends it",
                cluster.namespace, options.name, started.job
            );
        }
    };
    started.close().await;
    report::exit_code(&ended)
}

fn tool<'a>(sale: &FlashSale, options: &'a Options) -> Result<Tool<'a>> {
    let name = sale.name_any();
    if sale.spec.app.tls.is_some() {
        bail!("the sale {name} has app.tls, and the load tool speaks plain HTTP only");
    }
    let known = sale.spec.products.iter().any(|product| product.id == options.product);
    let counted = sale.status.iter().flat_map(|status| &status.products);
    if !known && !counted.into_iter().any(|product| product.id == options.product) {
        let ids: Vec<&str> = sale.spec.products.iter().map(|product| product.id.as_str()).collect();
        bail!("the sale {name} has no product {}; there are: {}", options.product, ids.join(", "));
    }
    let mut arguments = ["run", "--scenario", &options.scenario, "--wait-seconds", "60"]
        .map(str::to_owned)
        .to_vec();
    if options.ignore_timing {
        arguments.extend(["--targets", "report"].map(str::to_owned));
    }
    let url = format!("http://{name}:{}", service_port(&sale.spec.app));
    let metrics = format!("{}:{METRICS_PORT}", pods(&name));
    Ok(Tool {
        command: "load",
        arguments,
        environment: vec![
            ("SALE_URL".to_owned(), url),
            ("METRICS_HOST".to_owned(), metrics),
            ("PRODUCT_ID".to_owned(), options.product.clone()),
        ],
        signs_tokens: true,
        image: options.image.as_deref(),
        deadline_seconds: i64::from(options.deadline_seconds),
        kept_seconds: KEPT_SECONDS,
        ..Tool::default()
    })
}
