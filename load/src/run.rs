//! One run: check the sale, let the users buy, observe the result, judge it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use load_scenarios::Kind;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::buyers::arrivals::{Sold, Stops};
use crate::buyers::tickets::NodeTickets;
use crate::buyers::users::{Users, users_of};
use crate::config::Settings;
use crate::error::ConfigError;
use crate::limits::raise_open_files;
use crate::observed::{Observed, OtherProduct, Restocked};
use crate::pods::team::{LostPod, Team};
use crate::pods::wire::together;
use crate::pods::worker;
use crate::progress::{Counts, Progress};
use crate::sale::log_ins::LogIns;
use crate::sale::orders::OfRun;
use crate::sale::restock::{Administrator, Restocks};
use crate::sale::scrape::locks;
use crate::sale::{Before, Sale};
use crate::token;
use crate::verdict::{Report, judge, lost_pod};

/// How long the nodes may lag behind the database after the last answer.
const SETTLE: Duration = Duration::from_secs(5);
/// The same if users come one after the other: a node may just have restarted.
const SETTLE_AFTER_CHANGES: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// Runs a scenario, together with the other pods if there are some.
///
/// # Errors
/// When the sale is unreachable or not as the scenario needs it, or a pod does not come. Nothing was bought then.
pub async fn run(settings: &Settings) -> Result<Report, ConfigError> {
    raise_open_files();
    let mut team = Team::gather(settings).await?;
    let report = first_pod(settings, &mut team).await?;
    team.end(if report.passed() { "PASS" } else { "FAIL" }).await;
    Ok(report)
}

/// Makes and runs this pod's share of the users for the first pod, and gives its verdict.
///
/// # Errors
/// When the first pod is not there, or ends before the verdict.
pub async fn work(settings: &Settings) -> Result<String, ConfigError> {
    raise_open_files();
    worker::work(settings).await
}

async fn first_pod(settings: &Settings, team: &mut Team) -> Result<Report, ConfigError> {
    let sale = Sale::new(settings)?;
    let stops = match settings.scenario.users_per_second {
        Some(_) => Stops::on_signals()?,
        None => Stops::default(),
    };
    let progress = Arc::new(Progress::default());
    tokio::select! {
        report = judged(&sale, team, &progress, stops.arrivals) => report,
        () = stops.run.cancelled() => Err(abandoned(progress.all())),
    }
}

fn abandoned(Counts { came, done, sold, .. }: Counts) -> ConfigError {
    let problem = format!(
        "a second signal ended it: its report and its verdict are lost. Of {came} users who came, {done} were done, \
         and {sold} had bought; orders stay"
    );
    ConfigError::new("run", problem)
}

async fn judged(
    sale: &Sale<'_>,
    team: &mut Team,
    progress: &Arc<Progress>,
    stop: CancellationToken,
) -> Result<Report, ConfigError> {
    let settings = sale.settings;
    let scenario = &settings.scenario;
    let run_id = Uuid::new_v4().simple().to_string();
    let mut before = sale.wait_until_ready().await?;
    if scenario.call == Kind::Coupon {
        before.products.push(sale.create_coupon(&format!("load-{run_id}")).await?);
    }
    let bought = match buy(sale, team, &before, &run_id, progress, stop).await {
        Ok(bought) => bought,
        Err(Failure::Config(error)) => return Err(error),
        Err(Failure::Lost(lost)) => {
            let pods = settings.pods.number;
            return Ok(lost_pod(scenario, settings.timing_targets, pods, &lost.to_string()));
        }
    };
    let observed = observe(sale, before, bought, &run_id).await;
    Ok(judge(scenario, settings.timing_targets, &observed))
}

/// What happened while the users bought.
struct Bought {
    sold: Sold,
    new_tokens: BTreeMap<String, u32>,
    restocked: i64,
    unseen_tickets: usize,
    pods: Option<(u32, Duration)>,
}

enum Failure {
    Config(ConfigError),
    Lost(LostPod),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<LostPod> for Failure {
    fn from(lost: LostPod) -> Self {
        Self::Lost(lost)
    }
}

async fn buy(
    sale: &Sale<'_>,
    team: &mut Team,
    before: &Before,
    run_id: &str,
    progress: &Arc<Progress>,
    stop: CancellationToken,
) -> Result<Bought, Failure> {
    let settings = sale.settings;
    let products: Vec<String> = before.products.iter().map(|product| product.id.clone()).collect();
    team.prepare(run_id, &products).await?;
    let users = Users::new(settings, run_id, products, Arc::clone(progress), stop.clone()).await?;
    let log_ins = log_ins(sale, run_id);
    let restocks = restocks(sale, before)?;
    let mut unseen_tickets = 0;
    let tickets = match before.products.first() {
        Some(first) if settings.scenario.in_turn => {
            let nodes = sale.redis.connect().await;
            let nodes =
                nodes.map_err(|error| ConfigError::new("REDIS_NODES", error.to_string()))?;
            Some(NodeTickets::new(&first.id, nodes))
        }
        _ => None,
    };
    let told = team.go().await?;
    let own = async {
        match tickets {
            Some(mut tickets) => {
                let (sold, unseen) = users.buy_in_turn(&mut tickets).await;
                unseen_tickets = unseen;
                Ok(sold)
            }
            None => users.buy().await.map_err(Failure::from),
        }
    };
    let others = async { Ok(team.recordings(progress, &stop).await?) };
    let (own, others) = tokio::try_join!(own, others)?;
    if !others.is_empty() {
        progress.finish(own.started.elapsed());
    }
    // This pod starts last.
    let apart = own.started.saturating_duration_since(told);
    Ok(Bought {
        sold: together(own, others),
        new_tokens: match log_ins {
            Some(log_ins) => log_ins.finish().await,
            None => BTreeMap::new(),
        },
        restocked: match restocks {
            Some(restocks) => restocks.finish().await,
            None => 0,
        },
        unseen_tickets,
        pods: (settings.pods.number > 1).then_some((settings.pods.number, apart)),
    })
}

fn log_ins(sale: &Sale<'_>, run_id: &str) -> Option<LogIns> {
    let between = sale.settings.scenario.between_log_ins()?;
    let server = Arc::clone(sale.servers.first()?);
    Some(LogIns::start(server, format!("load-{run_id}"), between))
}

fn restocks(sale: &Sale<'_>, before: &Before) -> Result<Option<Restocks>, ConfigError> {
    let (Some(restock), Some(server), Some(product)) =
        (sale.settings.scenario.restock, sale.servers.first(), before.products.first())
    else {
        return Ok(None);
    };
    Ok(Some(Restocks::start(Administrator {
        server: Arc::clone(server),
        token: token::sign_admin(&sale.settings.jwt_secret, "load-admin")?,
        product: product.id.clone(),
        restock,
        declared: product.declared,
    })))
}

/// Observes the sale after the run; waits until the database and all nodes agree, but not for long.
async fn observe(sale: &Sale<'_>, before: Before, bought: Bought, run_id: &str) -> Observed {
    let after = sale.metrics().await;
    let Sold { started, last_start, ended, lookup, tally } = bought.sold;
    let Before { metrics, products, run_ids } = before;
    let mut products = products.into_iter();
    let first = products.next();
    let others: Vec<_> = products.collect();
    let mut observed = Observed {
        stock_before: first.as_ref().map_or(0, |first| first.stock),
        latency: tally.latency(),
        parts: tally.parts(lookup),
        timeline: tally.timeline(last_start - started),
        series: tally.series(started, ended - started),
        answers: tally.answers,
        new_tokens: bought.new_tokens,
        elapsed: ended - started,
        purchases: tally.purchases,
        locks: after.and_then(|after| locks(&metrics, &after)),
        nodes: Vec::new(),
        database: Err("not read yet".to_owned()),
        others: Vec::new(),
        restocked: Restocked { answered: bought.restocked, recorded: 0 },
        stopped_nodes: Vec::new(),
        unseen_tickets: bought.unseen_tickets,
        pods: bought.pods,
    };
    let came_slowly = sale.settings.scenario.users_per_second.is_some();
    let deadline = Instant::now() + if came_slowly { SETTLE_AFTER_CHANGES } else { SETTLE };
    let Some(first) = first else { return observed };
    loop {
        observed.database = sale.units(&first).await;
        observed.nodes = sale.nodes(&first).await;
        if let Ok(database) = &observed.database {
            observed.restocked.recorded = database.declared - first.declared;
        }
        observed.others.clear();
        for other in &others {
            observed.others.push(OtherProduct {
                id: other.id.clone(),
                stock_before: other.stock,
                nodes: sale.nodes(other).await,
                database: sale.units(other).await,
            });
        }
        let is_late = Instant::now() >= deadline;
        if observed.stock_agrees() || is_late {
            // All orders are read only now: there may be millions.
            let of_run = OfRun::new(users_of(run_id), &observed.purchases);
            observed.database = sale.database(&first, &of_run).await;
            for (observed, other) in observed.others.iter_mut().zip(&others) {
                observed.database = sale.database(other, &of_run).await;
            }
            // A hold that ended meanwhile has changed the stock: then everything is read again.
            if observed.stock_agrees() || is_late {
                let now: BTreeMap<_, _> = sale.redis.run_ids().await.into_iter().collect();
                let other = |(node, id): &(String, Option<String>)| now.get(node) != Some(id);
                let stopped = run_ids.into_iter().filter(other).map(|(node, _)| node);
                observed.stopped_nodes = stopped.collect();
                return observed;
            }
        }
        sleep(POLL).await;
    }
}
