//! The verdict: a pure function of the observations. Two kinds of failure: the sale was *wrong* (answers,
//! nodes or database differ from the expected result) or it was *slow* (a timing target was missed).
//! Correctness is judged by the answers, the nodes and the database alone; the app's own metrics only
//! contribute figures on the lock.

mod parts;
mod rows;
mod sales;

use std::collections::BTreeSet;
use std::time::Duration;

use load_report::Series;
pub use load_report::{Figures, Report, Row, Status};

use self::rows::{Bound, Rows, milliseconds};
use self::sales::{Sales, count, held_units};

use crate::config::TimingTargets;
use crate::observed::{DatabaseState, Observed, Order, OtherProduct, REFUSED, Restocked};
use crate::scenario::{PODS_APART_MS, Scenario};

/// Judges a run.
#[must_use]
pub fn judge(scenario: &Scenario, timing: TimingTargets, observed: &Observed) -> Report {
    let sales = Sales::reconcile(observed);
    let (users, unanswered) = (observed.purchases.users, observed.purchases.unanswered);
    let given_back = given_back(&observed.database);
    let put_on_sale = observed.stock_before + observed.restocked.recorded + given_back;
    let oversold = (sales.most_units - put_on_sale).max(0);
    let left = put_on_sale - sales.units;
    let success = percent(sales.buyers, users);
    let expected_buyers = sales.expected_buyers(scenario, users, put_on_sale, given_back);
    let (fewest, most) = (*expected_buyers.start(), *expected_buyers.end());
    let units = |buyers: u32| i64::from(buyers) * i64::from(scenario.quantity) - sales.returned;

    let mut rows = Rows::new(timing);
    users_that_came(&mut rows, scenario, users);
    rows.must_be_within("sold", sales.units, &(units(fewest)..=units(most)));
    for (code, users) in &sales.failed {
        rows.info(&format!("failed: {code}"), users.to_string());
    }
    rows.must_equal("oversold", oversold, 0);
    let (lowest, highest) = (percent(fewest, users), percent(most, users));
    rows.must(
        "success rate",
        format!("{success:.2} %"),
        if fewest == most {
            format!("= {lowest:.2} %")
        } else {
            format!("{lowest:.2} % to {highest:.2} %")
        },
        // Exact, unlike the rate.
        expected_buyers.contains(&sales.buyers),
    );
    back_on_sale(&mut rows, given_back, sales.expired);
    rows.must_equal("users without a final answer", i64::from(unanswered), 0);
    agreement(&mut rows, observed, &sales, left);
    rules(&mut rows, scenario, observed);
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

/// A run without users proves nothing, and a crowd at once must be complete. A run whose users come one after the other
/// may be stopped before the last one.
fn users_that_came(rows: &mut Rows, scenario: &Scenario, users: u32) {
    let name = "users that came";
    if scenario.users_per_second.is_some() {
        rows.must(name, users.to_string(), ">= 1".to_owned(), users > 0);
    } else {
        rows.must_equal(name, i64::from(users), i64::from(scenario.users));
    }
}

/// Units that orders of before the run gave back during it.
fn given_back(database: &Result<DatabaseState, String>) -> i64 {
    database.as_ref().map_or(0, |database| database.given_back)
}

/// Rows on units that came back without a user of the run.
fn back_on_sale(rows: &mut Rows, given_back: i64, expired: i64) {
    if given_back != 0 {
        rows.info("units back from earlier orders", given_back.to_string());
    }
    if expired != 0 {
        rows.info("units back from orders that expired", expired.to_string());
    }
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

/// The verdict on a run that lost a pod, and with it the answers to its users.
pub(crate) fn lost_pod(
    scenario: &Scenario,
    timing: TimingTargets,
    pods: u32,
    lost: &str,
) -> Report {
    let mut rows = Rows::new(timing);
    rows.must("load pods with a result", "not all".to_owned(), format!("= {pods}"), false);
    rows.note(format!(
        "{lost}; the answers to its users are unknown, so nothing else was judged. `kubectl describe pods` and its log \
         may have the reason"
    ));
    rows.finish(scenario, Figures { scenario: scenario.name.clone(), ..Figures::default() })
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
                held_units(&database.orders) + database.foreign.map_or(0, |foreign| foreign.units),
                sales.units,
            );
            let orders = i64::from(count(database.orders.len()));
            let orders = orders + database.foreign.map_or(0, |foreign| foreign.orders);
            rows.must_equal("orders in the database", orders, i64::from(sales.buyers));
        }
        Err(error) => {
            rows.must("database", "unreadable".to_owned(), "readable".to_owned(), false);
            rows.note(format!("database: {error}"));
        }
    }
    for other in &observed.others {
        other_product(rows, observed, other, sales.units);
    }
    let disagree = i64::from(count(sales.problems.len()));
    rows.must_equal("answers and orders that disagree", disagree, 0);
    sales.problems.iter().for_each(|problem| rows.note(problem.clone()));
    if sales.orders_without_answer > 0 {
        rows.info("orders whose answer was lost", sales.orders_without_answer.to_string());
    }
}

/// Rows on another product of the same orders: all or nothing.
fn other_product(rows: &mut Rows, observed: &Observed, other: &OtherProduct, sold: i64) {
    let OtherProduct { id, stock_before, nodes, database } = other;
    let left = stock_before + given_back(database) - sold;
    for node in nodes {
        let name = format!("stock of {id} on {}", node.node);
        match &node.stock {
            Ok(stock) => rows.must_equal(&name, *stock, left),
            Err(error) => {
                rows.must(&name, "unreadable".to_owned(), format!("= {left}"), false);
                rows.note(format!("{}: {error}", node.node));
            }
        }
    }
    match (database, &observed.database) {
        (Ok(database), Ok(first)) => {
            let name = format!("stock of {id} in the database");
            rows.must_equal(&name, database.available, left);
            let set = |orders: &[Order]| -> BTreeSet<(String, String, i64, String)> {
                let fields =
                    |it: &Order| (it.id.clone(), it.buyer.clone(), it.quantity, it.state.clone());
                orders.iter().map(fields).collect()
            };
            let (with, without) = (set(&database.orders), set(&first.orders));
            let differ = with.symmetric_difference(&without).count();
            rows.must_equal(&format!("orders with and without {id}"), i64::from(count(differ)), 0);
        }
        (Err(error), _) => {
            let name = format!("{id} in the database");
            rows.must(&name, "unreadable".to_owned(), "readable".to_owned(), false);
            rows.note(format!("database: {error}"));
        }
        // The other one's row says it.
        (Ok(_), Err(_)) => {}
    }
}

/// Rows on what only some scenarios ask for.
fn rules(rows: &mut Rows, scenario: &Scenario, observed: &Observed) {
    if let Some((pods, apart)) = observed.pods {
        rows.info("load pods", pods.to_string());
        let apart = milliseconds(apart.as_secs_f64());
        rows.timing("started within", Some(apart), " ms", Bound::Below(Some(PODS_APART_MS)));
    }
    if scenario.restock.is_some() {
        let Restocked { answered, recorded } = observed.restocked;
        rows.must_equal("units restocked, by the database", recorded, answered);
    }
    if scenario.in_turn {
        rows.must_equal("users overtaken", i64::from(observed.purchases.overtaken()), 0);
        let unseen = i64::from(count(observed.unseen_tickets));
        rows.must_equal("tickets not seen", unseen, 0);
    }
    if let Some(expected) = scenario.stopped_nodes {
        let stopped = observed.stopped_nodes.len();
        let met = stopped == expected;
        rows.must("Redis nodes stopped", stopped.to_string(), format!("= {expected}"), met);
        if !met {
            rows.note(
                "somebody must stop Redis nodes during the run: `cargo xtask demo` does it, and the head of the \
                 scenario's manifest has the command"
                    .to_owned(),
            );
        }
    }
    let answers = |code: &String| observed.answers.get(code).copied().unwrap_or_default();
    let only = &scenario.answers.only;
    if !only.is_empty() {
        let other = observed.answers.iter().filter(|(code, _)| !only.contains(code));
        let other: u32 = other.map(|(_, number)| number).sum();
        let name = format!("answers other than {}", only.join(", "));
        rows.must_equal(&name, i64::from(other), 0);
    }
    for code in &scenario.answers.some {
        let number = answers(code);
        let name = format!("answers {code}");
        rows.must(&name, number.to_string(), ">= 1".to_owned(), number > 0);
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
    let latency_parts = parts::add(rows, &observed.parts);

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
        latency_parts,
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

fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) * 100.0 }
}

#[cfg(test)]
mod tests;
