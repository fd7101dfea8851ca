//! The model as tables of Markdown.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::model::{Factor, Model, OWN, Setup, measured};
use crate::figures::{Results, number};
use crate::path::{FITTED, Loaded, PREDICTED};

/// Loads that a plan leaves room for: bursts, a replica that is replaced.
const PLANNED_SHARE: f64 = 0.7;
const CORES_OF_A_REPLICA: f64 = 4.0;
/// The load whose batches a plan counts with.
const PLANNED_BATCH: &str = "purchases_512";

const PARTS: &[(&str, &str)] = &[
    ("app_us", "app"),
    ("redis_us", "Redis, all nodes"),
    ("postgres_us", "PostgreSQL"),
    ("wrk_us", "`wrk`"),
    ("interrupts_us", "interrupts (bytes between processes)"),
    ("others_us", "others on the machine"),
    ("idle_us", "idle"),
];

/// The coefficients.
pub(super) fn fit(model: &Model, summary: &str) -> String {
    let factors = [
        Factor::Purchase,
        Factor::ThousandConnections,
        Factor::Batch,
        Factor::BatchOnNode,
        Factor::BatchOnNodeForReplica,
    ];
    let mut table = format!(
        "Run: {summary}.\n\n| core time in us | each purchase | the same for each \
         1,000 connections | each batch | each batch on each node | the same for each replica |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for (part, name) in PARTS {
        let costs = model.costs.get(part).map_or(&[][..], Vec::as_slice);
        let _ = write!(table, "| {name} |");
        for factor in factors {
            let cost = costs.iter().find(|(of, _)| *of == factor);
            let _ =
                write!(table, " {} |", cost.map_or(String::new(), |(_, micros)| number(*micros)));
        }
        table.push('\n');
    }
    table.trim_end().to_owned()
}

/// The model next to what was measured.
pub(super) fn check(model: &Model, results: &Results, cores: f64) -> Result<String> {
    let mut table =
        "| load | | batch: model | measured | own core time of a purchase in us: model | \
                     measured | difference | purchases/s: model | measured | difference |\n\
                     | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            .to_owned();
    let fitted = FITTED.iter().map(|load| ("fitted", *load));
    let predicted = PREDICTED.iter().map(|load| ("**predicted**", *load));
    for (how, load) in fitted.chain(predicted) {
        let setup = Setup::from(load);
        let row = results.rows.get(load.figure);
        let per_second = row.with_context(|| format!("{} was not measured", load.figure))?.median;
        let model_per_second = model.per_second(setup, cores);
        let batch = model.batch(setup);
        let model_own = model.own(setup, batch);
        let mut own = 0.0;
        for part in OWN {
            own += measured(results, load.figure, part)?;
        }
        write!(
            table,
            "\n| {} | {how} | {} | {} | {} | {} | {:+.0} % | {} | {} | {:+.0} % |",
            title(load),
            number(batch),
            number(measured(results, load.figure, "batch")?),
            number(model_own),
            number(own),
            (model_own / own - 1.0) * 100.0,
            number(model_per_second),
            number(per_second),
            (model_per_second / per_second - 1.0) * 100.0,
        )?;
    }
    Ok(table)
}

fn title(load: &Loaded) -> String {
    let Setup { connections, replicas, nodes } = Setup::from(load);
    format!("{connections} connections, {replicas} replica(s), {nodes} node(s)")
}

/// What a rate of purchases needs.
pub(super) fn needs(model: &Model, results: &Results) -> Result<String> {
    let batch = measured(results, PLANNED_BATCH, "batch")?;
    let log_bytes = measured(results, PLANNED_BATCH, "log_bytes")?;
    let chain = results.rows.get("l4_and_one_commit").context("l4_and_one_commit")?.median;
    let hot = hot_product(model, batch, chain);
    let mut table = format!(
        "In batches of {}, as at 512 connections, one product of one FlashSale sells at most \
         {} /s: batches follow each other, and each takes the lock, its rows in one session of \
         PostgreSQL, and the commit.\n\n\
         | purchases/s | quorum groups for one hot product | app: cores | replicas of {CORES_OF_A_REPLICA} \
         cores | Redis: share of a core, each node | PostgreSQL: cores in all | in each group | its \
         log, MB/s in each group |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        number(batch),
        number(hot),
    );
    for wanted in [10_000.0, 100_000.0, 1_000_000.0_f64] {
        let groups = (wanted / (hot * PLANNED_SHARE)).ceil();
        let one = Setup { connections: 512.0, replicas: 1.0, nodes: 5.0 };
        let serving = model.cost("app_us", one, batch) + model.cost("interrupts_us", one, batch);
        let app = wanted * serving / 1e6 / PLANNED_SHARE;
        let replicas = (app / CORES_OF_A_REPLICA).ceil().max(groups);
        let group = Setup { replicas: (replicas / groups).ceil(), ..one };
        let redis = model.cost("redis_us", group, batch) / group.nodes;
        let postgres = wanted * model.cost("postgres_us", one, batch) / 1e6 / PLANNED_SHARE;
        write!(
            table,
            "\n| {wanted} | {groups} | {} | {replicas} | {:.2} | {} | {} | {} |",
            number(app),
            wanted / groups * redis / 1e6,
            number(postgres),
            number(postgres / groups),
            number(wanted / groups * log_bytes / 1e6),
        )?;
    }
    write!(table, "\n\n{}", refusals(results)?)?;
    Ok(table)
}

/// Purchases a second of one product: batches one after the other, each with its lock and commit
/// and the database's time for its rows.
fn hot_product(model: &Model, batch: f64, chain_micros: f64) -> f64 {
    let setup = Setup { connections: 512.0, replicas: 1.0, nodes: 5.0 };
    let rows = model.cost("postgres_us", setup, batch) * batch;
    batch * 1e6 / (chain_micros + rows)
}

/// Most of a million buyers are refused: they cost the app alone.
fn refusals(results: &Results) -> Result<String> {
    let mut text =
        "| buyers/s with the answer that it is sold out | app: cores | replicas of 4 cores |\n\
                    | ---: | ---: | ---: |"
            .to_owned();
    let micros =
        measured(results, "sold_out", "app_us")? + measured(results, "sold_out", "interrupts_us")?;
    for buyers in [100_000.0, 1_000_000.0_f64] {
        let cores = buyers * micros / 1e6 / PLANNED_SHARE;
        let replicas = (cores / CORES_OF_A_REPLICA).ceil();
        write!(text, "\n| {buyers} | {} | {replicas} |", number(cores))?;
    }
    Ok(text)
}
