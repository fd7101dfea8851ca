//! Products with a limit per buyer or per person, next to the same without.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::loads::{self, Loaded};
use super::run::{Answered, WARM_UP};
use super::spent::Ticks;
use super::stage::{BUYERS, ENDLESS, Shape, Stage, USUAL};
use super::wrk::{Asks, Keys};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

const LIMITED_512: Loaded =
    Loaded::new("purchases_limited", 512, Shape { max_per_buyer: Some(ENDLESS), ..USUAL });

pub(super) const SECTION: Section = Section {
    title: "A limit per buyer, 512 connections: nobody at it; half at it and a tenth of the keys repeated",
    rows: &[
        Row::Figure("purchases_limited", Unit::PerSecond),
        Row::Ratio("purchases_limited", "purchases_512", Some(Target::AtLeast(0.95))),
        Row::Figure("answers_half_at_limit", Unit::PerSecond),
        Row::Ratio("answers_half_at_limit", "purchases_512", Some(Target::AtLeast(0.85))),
    ],
    round: |round| measure(round).boxed(),
};

const PERSONS_512: Loaded = Loaded::new(
    "purchases_limited_persons",
    512,
    Shape { max_per_buyer: Some(ENDLESS), limits_persons: true, ..USUAL },
);

pub(super) const PERSONS: Section = Section {
    title: "A limit per person (limitBy), 512 connections: nobody at it",
    rows: &[
        Row::Figure("purchases_limited_persons", Unit::PerSecond),
        Row::Ratio("purchases_limited_persons", "purchases_512", None),
    ],
    round: |round| loads::measure(round, &[&PERSONS_512]).boxed(),
};

/// Far from what a run sells to one buyer.
const LIMIT: u32 = 100_000;
const CONNECTIONS: u32 = 512;

async fn measure(round: Round) -> Result<Measured> {
    let mut measured = loads::measure(round.clone(), &[&LIMITED_512]).await?;
    let stage = Stage::start(&round, Shape { max_per_buyer: Some(LIMIT), ..USUAL }).await?;
    stage.ledger.fill_every_second_buyer(&stage.products[0], LIMIT, BUYERS).await?;
    let answered = stage.mixed("answers_half_at_limit", CONNECTIONS, round.lasting).await?;
    measured.figures.push(("answers_half_at_limit", answered.per_second));
    measured.costs.push(("answers_half_at_limit", answered.cost));
    Ok(measured)
}

impl Stage {
    /// Answers a second, where every second buyer is refused and a tenth of the keys are repeated.
    async fn mixed(&self, figure: &str, connections: u32, lasting: Duration) -> Result<Answered> {
        let before = self.books().await?.orders;
        self.wrk(connections, WARM_UP, Asks::Purchase, "warm-up", Keys::EveryTenthAgain).await?;
        let earlier = Ticks::until_now(self)?;
        let report =
            self.wrk(connections, lasting, Asks::Purchase, figure, Keys::EveryTenthAgain).await?;
        let ticks = Ticks::until_now(self)?.since(earlier);
        let orders = self.settle().await?.orders - before;
        let share = |count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "three digits count")]
            let share = count as f64 / report.answers as f64;
            share
        };
        ensure!((0.4..0.6).contains(&share(report.refused)), "half are refused: {report:?}");
        let per_second = report.rate(report.answers);
        eprintln!("  {figure}: {per_second:.0}/s; {orders} orders, refused: {}", report.refused);
        Ok(Answered { per_second, cost: ticks.each(report.answers) })
    }
}
