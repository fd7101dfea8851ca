//! The cost of a purchase: core time of each process, as what each purchase, each batch, each node
//! and each replica adds.

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
        factors: &[Factor::Purchase, Factor::ThousandConnections, Factor::Batch],
    },
    Part { name: "others_us", factors: &[Factor::Purchase] },
    Part { name: "idle_us", factors: &[Factor::Purchase, Factor::Batch] },
];

/// Parts that do not change with what else runs on the machine.
pub(super) const OWN: [&str; 5] = ["app_us", "redis_us", "postgres_us", "wrk_us", "interrupts_us"];

/// The longest batch, as the app has it.
const LONGEST_BATCH: f64 = 1_024.0;

/// A sale and its load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) connections: f64,
    pub(super) replicas: f64,
    pub(super) nodes: f64,
}

impl From<&Loaded> for Setup {
    fn from(load: &Loaded) -> Self {
        Self { connections: load.connections(), replicas: load.replicas(), nodes: load.nodes() }
    }
}

/// Fitted.
#[derive(Debug)]
pub(super) struct Model {
    /// Microseconds, by part.
    pub(super) costs: BTreeMap<&'static str, Vec<(Factor, f64)>>,
    /// The logarithm of the batch: a constant, what it grows with connections, and with replicas.
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
        let logarithms: Vec<Vec<f64>> = setups
            .iter()
            .map(|(setup, _)| vec![1.0, setup.connections.ln(), setup.replicas.ln()])
            .collect();
        let batches: Vec<f64> = setups.iter().map(|(_, batch)| batch.ln()).collect();
        let batch = least::squares(&logarithms, &batches, &vec![1.0; batches.len()])
            .context("the loads are too much alike to tell what makes a batch long")?;
        Ok(Self { costs, batch })
    }

    /// Purchases in a batch.
    pub(super) fn batch(&self, setup: Setup) -> f64 {
        let [constant, connections, replicas] = self.batch[..] else {
            return 1.0;
        };
        let logarithm =
            constant + connections * setup.connections.ln() + replicas * setup.replicas.ln();
        logarithm.exp().clamp(1.0, LONGEST_BATCH)
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

    /// Purchases a second on this number of cores, `wrk` among the processes on them.
    pub(super) fn per_second(&self, setup: Setup, cores: f64) -> f64 {
        let batch = self.batch(setup);
        let all: f64 = PARTS.iter().map(|part| self.cost(part.name, setup, batch)).sum();
        cores * 1e6 / all
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
            ("interrupts_us", 5.0),
            ("others_us", 1.0),
            ("idle_us", 300.0 / batch),
            ("batch", batch),
        ];
        parts.map(|(part, value)| (part.to_owned(), spread(value))).into()
    }

    #[test]
    fn predicts_what_it_was_not_fitted_to() {
        let mut results = Results::default();
        for load in FITTED {
            results.costs.insert(load.figure.to_owned(), made_up(load));
        }
        let model = Model::fit(&results, FITTED).unwrap();
        for load in PREDICTED {
            let parts = made_up(load);
            let all: f64 = PARTS.iter().map(|part| parts[part.name].median).sum();
            let predicted = model.per_second(Setup::from(*load), 2.0);
            assert!((predicted * all / 2e6 - 1.0).abs() < 0.001, "{}", load.figure);
        }
    }

    #[test]
    fn a_load_that_was_not_measured_is_an_error() {
        assert!(Model::fit(&Results::default(), FITTED).is_err());
    }
}
