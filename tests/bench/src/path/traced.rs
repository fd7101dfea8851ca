//! What traces cost: none, of one purchase in a hundred, and of each.

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Unit};

pub(super) const SECTION: Section = Section {
    title: "Traces, 512 connections: none, of 1 % of the purchases, of all, to a collector on the same cores",
    rows: &[
        Row::Figure("purchases_untraced", Unit::PerSecond),
        Row::Figure("purchases_traced_1", Unit::PerSecond),
        Row::Ratio("purchases_traced_1", "purchases_untraced", None),
        Row::Figure("purchases_traced_100", Unit::PerSecond),
        Row::Ratio("purchases_traced_100", "purchases_untraced", None),
    ],
    round: |round| measure(round).boxed(),
};

const SHARES: [(&str, Option<f64>); 3] = [
    ("purchases_untraced", None),
    ("purchases_traced_1", Some(0.01)),
    ("purchases_traced_100", Some(1.0)),
];

async fn measure(round: Round) -> Result<Measured> {
    let mut measured = Measured::default();
    let mut shares = SHARES;
    if !round.number.is_multiple_of(2) {
        shares.reverse();
    }
    for (figure, traced) in shares {
        let stage = Stage::start(&round, Shape { traced, ..USUAL }).await?;
        let sold = stage.purchases(figure, 512, round.lasting).await?;
        if traced.is_some() {
            let exported = stage.metric("flashsale_trace_spans_exported_total", &[]).await?;
            let dropped = stage.metric("flashsale_trace_spans_dropped_total", &[]).await?;
            eprintln!("  {figure}: {exported:.0} spans exported, {dropped:.0} dropped");
            ensure!(exported > 0.0, "no span was exported");
        }
        measured.figures.push((figure, sold.per_second));
        measured.costs.push((figure, sold.cost));
    }
    Ok(measured)
}
