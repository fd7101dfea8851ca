//! A sale as text: a pure function of the resource and the time.

use std::fmt::Write as _;

use flashsale_operator::crd::{FlashSale, FlashSaleStatus, Strategy, UNOBSERVED, condition};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::table::{age, moment, table};

/// Cells of the bar of sold units.
const BAR: i64 = 20;

/// Units sold a second, over some seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Units a second.
    pub units: f64,
    /// The time over which it was measured, in seconds.
    pub seconds: f64,
}

/// The whole screen.
pub fn screen(sale: &FlashSale, rate: Option<Rate>, now: Timestamp) -> String {
    let name = sale.name_any();
    let namespace = sale.namespace().unwrap_or_default();
    let mut text = format!("{name} in {namespace}");
    if let Some(created) = sale.creation_timestamp() {
        let _ = write!(text, ", {} old", age(created.0, now));
    }
    text.push_str("\n\n");
    let seen = sale.status.as_ref().filter(|status| status.observed_generation != UNOBSERVED);
    let Some(status) = seen else {
        text.push_str(
            "No operator has seen this sale. Is one running that watches its namespace?\n",
        );
        return text;
    };
    if sale.metadata.generation.is_some_and(|generation| status.observed_generation < generation) {
        text.push_str("The operator has not seen the last change of the spec yet.\n\n");
    }
    text.push_str(&facts(sale, status, rate, now));
    text.push('\n');
    text.push_str(&products(sale, status));
    text.push('\n');
    text.push_str(&conditions(status, now));
    text
}

/// The sale on one line, for a log.
pub fn line(sale: &FlashSale) -> String {
    let Some(status) = &sale.status else { return "not seen by an operator".to_owned() };
    let part = |summary: Option<&String>| summary.map_or_else(|| "-".to_owned(), Clone::clone);
    let mut text = format!(
        "{}: redis {}, app {}",
        status.phase,
        part(status.redis.as_ref().map(|redis| &redis.summary)),
        part(status.app.as_ref().map(|app| &app.summary)),
    );
    if let Some(totals) = status.totals {
        let _ = write!(text, ", sold {} of {}", totals.sold, totals.stock);
    }
    let is_true = |type_: &&str| status.is_true(type_);
    let all: Vec<&str> = condition::ALL.into_iter().filter(is_true).collect();
    let _ = write!(text, ", true: [{}]", all.join(" "));
    let cause = status.conditions.iter().find(|it| it.type_ == condition::READY);
    if let Some(ready) = cause.filter(|ready| ready.status != "True") {
        let _ = write!(text, ", {}: {}", ready.reason, ready.message);
    }
    text
}

fn facts(sale: &FlashSale, status: &FlashSaleStatus, rate: Option<Rate>, now: Timestamp) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("phase", status.phase.to_string());
    if let Some(waiting) = &status.waiting_for {
        row("waits for", format!("{}, for {}", waiting.reason, age(waiting.since.0, now)));
    }
    if let Some(at) = sale.spec.starts_at {
        row("starts", moment(at, now));
    }
    if let Some(at) = sale.spec.ends_at {
        row("ends", moment(at, now));
    }
    if let Some(redis) = &status.redis {
        let quorum = if redis.quorum { "quorum" } else { "NO QUORUM" };
        let changing = redis.members.filter(|members| *members != sale.spec.redis.nodes);
        let changing = changing.map(|members| format!(", the lock has {members}"));
        row(
            "Redis nodes",
            format!("{} vote, {quorum}{}", redis.summary, changing.unwrap_or_default()),
        );
    }
    if let Some(app) = &status.app {
        row("replicas", format!("{} ready", app.summary));
    }
    let strategy = match sale.spec.strategy {
        Strategy::Locked => "the database, under the lock",
        Strategy::Atomic => "Redis; the database follows (Atomic)",
    };
    row("decides", strategy.to_owned());
    if let Some(totals) = status.totals {
        let mut sold = format!("{} of {}, {} left", totals.sold, totals.stock, totals.remaining);
        if let Some(rate) = rate {
            let _ = write!(sold, ", {:.1} a second over {:.0} s", rate.units, rate.seconds);
        }
        row("sold", sold);
    }
    for url in status.urls.iter().chain(&status.url) {
        row("URL", url.clone());
    }
    table(&rows)
}

fn products(sale: &FlashSale, status: &FlashSaleStatus) -> String {
    let headings = ["PRODUCT", "NAME", "STOCK", "SOLD", "LEFT", ""];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for product in &status.products {
        let declared = sale.spec.products.iter().find(|it| it.id == product.id);
        let name = declared.and_then(|declared| declared.name.clone());
        rows.push(vec![
            product.id.clone(),
            name.unwrap_or_else(|| "-".to_owned()),
            product.stock.to_string(),
            product.sold.to_string(),
            product.remaining.to_string(),
            bar(product.sold, product.stock),
        ]);
    }
    if rows.len() == 1 {
        // Not counted yet: what is declared.
        rows.extend(sale.spec.products.iter().map(|product| {
            let name = product.name.clone().unwrap_or_else(|| "-".to_owned());
            let unknown = || "-".to_owned();
            vec![product.id.clone(), name, product.stock.to_string(), unknown(), unknown()]
        }));
    }
    table(&rows)
}

fn bar(sold: i64, stock: i64) -> String {
    if stock <= 0 {
        return String::new();
    }
    let filled = (i128::from(sold.clamp(0, stock)) * i128::from(BAR)) / i128::from(stock);
    let filled = usize::try_from(filled).unwrap_or_default();
    let width = usize::try_from(BAR).unwrap_or_default();
    format!("[{:<width$}]", "#".repeat(filled))
}

fn conditions(status: &FlashSaleStatus, now: Timestamp) -> String {
    let headings = ["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    rows.extend(status.conditions.iter().map(|condition| {
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            age(condition.last_transition_time.0, now),
            condition.message.replace('\n', " "),
        ]
    }));
    table(&rows)
}
