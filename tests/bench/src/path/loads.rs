//! Purchases by `wrk`: one variant of the sale after the other.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;

use super::stage::{Database, Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};
use crate::machine;

/// A load on a sale of some shape.
#[derive(Debug)]
pub struct Loaded {
    /// Purchases a second.
    pub figure: &'static str,
    p99: Option<&'static str>,
    /// The route that does nothing, by as many connections.
    limit: Option<&'static str>,
    connections: u32,
    shape: Shape,
}

impl Loaded {
    pub(super) const fn new(figure: &'static str, connections: u32, shape: Shape) -> Self {
        Self { figure, p99: None, limit: None, connections, shape }
    }

    /// How many buyers wait for answers at any time.
    pub fn connections(&self) -> f64 {
        f64::from(self.connections)
    }

    /// Replicas of the app.
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    pub fn replicas(&self) -> f64 {
        self.shape.replicas as f64
    }

    /// Redis nodes.
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    pub fn nodes(&self) -> f64 {
        self.shape.nodes as f64
    }

    /// Microseconds from the replicas to the stores and back, beyond those of loopback.
    pub fn round_trip(&self) -> f64 {
        self.shape.round_trip.unwrap_or_default().as_secs_f64() * 1e6
    }

    /// Proxies that stand for the network: one before each node and one before PostgreSQL, or none.
    pub fn proxies(&self) -> f64 {
        if self.shape.round_trip.is_some() { self.nodes() + 1.0 } else { 0.0 }
    }
}

pub(super) const NEAR: Duration = Duration::from_millis(1);
pub(super) const FAR: Duration = Duration::from_micros(2_500);

/// The proxies take core time that a network does not. So the distance is judged against the same proxies without a
/// delay, too, and not against loopback alone.
pub(super) const PROXIED_512: Loaded =
    Loaded::new("purchases_proxied", 512, Shape { round_trip: Some(Duration::ZERO), ..USUAL });
pub(super) const NEAR_512: Loaded =
    Loaded::new("purchases_1_ms_away", 512, Shape { round_trip: Some(NEAR), ..USUAL });
pub(super) const FAR_512: Loaded =
    Loaded::new("purchases_2_5_ms_away", 512, Shape { round_trip: Some(FAR), ..USUAL });
const USUAL_512: Loaded = Loaded {
    p99: Some("purchases_512_p99"),
    limit: Some("me_512"),
    ..Loaded::new("purchases_512", 512, USUAL)
};
const USUAL_64: Loaded = Loaded {
    p99: Some("purchases_64_p99"),
    limit: Some("me_64"),
    ..Loaded::new("purchases_64", 64, USUAL)
};
const USUAL_2000: Loaded =
    Loaded { p99: Some("purchases_2000_p99"), ..Loaded::new("purchases_2000", 2_000, USUAL) };
// As many connections to each replica.
const REPLICAS_3: Loaded = Loaded::new("purchases_3_replicas", 513, Shape { replicas: 3, ..USUAL });
const FAIR_512: Loaded = Loaded::new("purchases_fair", 512, Shape { order: "Fair", ..USUAL });
const NODE_1: Loaded = Loaded::new("purchases_1_node", 512, Shape { nodes: 1, ..USUAL });
const IN_SQLITE: Loaded =
    Loaded::new("purchases_sqlite", 512, Shape { database: Database::Sqlite, ..USUAL });
const ATOMIC_64: Loaded = Loaded {
    p99: Some("purchases_atomic_p99"),
    ..Loaded::new("purchases_atomic", 64, Shape { strategy: "Atomic", nodes: 1, ..USUAL })
};
const PRODUCTS_100: Loaded =
    Loaded::new("purchases_100_products", 512, Shape { products: 100, ..USUAL });
const REPLICAS_3_AT_256: Loaded =
    Loaded::new("purchases_3_replicas_256", 258, Shape { replicas: 3, ..USUAL });
const NODE_1_AT_128: Loaded = Loaded::new("purchases_1_node_128", 128, Shape { nodes: 1, ..USUAL });

/// What the model of the cost is fitted to.
pub const FITTED: &[&Loaded] =
    &[&USUAL_64, &USUAL_512, &USUAL_2000, &REPLICAS_3, &NODE_1, &PROXIED_512, &NEAR_512];
/// What it is checked with.
pub const PREDICTED: &[&Loaded] = &[&REPLICAS_3_AT_256, &NODE_1_AT_128, &FAR_512];

pub(super) const AT_512: Section = Section {
    title: "512 connections: 1 replica, 5 nodes, Unordered, PostgreSQL",
    rows: &[
        Row::Figure("me_512", Unit::PerSecond),
        Row::Figure("purchases_512", Unit::PerSecond),
        Row::Ratio("purchases_512", "me_512", Some(Target::AtLeast(0.40))),
        Row::Judged("purchases_512_p99", Unit::Millis, Target::AtMost(50.0)),
    ],
    round: |round| measure(round, &[&USUAL_512]).boxed(),
};

pub(super) const AT_64: Section = Section {
    title: "64 connections: the same",
    rows: &[
        Row::Figure("me_64", Unit::PerSecond),
        Row::Figure("purchases_64", Unit::PerSecond),
        Row::Ratio("purchases_64", "me_64", Some(Target::AtLeast(0.20))),
        Row::Judged("purchases_64_p99", Unit::Millis, Target::AtMost(15.0)),
    ],
    round: |round| measure(round, &[&USUAL_64]).boxed(),
};

pub(super) const AT_2000: Section = Section {
    title: "2,000 connections: the same",
    rows: &[
        Row::Figure("purchases_2000", Unit::PerSecond),
        Row::Judged("purchases_2000_p99", Unit::Millis, Target::AtMost(200.0)),
    ],
    round: |round| measure(round, &[&USUAL_2000]).boxed(),
};

pub(super) const THREE_REPLICAS: Section = Section {
    title: "3 replicas behind one address, 513 connections",
    rows: &[
        Row::Figure("purchases_3_replicas", Unit::PerSecond),
        Row::Ratio("purchases_3_replicas", "me_512", Some(Target::AtLeast(0.30))),
    ],
    round: |round| measure(round, &[&REPLICAS_3]).boxed(),
};

pub(super) const FAIR: Section = Section {
    title: "Fair, 512 connections",
    rows: &[
        Row::Figure("purchases_fair", Unit::PerSecond),
        Row::Ratio("purchases_fair", "purchases_512", Some(Target::AtLeast(0.90))),
    ],
    round: |round| measure(round, &[&FAIR_512]).boxed(),
};

pub(super) const ONE_NODE: Section = Section {
    title: "1 node, 512 connections",
    rows: &[
        Row::Figure("purchases_1_node", Unit::PerSecond),
        Row::Ratio("purchases_512", "purchases_1_node", Some(Target::AtLeast(0.85))),
    ],
    round: |round| measure(round, &[&NODE_1]).boxed(),
};

pub(super) const SQLITE: Section = Section {
    title: "SQLite, 512 connections",
    rows: &[
        Row::Figure("purchases_sqlite", Unit::PerSecond),
        Row::Ratio("purchases_sqlite", "me_512", Some(Target::AtLeast(0.40))),
    ],
    round: |round| measure(round, &[&IN_SQLITE]).boxed(),
};

pub(super) const ATOMIC: Section = Section {
    title: "Atomic: 1 node with appendfsync always, 64 buyers at a time",
    rows: &[
        Row::Figure("purchases_atomic", Unit::PerSecond),
        Row::Ratio("purchases_atomic", "me_64", Some(Target::AtLeast(0.45))),
        Row::Judged("purchases_atomic_p99", Unit::Millis, Target::AtMost(100.0)),
    ],
    round: |round| measure(round, &[&ATOMIC_64]).boxed(),
};

pub(super) const SOLD_OUT: Section = Section {
    title: "Sold out, 512 connections",
    rows: &[
        Row::Figure("sold_out", Unit::PerSecond),
        Row::Ratio("sold_out", "me_512", Some(Target::AtLeast(0.80))),
    ],
    round: |round| sold_out(round).boxed(),
};

pub(super) const HUNDRED_PRODUCTS: Section = Section {
    title: "100 products at random, 512 connections",
    rows: &[
        Row::Figure("purchases_100_products", Unit::PerSecond),
        Row::Ratio(
            "purchases_100_products",
            "purchases_512",
            Some(Target::AtLeastHere(hundred_products)),
        ),
    ],
    round: |round| measure(round, &[&PRODUCTS_100]).boxed(),
};

pub(super) const NOT_FITTED: Section = Section {
    title: "For the model (docs/SCALING.md): predicted, not fitted",
    rows: &[
        Row::Figure("purchases_3_replicas_256", Unit::PerSecond),
        Row::Figure("purchases_1_node_128", Unit::PerSecond),
    ],
    round: |round| measure(round, &[&REPLICAS_3_AT_256, &NODE_1_AT_128]).boxed(),
};

/// Without MSETEX, each of the hundred locks is a call of its own inside Redis.
fn hundred_products() -> f64 {
    if machine::has_msetex() { 1.0 } else { 0.75 }
}

/// Each on a sale of its own, next to its limit; what goes first alternates.
pub(super) async fn measure(round: Round, loads: &[&Loaded]) -> Result<Measured> {
    let mut measured = Measured::default();
    for load in loads {
        let stage = Stage::start(&round, load.shape).await?;
        let limit_first = round.number.is_multiple_of(2);
        if limit_first {
            limit(&stage, load, &round, &mut measured).await?;
        }
        let sold = stage.purchases(load.figure, load.connections, round.lasting).await?;
        measured.figures.push((load.figure, sold.per_second));
        measured.figures.extend(load.p99.map(|figure| (figure, sold.p99_ms)));
        measured.costs.push((load.figure, sold.cost));
        if !limit_first {
            limit(&stage, load, &round, &mut measured).await?;
        }
    }
    Ok(measured)
}

async fn limit(stage: &Stage, load: &Loaded, round: &Round, measured: &mut Measured) -> Result<()> {
    if let Some(figure) = load.limit {
        let answers = stage.me(figure, load.connections, round.lasting).await?;
        measured.figures.push((figure, answers.per_second));
        measured.costs.push((figure, answers.cost));
    }
    Ok(())
}

async fn sold_out(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, Shape { stock: 100, ..USUAL }).await?;
    let answers = stage.sold_out("sold_out", 512, round.lasting).await?;
    Ok(Measured {
        figures: vec![("sold_out", answers.per_second)],
        costs: vec![("sold_out", answers.cost)],
    })
}
