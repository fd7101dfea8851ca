//! `load`: a load scenario against a sale, as a Job in its namespace.

mod meanwhile;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::names::{METRICS_PORT, pods, service_port};
use kube::ResourceExt;
use load_scenarios::{Kind, Scenario, positive_seconds};

use self::meanwhile::{Meanwhile, Shell};
use crate::cluster::Cluster;
use crate::interrupts::Interrupts;
use crate::jobs::build::Tool;
use crate::jobs::{Ended, Started};
use crate::{report, sales, terminal};

/// Seconds after which Kubernetes ends a run whose scenario does not take longer.
const DEADLINE_SECONDS: u64 = 7200;
/// The Job and its log are kept for a week.
const KEPT_SECONDS: i32 = 7 * 24 * 3600;
/// What the tool's lines of progress have: the users have started.
const PROGRESS: &str = " users done";

/// The flags of `load`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The run buys for real. Its report is the log of the Job, which is kept for a week: kubectl flashsale report NAME.
Ctrl-C ends this command, not the run.

Exit status: 0 PASS, 1 FAIL, 2 no verdict.

Examples:
  kubectl flashsale load -n shop black-friday --scenario v3-redlock
  kubectl flashsale load -n shop black-friday --scenario hundred-thousand --pods 8
  kubectl flashsale load -n shop black-friday --scenario v3-one-node-stopped --meanwhile run
  kubectl flashsale load -n shop black-friday --scenario soak --seconds 300 --meanwhile skip
  kubectl flashsale load -n shop black-friday --scenario sustained --detach")]
pub struct Options {
    /// The sale
    name: String,
    /// A scenario of the load tool; an unknown name lists them
    #[arg(long)]
    scenario: String,
    /// The product to buy, unless the scenario names its own
    #[arg(long, default_value = "1")]
    product: String,
    /// Seconds after which no more users start (default: the scenario's)
    #[arg(long, value_parser = positive_seconds)]
    seconds: Option<Duration>,
    /// Pods that share the users (default: the scenario's)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: Option<u32>,
    /// Whether this command runs what the scenario does to the sale in the middle, such as stopping Redis nodes; required if
    /// there is something
    #[arg(long, value_enum)]
    meanwhile: Option<WhatHappens>,
    /// Image of the load tool (default: that of the replicas, with flashsale-load for flashsale-app)
    #[arg(long)]
    image: Option<String>,
    /// Do not fail for a missed timing target; correctness always counts
    #[arg(long)]
    ignore_timing: bool,
    /// Seconds after which Kubernetes ends the run (default: 7200, or what the scenario needs if it is more)
    #[arg(long)]
    deadline_seconds: Option<u32>,
    /// Return as soon as the run has begun
    #[arg(long)]
    detach: bool,
}

/// What becomes of a scenario's commands.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum WhatHappens {
    /// They run here, with your kubectl and your rights
    Run,
    /// They do not run; the verdict fails if it expects what they do
    Skip,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let mut scenario = Scenario::named(&options.scenario)?;
    if let Some(time) = options.seconds {
        scenario = scenario.lasting(time)?;
    }
    check_deadline(&scenario, options)?;
    check_meanwhile(cluster, &scenario, options)?;
    let sale = sales::find(cluster, &options.name).await?;
    check(&sale, &scenario, options)?;
    let tool = tool(&sale, &scenario, options);
    let started = Started::create(cluster, &sale, &tool, Interrupts::listen()?).await?;
    let left = |how: &str| {
        anyhow::anyhow!(
            "the run {how}: kubectl flashsale report -n {0} {1} has its report, and kubectl delete job -n {0} {2} \
             ends it",
            cluster.namespace,
            options.name,
            started.job
        )
    };
    let pod = tokio::select! {
        pod = started.pod() => pod,
        () = started.interrupted() => return Err(left("goes on")),
    };
    let pod = match pod {
        Ok(pod) => pod,
        Err(error) => return Err(started.remove_after(error).await),
    };
    let (job, namespace) = (&started.job, &cluster.namespace);
    terminal::note(format_args!("the Job {job} runs in the namespace {namespace}"));
    if options.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::select! {
        ended = follow(cluster, &started, &pod, &scenario, options) => {
            ended.map_err(|error| error.context(left("may go on")))?
        }
        () = started.interrupted() => return Err(left("goes on")),
    };
    started.close().await;
    report::exit_code(&ended)
}

/// Shows the log, and runs the scenario's commands from the first user on.
async fn follow(
    cluster: &Cluster,
    started: &Started<'_>,
    pod: &str,
    scenario: &Scenario,
    options: &Options,
) -> Result<Ended> {
    let runs = options.meanwhile == Some(WhatHappens::Run);
    let steps = if runs { scenario.job.meanwhile.as_slice() } else { &[] };
    let shell = Shell {
        namespace: cluster.namespace.clone(),
        sale: options.name.clone(),
        context: cluster.target.context.clone(),
        kubeconfig: cluster.target.kubeconfig.clone(),
    };
    let mut meanwhile = None;
    let ended = started.follow(pod, |line| {
        terminal::result(line)?;
        if meanwhile.is_none() && line.contains(PROGRESS) {
            meanwhile = Some(Meanwhile::start(steps, &shell));
        }
        Ok(())
    });
    let ended = ended.await;
    if let Some(meanwhile) = meanwhile {
        meanwhile.end().await;
    }
    ended
}

/// No run ends without a verdict because it was to take longer than it may. Users who start at once, and those who come
/// until the last one, have no time.
fn check_deadline(scenario: &Scenario, options: &Options) -> Result<()> {
    let time = scenario.duration();
    if let Some(deadline) = options.deadline_seconds
        && time != Duration::MAX
        && Duration::from_secs(deadline.into()) <= time
    {
        bail!(
            "--deadline-seconds {deadline} ends the run before its last users start: they may come for {} s",
            time.as_secs_f64()
        );
    }
    Ok(())
}

/// Nothing is stopped that the user did not ask for, and no verdict fails because nobody stopped it.
fn check_meanwhile(cluster: &Cluster, scenario: &Scenario, options: &Options) -> Result<()> {
    let Scenario { name, job, .. } = scenario;
    let Some(first) = job.meanwhile.first() else { return Ok(()) };
    match options.meanwhile {
        Some(WhatHappens::Run) if options.detach => bail!(
            "--meanwhile run needs this command until the run ends: leave out --detach, or give --meanwhile skip"
        ),
        Some(WhatHappens::Skip | WhatHappens::Run) => Ok(()),
        None => {
            let mut commands = String::new();
            for step in &job.meanwhile {
                let every = step.every_seconds.map(|every| format!(", then every {every} s"));
                // Writing to a string cannot fail.
                let _ = write!(
                    commands,
                    "\n  after {} s{}: {}",
                    step.after_seconds,
                    every.unwrap_or_default(),
                    step.for_sale(&cluster.namespace, &options.name)
                );
            }
            bail!(
                "the scenario {name} changes the sale in the middle of the run:{commands}\nGive --meanwhile run, and this \
                 command runs it with your kubectl; or --meanwhile skip, and run it yourself {} s after the first buyers",
                first.after_seconds
            )
        }
    }
}

/// What the tool would refuse in the cluster, a minute later.
fn check(sale: &FlashSale, scenario: &Scenario, options: &Options) -> Result<()> {
    let name = sale.name_any();
    if sale.spec.app.tls.is_some() {
        bail!(
            "the sale {name} has app.tls, and this command starts the load tool for plain HTTP: kubectl apply a manifest of \
             manifests/load with SALE_URL and SALE_CA_FILE (docs/OPERATIONS.md, Load scenarios)"
        );
    }
    let nodes = usize::try_from(sale.spec.redis.nodes).unwrap_or_default();
    if nodes != scenario.nodes {
        bail!(
            "the scenario {} is for a sale with {} Redis node(s), and {name} has {nodes}; kubectl flashsale load {name} \
             --scenario v1-single is for one, v3-redlock for five",
            scenario.name,
            scenario.nodes
        );
    }
    let wanted = match scenario.products.as_slice() {
        // The load creates the coupon.
        [] if scenario.call == Kind::Coupon => &[],
        [] => std::slice::from_ref(&options.product),
        own => own,
    };
    let counted = sale.status.iter().flat_map(|status| &status.products).map(|it| it.id.as_str());
    let declared: Vec<&str> = sale.spec.products.iter().map(|it| it.id.as_str()).collect();
    let known: Vec<&str> = counted.chain(declared.iter().copied()).collect();
    if let Some(missing) = wanted.iter().find(|id| !known.contains(&id.as_str())) {
        bail!("the sale {name} has no product {missing}; there are: {}", declared.join(", "));
    }
    if scenario.in_turn && options.pods.is_some_and(|pods| pods > 1) {
        bail!(
            "users of the scenario {} start in turn, in one pod: leave out --pods",
            scenario.name
        );
    }
    Ok(())
}

fn tool<'a>(sale: &FlashSale, scenario: &'a Scenario, options: &'a Options) -> Tool<'a> {
    let name = sale.name_any();
    let mut arguments =
        ["run", "--scenario", &scenario.name, "--wait-seconds", "60"].map(str::to_owned).to_vec();
    if let Some(time) = options.seconds {
        arguments.extend(["--seconds".to_owned(), time.as_secs_f64().to_string()]);
    }
    if options.ignore_timing {
        arguments.extend(["--targets", "report"].map(str::to_owned));
    }
    let deadline = options
        .deadline_seconds
        .map_or_else(|| scenario.job.deadline_seconds().max(DEADLINE_SECONDS), u64::from);
    let url = format!("http://{name}:{}", service_port(&sale.spec.app));
    let metrics = format!("{}:{METRICS_PORT}", pods(&name));
    Tool {
        command: "load",
        arguments,
        environment: vec![
            ("SALE_URL".to_owned(), url),
            ("METRICS_HOST".to_owned(), metrics),
            ("PRODUCT_ID".to_owned(), options.product.clone()),
        ],
        signs_tokens: true,
        image: options.image.as_deref(),
        deadline_seconds: i64::try_from(deadline).unwrap_or(i64::MAX),
        kept_seconds: KEPT_SECONDS,
        pods: options.pods.unwrap_or(scenario.job.pods),
        memory: Some(&scenario.job.memory),
        ..Tool::default()
    }
}
