//! The cost of a purchase: core time of each process, as what each purchase, each batch, each node
//! and each replica adds; and what the round trip to the stores makes of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::least;
use crate::figures::Results;
use crate::path::Loaded;

/// What a purchase's share of the work grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Factor {
    /// Every purchase adds the same.
    Purchase,
    /// Every purchase adds more where many connections are open: caches, and opening them.
    ThousandConnections,
    /// Every batch does, and its purchases share it.
    Batch,
    /// Every batch, on every node.
    BatchOnNode,
    /// Every batch, on every node for every replica: each replica gets each release.
    BatchOnNodeForReplica,
    /// Every batch, on every proxy that stands for a network.
    BatchOnProxy,
    /// Every microsecond in which a batch waits for the stores.
    Wait,
}

/// A part of the cost and what it is made of.
struct Part {
    name: &'static str,
    factors: &'static [Factor],
}

const PARTS: &[Part] = &[
    Part {
        name: "app_us",
        factors: &[
            Factor::Purchase,
            Factor::ThousandConnections,
            Factor::Batch,
            Factor::BatchOnNode,
        ],
    },
    Part { name: "redis_us", factors: &[Factor::BatchOnNode, Factor::BatchOnNodeForReplica] },
    Part { name: "postgres_us", factors: &[Factor::Purchase, Factor::Batch] },
    Part { name: "wrk_us", factors: &[Factor::Purchase, Factor::ThousandConnections] },
    Part {
        name: "interrupts_us",
        factors: &[
            Factor::Purchase,
            Factor::ThousandConnections,
            Factor::Batch,
            Factor::BatchOnProxy,
        ],
    },
    Part { name: "others_us", factors: &[Factor::Purchase, Factor::BatchOnProxy] },
    Part { name: "idle_us", factors: &[Factor::Purchase, Factor::Batch, Factor::Wait] },
];

/// Parts that do not change with what else runs on the machine.
pub(super) const OWN: [&str; 5] = ["app_us", "redis_us", "postgres_us", "wrk_us", "interrupts_us"];

/// The longest batch, as the app has it.
const LONGEST_BATCH: f64 = 1_024.0;

/// A sale of one product and its load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) connections: f64,
    pub(super) replicas: f64,
    pub(super) nodes: f64,
    /// Microseconds from a replica to Redis or PostgreSQL and back, beyond those of loopback.
    pub(super) round_trip: f64,
    /// Proxies that stand for the network; a network itself has none.
    pub(super) proxies: f64,
}

impl From<&Loaded> for Setup {
    fn from(load: &Loaded) -> Self {
        Self {
            connections: load.connections(),
            replicas: load.replicas(),
            nodes: load.nodes(),
            round_trip: load.round_trip(),
            proxies: load.proxies(),
        }
    }
}

impl Setup {
    /// Microseconds in which a batch waits for the stores. A single replica renews its lock while its
    /// statement is under way: one round trip. Where replicas take turns, the vote comes before the
    /// statement: two.
    fn wait(self) -> f64 {
        if self.replicas > 1.0 { 2.0 * self.round_trip } else { self.round_trip }
    }

    /// The most purchases that can be waiting when a batch begins: all those of its replica. Behind a
    /// renewed lock half of them, because the others have just been answered.
    fn most_waiting(self) -> f64 {
        self.connections / self.replicas.max(2.0)
    }

    /// Microseconds for which a buyer waits for the stores between two purchases: two round trips in the
    /// turn of each replica. With a single replica, one is that of the batch under way when the purchase
    /// comes, and one that of its own.
    fn wait_of_a_buyer(self) -> f64 {
        2.0 * self.replicas * self.round_trip
    }
}

/// Fitted.
#[derive(Debug)]
pub(super) struct Model {
    /// Microseconds, by part.
    pub(super) costs: BTreeMap<&'static str, Vec<(Factor, f64)>>,
    /// The logarithm of a batch on near stores: a constant, what it grows with connections, and with
    /// replicas.
    batch: Vec<f64>,
}

impl Factor {
    fn of(self, setup: Setup, batch: f64) -> f64 {
        match self {
            Self::Purchase => 1.0,
            Self::ThousandConnections => setup.connections / 1e3,
            Self::Batch => 1.0 / batch,
            Self::BatchOnNode => setup.nodes / batch,
            Self::BatchOnNodeForReplica => setup.nodes * setup.replicas / batch,
            Self::BatchOnProxy => setup.proxies / batch,
            Self::Wait => setup.wait() / batch,
        }
    }
}

/// The median of a part of what one load cost.
pub(super) fn measured(results: &Results, figure: &str, part: &str) -> Result<f64> {
    let cost = results.costs.get(figure).and_then(|parts| parts.get(part));
    Ok(cost.with_context(|| format!("{part} of {figure} was not measured"))?.median)
}

impl Model {
    /// Fits every part to these loads.
    ///
    /// # Errors
    /// When one of them was not measured.
    pub(super) fn fit(results: &Results, loads: &[&Loaded]) -> Result<Self> {
        let mut setups = Vec::new();
        for &load in loads {
            setups.push((Setup::from(load), measured(results, load.figure, "batch")?));
        }
        let mut costs = BTreeMap::new();
        for part in PARTS {
            let mut values = Vec::new();
            for load in loads {
                values.push(measured(results, load.figure, part.name)?);
            }
            costs.insert(part.name, fit(part.factors, &setups, &values));
        }
        // What a wait adds to a batch follows from them.
        setups.retain(|(setup, _)| setup.round_trip <= 0.0);
        let logarithms: Vec<Vec<f64>> = setups
            .iter()
            .map(|(setup, _)| vec![1.0, setup.connections.ln(), setup.replicas.ln()])
            .collect();
        let batches: Vec<f64> = setups.iter().map(|(_, batch)| batch.ln()).collect();
        let batch = least::squares(&logarithms, &batches, &vec![1.0; batches.len()])
            .context("the loads are too much alike to tell what makes a batch long")?;
        Ok(Self { costs, batch })
    }

    /// Purchases in a batch on near stores.
    fn near_batch(&self, setup: Setup) -> f64 {
        let [constant, connections, replicas] = self.batch[..] else {
            return 1.0;
        };
        let logarithm =
            constant + connections * setup.connections.ln() + replicas * setup.replicas.ln();
        logarithm.exp().min(LONGEST_BATCH).min(setup.connections).max(1.0)
    }

    /// Purchases in a batch: those that come while it waits for the stores are in the next one.
    pub(super) fn batch(&self, setup: Setup, cores: f64) -> f64 {
        let near = self.near_batch(setup);
        let come = self.near_per_second(setup, cores) * setup.wait() / 1e6;
        (near + come).min(setup.most_waiting()).max(near).min(LONGEST_BATCH)
    }

    /// Microseconds of core time of one part for a purchase in such batches.
    pub(super) fn cost(&self, part: &str, setup: Setup, batch: f64) -> f64 {
        let factors = self.costs.get(part).map_or(&[][..], Vec::as_slice);
        factors.iter().map(|(factor, micros)| micros * factor.of(setup, batch)).sum()
    }

    /// Microseconds of core time of all our processes, and of the interrupts between them.
    pub(super) fn own(&self, setup: Setup, batch: f64) -> f64 {
        OWN.iter().map(|part| self.cost(part, setup, batch)).sum()
    }

    /// The same of everything, cores that idle and other work included.
    fn all(&self, setup: Setup, batch: f64) -> f64 {
        PARTS.iter().map(|part| self.cost(part.name, setup, batch)).sum()
    }

    /// Purchases a second if the stores were near.
    fn near_per_second(&self, setup: Setup, cores: f64) -> f64 {
        let setup = Setup { round_trip: 0.0, ..setup };
        cores * 1e6 / self.all(setup, self.near_batch(setup))
    }

    /// Purchases a second on this number of cores, `wrk` among the processes on them: what the cores do,
    /// or what the connections ask for while each of them waits for its answer, whichever is lower.
    /// Longer batches cost less, but a distance makes no sale faster.
    pub(super) fn per_second(&self, setup: Setup, cores: f64) -> f64 {
        let near = self.near_per_second(setup, cores);
        let by_cores = cores * 1e6 / self.all(setup, self.batch(setup, cores));
        let near_batch_seconds = self.near_batch(setup) / near;
        let by_connections =
            setup.connections / (setup.wait_of_a_buyer() / 1e6 + near_batch_seconds);
        near.min(by_cores).min(by_connections)
    }
}

fn fit(factors: &[Factor], setups: &[(Setup, f64)], values: &[f64]) -> Vec<(Factor, f64)> {
    let rows: Vec<Vec<f64>> = setups
        .iter()
        .map(|(setup, batch)| factors.iter().map(|factor| factor.of(*setup, *batch)).collect())
        .collect();
    // A tenth more is as wrong for a small value as for a large one, unless it is next to nothing.
    let least = values.iter().copied().fold(0.0, f64::max) / 20.0;
    let weights: Vec<f64> =
        values.iter().map(|value| value.max(least).max(f64::MIN_POSITIVE).powi(-2)).collect();
    let found = least::non_negative(&rows, values, &weights);
    factors.iter().copied().zip(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Spread;
    use crate::path::{FITTED, PREDICTED};

    fn spread(median: f64) -> Spread {
        Spread { median, minimum: median, maximum: median }
    }

    /// What would have been measured if the costs were exactly these.
    fn made_up(load: &Loaded) -> BTreeMap<String, Spread> {
        let setup = Setup::from(load);
        let batch = 0.5 * setup.connections / setup.replicas;
        let on_nodes = setup.nodes / batch;
        let parts = [
            ("app_us", 12.0 + setup.connections * 0.001 + 200.0 / batch + 30.0 * on_nodes),
            ("redis_us", 20.0 * on_nodes + 5.0 * on_nodes * setup.replicas),
            ("postgres_us", 9.0 + 400.0 / batch),
            ("wrk_us", 6.0),
            ("interrupts_us", 5.0 + 3.0 * setup.proxies / batch),
            ("others_us", 1.0 + 20.0 * setup.proxies / batch),
            ("idle_us", (300.0 + 0.5 * setup.wait()) / batch),
            ("batch", batch),
        ];
        parts.map(|(part, value)| (part.to_owned(), spread(value))).into()
    }

    fn fitted() -> Model {
        let mut results = Results::default();
        for load in FITTED {
            results.costs.insert(load.figure.to_owned(), made_up(load));
        }
        Model::fit(&results, FITTED).unwrap()
    }

    /// Batches of 50 on near stores, and 30 us of the app for each purchase.
    fn batches_of_50(idle: Vec<(Factor, f64)>) -> Model {
        let costs = [("app_us", vec![(Factor::Purchase, 30.0)]), ("idle_us", idle)];
        Model { costs: costs.into(), batch: vec![50.0_f64.ln(), 0.0, 0.0] }
    }

    fn away(connections: f64, replicas: f64, round_trip: f64) -> Setup {
        Setup { connections, replicas, nodes: 5.0, round_trip, proxies: 0.0 }
    }

    #[test]
    fn predicts_what_it_was_not_fitted_to() {
        let model = fitted();
        assert!(PREDICTED.iter().any(|load| load.round_trip() > 0.0));
        for load in PREDICTED {
            let parts = made_up(load);
            let all: f64 = PARTS.iter().map(|part| parts[part.name].median).sum();
            let predicted = model.per_second(Setup::from(*load), 2.0);
            assert!((predicted * all / 2e6 - 1.0).abs() < 0.001, "{}", load.figure);
        }
    }

    #[test]
    fn a_wait_makes_batches_longer_and_sales_slower_as_calculated() {
        let model = batches_of_50(vec![(Factor::Batch, 500.0), (Factor::Wait, 1.0)]);
        let cases = [
            // 30 us + 500 us / 50: a batch takes 1 ms on two cores.
            (away(512.0, 1.0, 0.0), 50.0, 50_000.0),
            // 50,000/s for 1 ms join; 30 us + (500 + 1,000) us / 100.
            (away(512.0, 1.0, 1_000.0), 100.0, 2e6 / 45.0),
            // Half of the connections at most; each waits twice 10 ms, and 1 ms.
            (away(512.0, 1.0, 10_000.0), 256.0, 512.0 / 0.021),
            // Two round trips for a batch: 30 us + (500 + 2,000) us / 150.
            (away(512.0, 2.0, 1_000.0), 150.0, 2e6 / (30.0 + 2_500.0 / 150.0)),
            // Two replicas in turn: each buyer waits four times 10 ms, and 1 ms.
            (away(512.0, 2.0, 10_000.0), 256.0, 512.0 / 0.041),
        ];
        for (setup, batch, per_second) in cases {
            let (found, rate) = (model.batch(setup, 2.0), model.per_second(setup, 2.0));
            assert!((found / batch - 1.0).abs() < 1e-9, "{setup:?}: batches of {found}");
            assert!((rate / per_second - 1.0).abs() < 1e-9, "{setup:?}: {rate}/s");
        }
    }

    #[test]
    fn no_round_trip_is_the_model_of_near_stores() {
        let model = fitted();
        for load in FITTED.iter().chain(PREDICTED).filter(|load| load.round_trip() <= 0.0) {
            let setup = Setup::from(*load);
            let batch = model.near_batch(setup);
            assert_eq!(model.batch(setup, 2.0).to_bits(), batch.to_bits(), "{}", load.figure);
            let near = 2.0 * 1e6 / model.all(setup, batch);
            assert_eq!(model.per_second(setup, 2.0).to_bits(), near.to_bits(), "{}", load.figure);
        }
    }

    #[test]
    fn a_longer_round_trip_makes_no_sale_faster() {
        // In the second one only batches cost, and longer ones would be cheaper.
        for model in [fitted(), batches_of_50(vec![(Factor::Batch, 5_000.0)])] {
            for (connections, replicas) in [(64.0, 1.0), (512.0, 1.0), (513.0, 3.0)] {
                let rate = |step: u32| {
                    let round_trip = 100.0 * f64::from(step);
                    model.per_second(away(connections, replicas, round_trip), 2.0)
                };
                for step in 0..200 {
                    let (shorter, longer) = (rate(step), rate(step + 1));
                    assert!(longer <= shorter, "{connections} connections: {shorter}, {longer}");
                }
                assert!(rate(200) < rate(0), "{connections} connections");
            }
        }
    }

    #[test]
    fn a_load_that_was_not_measured_is_an_error() {
        assert!(Model::fit(&Results::default(), FITTED).is_err());
    }
}
