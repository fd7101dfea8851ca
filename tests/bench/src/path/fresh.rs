//! The first moment of a sale as samples declare it: three replicas, fair order, one unit for a buyer.
//! Each crowd has a sale of its own that has sold nothing before.

use anyhow::{Result, ensure};
use futures::FutureExt;

use super::burst::{Answers, Connect, all_at_once};
use super::http;
use super::stage::{Shape, Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "The first 300 users of a sale at one moment, 100 items, one for each, in fair order, 3 replicas",
    rows: &[
        Row::Judged("fresh_last_answer", Unit::Millis, Target::AtMost(25.0)),
        Row::Judged("fresh_last_answer_new_connections", Unit::Millis, Target::AtMost(50.0)),
        Row::Figure("fresh_batches", Unit::Count),
        Row::Figure("second_crowd_last_answer", Unit::Millis),
        Row::Ratio("fresh_last_answer", "second_crowd_last_answer", None),
    ],
    round: |round| measure(round).boxed(),
};

const USERS: usize = 300;
const ITEMS: u32 = 100;
/// The second one finds a sale that has sold before.
const PRODUCTS: usize = 2;

async fn measure(round: Round) -> Result<Measured> {
    let [(open, batches), (second, _)] = sell(&round, Connect::Before).await?;
    let [(new, _), _] = sell(&round, Connect::WithTheRequest).await?;
    eprintln!(
        "  fresh_last_answer: {open:.1} ms, then {second:.1} ms; new connections: {new:.1} ms"
    );
    Ok(vec![
        ("fresh_last_answer", open),
        ("fresh_batches", batches),
        ("second_crowd_last_answer", second),
        ("fresh_last_answer_new_connections", new),
    ]
    .into())
}

/// Milliseconds until the last answer of each crowd, one after the other, and the batches that served it.
async fn sell(round: &Round, connect: Connect) -> Result<[(f64, f64); PRODUCTS]> {
    let shape = Shape {
        replicas: 3,
        order: "Fair",
        products: PRODUCTS,
        stock: ITEMS,
        max_per_buyer: Some(1),
        ..USUAL
    };
    let stage = Stage::start(round, shape).await?;
    let mut crowds = [(0.0, 0.0); PRODUCTS];
    for (product, (millis, batches)) in stage.products.iter().zip(&mut crowds) {
        let before = stage.metric("flashsale_batch_size_count", &[]).await?;
        let request =
            |number, token: &str| http::purchase(product, token, &format!("{product}-{number}"));
        let Answers { bought, last } = all_at_once(&stage, USERS, 201, connect, request).await?;
        ensure!(bought == ITEMS, "{bought} of {USERS} users bought one of {ITEMS} items");
        *millis = last.as_secs_f64() * 1e3;
        *batches = stage.metric("flashsale_batch_size_count", &[]).await? - before;
    }
    let books = stage.settle().await?;
    let expected = u64::from(ITEMS) * u64::try_from(PRODUCTS)?;
    ensure!(books.orders == expected, "{} orders, expected {expected}", books.orders);
    Ok(crowds)
}
