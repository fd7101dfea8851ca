//! `verify`: the verdict on a running or ended sale from its nodes, its database and its orders. It sends no load and
//! writes nothing.

mod copies;
mod findings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use self::copies::Copies;
use self::findings::Evidence;
pub use self::findings::{Findings, Verdict};
use crate::error::ConfigError;
use crate::stores::database::SaleDatabase;
use crate::stores::redis_nodes::RedisNodes;
use crate::terminal::note;

/// Between two reads of the database. A copy that is ahead or behind is not so for as long.
const POLL: Duration = Duration::from_millis(300);

/// The flags of `verify`.
#[derive(Args)]
pub struct VerifyOptions {
    /// All Redis nodes of the sale as host:port, separated by commas; empty: the nodes are not judged
    #[arg(long, env = "REDIS_NODES", default_value = "")]
    redis_nodes: String,
    /// The password of every Redis node, if they have one
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    redis_password: Option<String>,
    /// The certificates of the authorities of the Redis nodes, a PEM file, if they have TLS
    #[arg(long, env = "REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,
    /// The sale's database, `postgres://...` or `sqlite://path`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The certificates of the authorities of the database, a PEM file, if it has TLS
    #[arg(long, env = "DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
    /// The sale that must own the database; empty: any
    #[arg(long, env = "SALE_NAME", default_value = "")]
    sale: String,
    /// The units that the sale declares, such as `1=100,2=50`; empty: not judged
    #[arg(long, env = "DECLARED_STOCK", default_value = "")]
    declared: String,
    /// Seconds to wait until nodes and database are reachable
    #[arg(long, default_value_t = 0)]
    wait_seconds: u64,
    /// Seconds in which each copy of the stock must agree with the database once
    #[arg(long, default_value_t = 15)]
    settle_seconds: u64,
}

impl fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some fields are secrets, so no field is printed.
        f.debug_struct("VerifyOptions").finish_non_exhaustive()
    }
}

/// Reads and judges.
///
/// # Errors
/// When a setting is wrong. What cannot be read is part of the findings.
pub async fn verify(options: &VerifyOptions) -> Result<Findings, ConfigError> {
    let url = trimmed(&options.database_url);
    let database = SaleDatabase::connect_lazy(url, options.database_ca_file.as_deref())
        .map_err(|error| ConfigError::new("DATABASE_URL", error.to_string()))?;
    let password = options.redis_password.as_deref().map(trimmed).filter(|it| !it.is_empty());
    let nodes = RedisNodes::new(&nodes(options), password, options.redis_ca_file.as_deref())
        .map_err(|error| ConfigError::new("REDIS_NODES", error.to_string()))?;
    let declared = declared(&options.declared)?;

    let reachable = Instant::now() + Duration::from_secs(options.wait_seconds);
    let totals = loop {
        match database.totals().await {
            Err(error) if Instant::now() < reachable => {
                note(format_args!("waiting: {error}"));
                sleep(POLL).await;
            }
            totals => break totals.map_err(|error| error.to_string()),
        }
    };
    let mut evidence = Evidence {
        sale: Some(trimmed(&options.sale).to_owned()).filter(|sale| !sale.is_empty()),
        declared,
        totals: Some(totals),
        unserved: None,
        nodes: BTreeMap::new(),
    };
    if matches!(evidence.totals, Some(Ok(_))) {
        let settled = reachable.max(Instant::now() + Duration::from_secs(options.settle_seconds));
        (evidence.nodes, evidence.unserved) =
            tokio::join!(copies(&database, &nodes, settled), unserved(&database, settled));
    }
    Ok(Findings::of(&evidence))
}

/// Reads database and nodes in turn, until every copy agreed once or the time is over.
async fn copies(
    database: &SaleDatabase,
    nodes: &RedisNodes,
    deadline: Instant,
) -> BTreeMap<String, BTreeMap<String, copies::Copy>> {
    let mut copies = Copies::default();
    loop {
        // After a failed read the samples count with the next one.
        if let Ok(on_sale) = database.on_sale().await {
            copies.database(&on_sale);
        }
        let open = copies.open();
        if open.is_empty() || nodes.is_empty() || Instant::now() >= deadline {
            return copies.by_node();
        }
        for product in open {
            for (node, sample) in nodes.values(&product).await {
                copies.node(&product, &node, sample);
            }
        }
        sleep(POLL).await;
    }
}

/// Units on sale that buyers wait for, of the products that had some at each read until the time was over: the sale hands
/// such units out five times a second. `None`: the database is older than waiting lists.
async fn unserved(
    database: &SaleDatabase,
    deadline: Instant,
) -> Option<Result<BTreeMap<String, i64>, String>> {
    let mut before: Option<BTreeMap<String, i64>> = None;
    loop {
        let is_over = Instant::now() >= deadline;
        match database.unserved().await {
            Ok(None) => return None,
            Ok(Some(mut units)) => {
                if let Some(before) = &before {
                    units.retain(|product, _| before.contains_key(product));
                }
                if is_over || units.is_empty() {
                    return Some(Ok(units));
                }
                before = Some(units);
            }
            Err(error) if is_over => return Some(Err(error.to_string())),
            Err(_) => {}
        }
        sleep(POLL).await;
    }
}

fn nodes(options: &VerifyOptions) -> Vec<String> {
    let nodes =
        options.redis_nodes.split(',').map(|node| node.trim().trim_start_matches("redis://"));
    nodes.filter(|node| !node.is_empty()).map(str::to_owned).collect()
}

fn declared(text: &str) -> Result<BTreeMap<String, i64>, ConfigError> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let read = |item: &str| {
        let (product, units) = item.rsplit_once('=')?;
        Some((product.to_owned(), units.parse().ok()?))
    };
    items
        .map(|item| {
            let wrong = || format!("{item:?} is not PRODUCT=UNITS");
            read(item).ok_or_else(|| ConfigError::new("DECLARED_STOCK", wrong()))
        })
        .collect()
}

/// Without trailing line ends, as in the app.
fn trimmed(value: &str) -> &str {
    value.trim_end_matches(['\r', '\n'])
}
