//! The model as tables of Markdown.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::model::{Factor, Model, OWN, Setup, measured};
use crate::figures::{Results, Target, number};
use crate::path::{FITTED, PREDICTED};

/// Loads that a plan leaves room for: bursts, a replica that is replaced.
const PLANNED_SHARE: f64 = 0.7;
const CORES_OF_A_REPLICA: f64 = 4.0;
/// The load whose batches a plan counts with.
const PLANNED_BATCH: &str = "purchases_512";
const PLANNED: Setup =
    Setup { connections: 512.0, replicas: 1.0, nodes: 5.0, round_trip: 0.0, proxies: 0.0 };
/// How far a prediction for far stores may be off, in percent.
const FAR: Target = Target::AtMost(15.0);
/// In milliseconds.
const ROUND_TRIPS: [f64; 6] = [0.0, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Connections and replicas.
const AT_A_DISTANCE: [(f64, f64); 3] = [(64.0, 1.0), (512.0, 1.0), (513.0, 3.0)];

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
        Factor::BatchOnProxy,
        Factor::Wait,
    ];
    let mut table = format!(
        "Run: {summary}.\n\n| core time in us | each purchase | the same for each \
         1,000 connections | each batch | each batch on each node | the same for each replica | \
         each batch on each proxy | each us of a batch's wait |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
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
                     measured | difference | purchases/s: model | measured | difference | target |\n\
                     | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
            .to_owned();
    let fitted = FITTED.iter().map(|load| (false, *load));
    let predicted = PREDICTED.iter().map(|load| (true, *load));
    for (is_predicted, load) in fitted.chain(predicted) {
        let setup = Setup::from(load);
        let row = results.rows.get(load.figure);
        let per_second = row.with_context(|| format!("{} was not measured", load.figure))?.median;
        let model_per_second = model.per_second(setup, cores);
        let difference = (model_per_second / per_second - 1.0) * 100.0;
        let batch = model.batch(setup, cores);
        let model_own = model.own(setup, batch);
        let mut own = 0.0;
        for part in OWN {
            own += measured(results, load.figure, part)?;
        }
        write!(
            table,
            "\n| {} | {} | {} | {} | {} | {} | {:+.0} % | {} | {} | {difference:+.0} % |{} |",
            title(setup),
            if is_predicted { "**predicted**" } else { "fitted" },
            number(batch),
            number(measured(results, load.figure, "batch")?),
            number(model_own),
            number(own),
            (model_own / own - 1.0) * 100.0,
            number(model_per_second),
            number(per_second),
            if is_predicted { verdict(setup, difference) } else { String::new() },
        )?;
    }
    Ok(table)
}

fn title(setup: Setup) -> String {
    let Setup { connections, replicas, nodes, round_trip, proxies } = setup;
    let distance = if round_trip > 0.0 {
        format!(", {} ms away", number(round_trip / 1e3))
    } else if proxies > 0.0 {
        ", proxies without a delay".to_owned()
    } else {
        String::new()
    };
    format!("{connections} connections, {replicas} replica(s), {nodes} node(s){distance}")
}

/// Of a prediction that is off by this many percent; only those for far stores have a target.
fn verdict(setup: Setup, difference: f64) -> String {
    if setup.round_trip <= 0.0 {
        return String::new();
    }
    let verdict = if FAR.is_met(difference.abs()) { "PASS" } else { "MISS" };
    format!(" {FAR} % {verdict}")
}

/// What a distance makes of batches and purchases, on cores like the measured ones; `own`: one more
/// round trip, in milliseconds.
pub(super) fn distance(model: &Model, cores: f64, own: Option<f64>) -> String {
    let mut table = "| round trip in ms |".to_owned();
    for (connections, replicas) in AT_A_DISTANCE {
        let _ = write!(
            table,
            " {connections} connections, {replicas} replica(s): batch | purchases/s |"
        );
    }
    let _ = write!(table, "\n| ---: |{}", " ---: | ---: |".repeat(AT_A_DISTANCE.len()));
    for millis in ROUND_TRIPS.into_iter().chain(own) {
        let _ = write!(table, "\n| {millis} |");
        for (connections, replicas) in AT_A_DISTANCE {
            let setup = Setup { connections, replicas, round_trip: millis * 1e3, ..PLANNED };
            let batch = number(model.batch(setup, cores));
            let per_second = number(model.per_second(setup, cores));
            let _ = write!(table, " {batch} | {per_second} |");
        }
    }
    table
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
        let serving =
            model.cost("app_us", PLANNED, batch) + model.cost("interrupts_us", PLANNED, batch);
        let app = wanted * serving / 1e6 / PLANNED_SHARE;
        let replicas = (app / CORES_OF_A_REPLICA).ceil().max(groups);
        let group = Setup { replicas: (replicas / groups).ceil(), ..PLANNED };
        let redis = model.cost("redis_us", group, batch) / group.nodes;
        let postgres = wanted * model.cost("postgres_us", PLANNED, batch) / 1e6 / PLANNED_SHARE;
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
    let rows = model.cost("postgres_us", PLANNED, batch) * batch;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_for_far_stores_is_judged_whether_high_or_low() {
        let far = Setup { round_trip: 2_500.0, proxies: 6.0, ..PLANNED };
        for difference in [15.0, -15.0, 0.0] {
            assert_eq!(verdict(far, difference), " <= 15 % PASS");
        }
        for difference in [15.1, -15.1, f64::NAN] {
            assert_eq!(verdict(far, difference), " <= 15 % MISS");
        }
        assert_eq!(verdict(PLANNED, 20.0), "");
        assert!(title(far).ends_with(", 2.50 ms away"));
    }
}
