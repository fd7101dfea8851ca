//! The verdict: a pure function of the observations. Two kinds of failure: the sale was *wrong* (answers,
//! nodes or database differ from the expected result) or it was *slow* (a timing target was missed).
//! Correctness is judged by the answers, the nodes and the database alone; the app's own metrics only
//! contribute figures on the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::TimingTargets;
use crate::observed::{DatabaseState, Observed, Order, Outcome, REFUSED};
pub use crate::report::{Figures, Report, Row, Status};
use crate::report_rows::{Bound, Rows};
use crate::scenario::Scenario;
use crate::series::Series;

/// Judges a run.
#[must_use]
pub fn judge(scenario: &Scenario, timing: TimingTargets, observed: &Observed) -> Report {
    let sales = Sales::reconcile(observed);
    let users = count(observed.purchases.len());
    let unanswered = count(
        observed.purchases.iter().filter(|p| matches!(p.outcome, Outcome::Unanswered(_))).count(),
    );
    let oversold = (sales.most_units - observed.stock_before).max(0);
    let left = observed.stock_before - sales.units;
    let success = percent(sales.buyers, users);
    let expected_buyers = scenario.expected_buyers(users, observed.stock_before);
    let expected_sold = i64::from(expected_buyers) * i64::from(scenario.quantity);

    let mut rows = Rows::new(timing);
    rows.must_equal("sold", sales.units, expected_sold);
    for (code, users) in &sales.failed {
        rows.info(&format!("failed: {code}"), users.to_string());
    }
    rows.must_equal("oversold", oversold, 0);
    rows.must(
        "success rate",
        format!("{success:.2} %"),
        format!("= {:.2} %", percent(expected_buyers, users)),
        // Exact, unlike the rate.
        sales.buyers == expected_buyers,
    );
    rows.must_equal("users without a final answer", i64::from(unanswered), 0);
    agreement(&mut rows, observed, &sales, left);
    new_tokens(&mut rows, observed);
    let figures = Figures {
        scenario: scenario.name.clone(),
        users,
        stock: observed.stock_before,
        sold: sales.units,
        failed: sales.failed,
        answers: observed.answers.clone(),
        oversold,
        success_rate_percent: success,
        unanswered,
        lost_answers: sales.lost_answers,
        longest_pause_ms: milliseconds(observed.timeline.longest_pause.as_secs_f64()),
        answers_by_second: observed.timeline.seconds.clone(),
        series: series(observed),
        new_tokens: observed.new_tokens.clone(),
        ..Figures::default()
    };
    let figures = timing_rows(&mut rows, scenario, observed, figures);
    rows.finish(scenario, figures)
}

/// The run over time, with the lock.
fn series(observed: &Observed) -> Series {
    let mut series = observed.series.clone();
    if let Ok(locks) = &observed.locks {
        series.lock_wait = locks.waits.clone();
        series.lock_nodes = locks.node_attempts.clone();
    }
    series
}

/// Rows on the nodes and the database, which must agree with the answers.
fn agreement(rows: &mut Rows, observed: &Observed, sales: &Sales, left: i64) {
    for node in &observed.nodes {
        let name = format!("stock on {}", node.node);
        match &node.stock {
            Ok(stock) => rows.must_equal(&name, *stock, left),
            Err(error) => {
                rows.must(&name, "unreadable".to_owned(), format!("= {left}"), false);
                rows.note(format!("{}: {error}", node.node));
            }
        }
    }
    match &observed.database {
        Ok(database) => {
            rows.must_equal("stock in the database", database.available, left);
            rows.must_equal(
                "units of orders in the database",
                units(&database.orders),
                sales.units,
            );
            let orders = i64::from(count(database.orders.len()));
            rows.must_equal("orders in the database", orders, i64::from(sales.buyers));
        }
        Err(error) => {
            rows.must("database", "unreadable".to_owned(), "readable".to_owned(), false);
            rows.note(format!("database: {error}"));
        }
    }
    let disagree = i64::from(count(sales.problems.len()));
    rows.must_equal("answers and orders that disagree", disagree, 0);
    sales.problems.iter().for_each(|problem| rows.note(problem.clone()));
    if sales.orders_without_answer > 0 {
        rows.info("orders whose answer was lost", sales.orders_without_answer.to_string());
    }
}

/// A refused token is wrong; a token that could not be made or tried says nothing.
fn new_tokens(rows: &mut Rows, observed: &Observed) {
    if observed.new_tokens.is_empty() {
        return;
    }
    for (result, number) in &observed.new_tokens {
        rows.info(&format!("new tokens: {result}"), number.to_string());
    }
    let refused = observed.new_tokens.iter().filter(|(result, _)| result.starts_with(REFUSED));
    let refused = refused.map(|(_, number)| i64::from(*number)).sum();
    rows.must_equal("new tokens refused", refused, 0);
}

/// Rows on speed and the lock.
fn timing_rows(
    rows: &mut Rows,
    scenario: &Scenario,
    observed: &Observed,
    base: Figures,
) -> Figures {
    let targets = &scenario.targets;
    let latency = &observed.latency;
    let answered = latency.requests.saturating_sub(base.lost_answers);
    let seconds = observed.elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { f64::from(answered) / seconds } else { 0.0 };
    let ms = |duration: Duration| milliseconds(duration.as_secs_f64());

    if scenario.users_per_second.is_some() {
        let pause = ms(observed.timeline.longest_pause);
        rows.timing("longest pause", Some(pause), " ms", Bound::Below(targets.pause_ms));
    }
    rows.info("requests", latency.requests.to_string());
    rows.timing("requests/s", Some(rate), "", Bound::AtLeast(targets.requests_per_second));
    rows.timing("P50", Some(ms(latency.p50)), " ms", Bound::Below(targets.p50_ms));
    rows.timing("average", Some(ms(latency.average)), " ms", Bound::Below(targets.average_ms));
    rows.timing("P99", Some(ms(latency.p99)), " ms", Bound::Below(targets.p99_ms));
    rows.timing("max", Some(ms(latency.max)), " ms", Bound::None);
    rows.timing("last answer", Some(milliseconds(seconds)), " ms", Bound::None);

    let locks = observed.locks.clone().unwrap_or_default();
    if let Err(error) = &observed.locks {
        rows.note(format!("the lock's metrics are missing: {error}"));
    }
    let (wait_p50, wait_p99) = (locks.wait_p50.map(milliseconds), locks.wait_p99.map(milliseconds));
    rows.timing("lock wait P50 (interpolated)", wait_p50, " ms", Bound::None);
    rows.timing("lock wait P99 (interpolated)", wait_p99, " ms", Bound::None);
    let below = Bound::Below(targets.lock_node_average_ms);
    for (node, attempts) in &locks.nodes {
        let name = format!("lock attempt on node {node}, average");
        rows.timing(&name, Some(milliseconds(attempts.average)), " ms", below);
        let name = format!("lock attempt on node {node}, P99");
        rows.timing(&name, Some(milliseconds(attempts.p99)), " ms", Bound::None);
    }
    if locks.nodes.is_empty() {
        rows.timing("lock attempt on a node, average", None, " ms", below);
    }
    let quorum = locks.quorum_success.map(|share| share * 100.0);
    match targets.quorum_success_percent {
        Some(target) => rows.must(
            "quorum success",
            quorum.map_or_else(|| "not measured".to_owned(), |percent| format!("{percent:.2} %")),
            format!(">= {target} %"),
            quorum.is_some_and(|percent| percent >= target),
        ),
        None => rows.timing("quorum success", quorum, " %", Bound::None),
    }

    let database = observed.database.as_ref().ok();
    Figures {
        requests: latency.requests,
        requests_per_second: rate,
        elapsed_seconds: seconds,
        p50_ms: ms(latency.p50),
        average_ms: ms(latency.average),
        p99_ms: ms(latency.p99),
        max_ms: ms(latency.max),
        lock_wait_p50_ms: wait_p50,
        lock_wait_p99_ms: wait_p99,
        lock_node_average_ms: locks
            .nodes
            .iter()
            .map(|(n, a)| (n.clone(), milliseconds(a.average)))
            .collect(),
        lock_node_p99_ms: locks
            .nodes
            .iter()
            .map(|(n, a)| (n.clone(), milliseconds(a.p99)))
            .collect(),
        quorum_success_percent: quorum,
        node_stock: observed.nodes.iter().map(|n| (n.node.clone(), n.stock.clone().ok())).collect(),
        database_stock: database.map(|database| database.available),
        database_orders: database.map(|database| count(database.orders.len())),
        ..base
    }
}

/// Sales according to the answers and the database.
#[derive(Debug, Default)]
struct Sales {
    /// Buyers that have an order
    buyers: u32,
    /// Units sold: of 201 responses, and of orders whose answer was lost
    units: i64,
    /// The larger of the units answered and the units recorded
    most_units: i64,
    orders_without_answer: u32,
    lost_answers: u32,
    /// Users without a confirmed order, by the last reason
    failed: BTreeMap<String, u32>,
    /// Disagreements between answers and database
    problems: Vec<String>,
}

impl Sales {
    fn reconcile(observed: &Observed) -> Self {
        let mut sales = Self::default();
        let mut answered: BTreeMap<&str, &Order> = BTreeMap::new();
        // Users that may have an order they don't know of: an answer was lost, and none was final.
        let mut in_doubt = BTreeSet::new();
        for purchase in &observed.purchases {
            sales.lost_answers += purchase.lost_answers;
            match &purchase.outcome {
                Outcome::Sold(order) => {
                    if let Some(other) = answered.insert(&order.id, order)
                        && other.buyer != order.buyer
                    {
                        let problem = format!(
                            "order {} was given to {} and {}",
                            order.id, other.buyer, order.buyer
                        );
                        sales.problems.push(problem);
                    }
                }
                Outcome::Declined(code) => *sales.failed.entry(code.clone()).or_default() += 1,
                Outcome::Unanswered(code) => {
                    *sales.failed.entry(code.clone()).or_default() += 1;
                    if purchase.lost_answers > 0 {
                        in_doubt.insert(purchase.buyer.as_str());
                    }
                }
            }
        }
        sales.buyers = count(answered.len());
        sales.units = answered.values().map(|order| order.quantity).sum();
        sales.most_units = sales.units;
        if let Ok(database) = &observed.database {
            sales.compare(database, &answered, in_doubt);
        }
        sales
    }

    fn compare(
        &mut self,
        database: &DatabaseState,
        answered: &BTreeMap<&str, &Order>,
        mut in_doubt: BTreeSet<&str>,
    ) {
        let recorded: BTreeMap<&str, &Order> =
            database.orders.iter().map(|order| (order.id.as_str(), order)).collect();
        for (id, order) in answered {
            match recorded.get(id) {
                None => self
                    .problems
                    .push(format!("order {id} of {} is not in the database", order.buyer)),
                Some(found) if found != order => self.problems.push(format!(
                    "order {id} was answered as {} for {}, but recorded as {} for {}",
                    order.quantity, order.buyer, found.quantity, found.buyer
                )),
                Some(_) => {}
            }
        }
        for order in &database.orders {
            if answered.contains_key(order.id.as_str()) {
                continue;
            }
            // One order per buyer in doubt, so the buyer is removed.
            if in_doubt.remove(order.buyer.as_str()) {
                self.orders_without_answer += 1;
                self.buyers += 1;
                self.units += order.quantity;
            } else {
                let problem = format!(
                    "order {} of {} is in the database without an answer 201",
                    order.id, order.buyer
                );
                self.problems.push(problem);
            }
        }
        self.most_units = self.units.max(units(&database.orders));
    }
}

fn units(orders: &[Order]) -> i64 {
    orders.iter().map(|order| order.quantity).sum()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// To the microsecond: more digits are noise.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) * 100.0 }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
