//! Several products in one request, all or nothing: what fair order costs a hundred users who ask at
//! one moment. The system before this one was measured so: 17 s under its fair lock, 4 s without.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::burst::{Answers, Connect, all_at_once};
use super::http;
use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "100 users at one moment, one each of products A, B and C (90 each), 3 replicas; until all are answered",
    rows: &[
        Row::Figure("several_fair", Unit::Millis),
        Row::Figure("several_distributed", Unit::Millis),
        Row::Ratio("several_fair", "several_distributed", Some(Target::AtMost(1.1))),
    ],
    round: |round| measure(round).boxed(),
};

const USERS: usize = 100;
const ITEMS: u32 = 90;
const PRODUCTS: usize = 3;
/// Crowds of each kind in a round, every crowd with products of its own.
const CROWDS: usize = 10;

async fn measure(round: Round) -> Result<Measured> {
    let products = 2 * CROWDS * PRODUCTS;
    let stage =
        Stage::start(&round, Shape { replicas: 3, products, stock: ITEMS, ..USUAL }).await?;
    let (mut fair, mut distributed) = (Vec::new(), Vec::new());
    let first_is_fair = round.number.is_multiple_of(2);
    for (crowd, products) in stage.products.chunks(PRODUCTS).enumerate() {
        let is_fair = crowd.is_multiple_of(2) == first_is_fair;
        let (lock, times) =
            if is_fair { ("fair", &mut fair) } else { ("distributed", &mut distributed) };
        let request =
            |number, token: &str| http::take(lock, products, token, &format!("{crowd}-{number}"));
        let Answers { bought, last } =
            all_at_once(&stage, USERS, 200, Connect::Before, request).await?;
        ensure!(bought == ITEMS, "{bought} of {USERS} users got the {ITEMS} under lock {lock}");
        times.push(last);
    }
    let books = stage.settle().await?;
    let left: i64 = books.available.values().sum();
    ensure!(left == 0, "{left} units are left");
    let (fair, distributed) = (median_ms(fair), median_ms(distributed));
    eprintln!("  several_fair: {fair:.1} ms; several_distributed: {distributed:.1} ms");
    Ok(vec![("several_fair", fair), ("several_distributed", distributed)].into())
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
