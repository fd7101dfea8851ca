//! Cases of the verdict; most of them must fail.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use super::*;
use crate::observed::{
    DatabaseState, Foreign, Latency, LatencyParts, LockMetrics, NodeAttempts, NodeStock, Outcome,
    Purchase, Purchases, Timeline,
};
use load_report::Series;

fn scenario() -> Scenario {
    Scenario::named("v3-redlock").unwrap()
}

fn order(number: usize) -> Order {
    let state = "confirmed".to_owned();
    Order { id: format!("order-{number}"), buyer: format!("user-{number}"), quantity: 1, state }
}

/// A run whose users are still known one by one.
struct Run {
    observed: Observed,
    purchases: Vec<Purchase>,
}

impl Deref for Run {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        &self.observed
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Observed {
        &mut self.observed
    }
}

impl Run {
    fn judge(&self, scenario: &Scenario, timing: TimingTargets) -> Report {
        let mut observed = self.observed.clone();
        for (user, purchase) in (0..).zip(&self.purchases) {
            observed.purchases.add(user, purchase.clone());
        }
        judge(scenario, timing, &observed)
    }
}

/// 300 users, of whom the first 100 buy.
fn good() -> Run {
    let purchase = |number| Purchase {
        buyer: format!("user-{number}"),
        outcome: if number < 100 {
            Outcome::Sold(order(number))
        } else {
            Outcome::Declined("sold_out".to_owned())
        },
        lost_answers: 0,
    };
    let node = |number: usize| NodeStock { node: format!("redis-{number}"), stock: Ok(0) };
    let attempts = NodeAttempts { average: 0.002, p99: 0.01 };
    let ms = Duration::from_millis;
    let observed = Observed {
        stock_before: 100,
        purchases: Purchases::default(),
        answers: BTreeMap::new(),
        timeline: Timeline::default(),
        series: Series::default(),
        new_tokens: BTreeMap::new(),
        elapsed: ms(500),
        latency: Latency {
            requests: 300,
            p50: ms(50),
            average: ms(60),
            p99: ms(200),
            max: ms(300),
        },
        parts: LatencyParts::default(),
        locks: Ok(LockMetrics {
            wait_p50: Some(0.003),
            wait_p99: Some(0.02),
            nodes: (0..5).map(|node: u8| (node.to_string(), attempts)).collect(),
            quorum_success: Some(1.0),
            ..LockMetrics::default()
        }),
        nodes: (0..5).map(node).collect(),
        database: Ok(DatabaseState {
            declared: 100,
            available: 0,
            orders: (0..100).map(order).collect(),
            foreign: None,
            given_back: 0,
        }),
        others: Vec::new(),
        restocked: Restocked::default(),
        stopped_nodes: Vec::new(),
        unseen_tickets: 0,
        pods: None,
    };
    Run { observed, purchases: (0..300).map(purchase).collect() }
}

fn judged(change: impl FnOnce(&mut Run)) -> Report {
    let mut observed = good();
    change(&mut observed);
    let report = observed.judge(&scenario(), TimingTargets::Judge);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["verdict"], if report.passed() { "PASS" } else { "FAIL" });
    report
}

fn orders(observed: &mut Run) -> &mut Vec<Order> {
    &mut observed.database.as_mut().unwrap().orders
}

#[test]
fn a_good_sale_passes() {
    let report = judged(|_| {});
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.oversold, figures.failed["sold_out"]), (100, 0, 200));
    assert!((figures.success_rate_percent - 100.0 / 3.0).abs() < 1e-9);
    assert!((figures.requests_per_second - 600.0).abs() < 1e-9);
}

#[test]
fn oversold_is_wrong() {
    let report = judged(|seen| {
        seen.purchases[100].outcome = Outcome::Sold(order(100));
        orders(seen).push(order(100));
    });
    assert!(report.wrong().iter().any(|name| name == "oversold"), "{report}");
    assert_eq!(report.figures().oversold, 1);
}

#[test]
fn oversold_in_the_database_alone_is_wrong() {
    let report = judged(|seen| orders(seen).push(order(100)));
    assert_eq!(report.figures().oversold, 1);
    assert!(!report.passed());
}

#[test]
fn orders_that_came_or_went_without_the_run_are_wrong() {
    let foreign = |orders, units| {
        judged(|seen| seen.database.as_mut().unwrap().foreign = Some(Foreign { orders, units }))
    };
    let came = foreign(2, 2);
    assert!(came.problems()[0].contains("2 orders of others than the run's users"), "{came}");
    assert_eq!(came.figures().oversold, 2);
    let gone = foreign(-1, -1);
    assert!(gone.problems()[0].contains("1 orders of before the run are gone"), "{gone}");
    assert!(gone.wrong().contains(&"orders in the database".to_owned()), "{gone}");
    assert!(!foreign(0, 0).passed());
}

#[test]
fn an_answer_without_its_order_is_wrong() {
    let report = judged(|seen| {
        orders(seen).pop();
    });
    assert!(report.wrong().contains(&"answers and orders that disagree".to_owned()), "{report}");
    assert!(report.problems()[0].contains("order-99 of user-99 is not in the database"));
}

#[test]
fn an_order_of_another_buyer_or_quantity_is_wrong() {
    for change in
        [(|order: &mut Order| order.buyer = "user-200".to_owned()) as fn(&mut Order), |order| {
            order.quantity = 2;
        }]
    {
        let report = judged(|seen| change(&mut orders(seen)[7]));
        assert!(
            report.problems()[0].contains("order order-7 was answered as 1 for user-7"),
            "{report}"
        );
        assert!(!report.passed());
    }
}

#[test]
fn an_order_without_an_answer_is_wrong() {
    // Even where the sum is right: a buyer was told `sold_out`, another has two.
    let report = judged(|seen| {
        seen.purchases[99].outcome = Outcome::Declined("sold_out".to_owned());
        orders(seen)[99].buyer = "user-98".to_owned();
    });
    assert!(!report.passed());
    assert!(
        report.problems()[0].contains("order-99 of user-98 is in the database without"),
        "{report}"
    );
}

#[test]
fn a_lost_answer_excuses_one_order() {
    let lost = |outcome: Outcome| {
        judged(|seen| {
            seen.purchases[99].outcome = outcome;
            seen.purchases[99].lost_answers = 3;
        })
    };
    let excused = lost(Outcome::Unanswered("no_answer".to_owned()));
    assert_eq!(excused.wrong(), ["users without a final answer"], "{excused}");
    assert_eq!((excused.figures().sold, excused.figures().lost_answers), (100, 3));
    // Asked again under the same key, the sale must tell of the order.
    let denied = lost(Outcome::Declined("sold_out".to_owned()));
    assert_eq!(denied.problems().len(), 1, "{denied}");
    // The lost answer came in the end.
    assert!(lost(Outcome::Sold(order(99))).passed());
}

#[test]
fn one_order_for_two_buyers_is_wrong() {
    let report = judged(|seen| {
        let mut shared = order(98);
        shared.buyer = "user-99".to_owned();
        seen.purchases[99].outcome = Outcome::Sold(shared);
    });
    assert!(
        report.problems()[0].contains("order order-98 was given to user-98 and user-99"),
        "{report}"
    );
}

#[test]
fn a_node_that_differs_or_is_away_is_wrong() {
    assert_eq!(judged(|seen| seen.nodes[3].stock = Ok(1)).wrong(), ["stock on redis-3"]);
    let away = judged(|seen| seen.nodes[3].stock = Err("connection refused".to_owned()));
    assert_eq!(away.wrong(), ["stock on redis-3"]);
}

#[test]
fn a_database_that_differs_or_is_away_is_wrong() {
    let differs = judged(|seen| seen.database.as_mut().unwrap().available = 1);
    assert_eq!(differs.wrong(), ["stock in the database"]);
    assert_eq!(judged(|seen| seen.database = Err("away".to_owned())).wrong(), ["database"]);
}

#[test]
fn unsold_stock_is_wrong() {
    let report = judged(|seen| {
        seen.purchases[99].outcome = Outcome::Declined("sold_out".to_owned());
        orders(seen).pop();
        seen.database.as_mut().unwrap().available = 1;
        seen.nodes.iter_mut().for_each(|node| node.stock = Ok(1));
    });
    assert_eq!(report.wrong(), ["sold", "success rate"], "{report}");
}

#[test]
fn a_user_without_an_answer_is_wrong() {
    let report = judged(|seen| {
        seen.purchases[200].outcome = Outcome::Unanswered("lock_timeout".to_owned());
    });
    assert_eq!(report.wrong(), ["users without a final answer"]);
    assert_eq!(report.figures().failed["lock_timeout"], 1);
}

#[test]
fn a_quorum_below_its_target_is_wrong() {
    for share in [Some(0.99), None] {
        let report = judged(|seen| seen.locks.as_mut().unwrap().quorum_success = share);
        assert_eq!(report.wrong(), ["quorum success"], "{report}");
    }
}

type Case = (&'static str, fn(&mut Run));

#[test]
fn missed_timing_targets_are_slow() {
    let ms = Duration::from_millis;
    let cases: [Case; 5] = [
        ("requests/s", |seen| seen.elapsed = Duration::from_secs(4)),
        ("P50", |seen| seen.latency.p50 = Duration::from_millis(200)),
        ("average", |seen| seen.latency.average = Duration::from_millis(201)),
        ("P99", |seen| seen.latency.p99 = Duration::from_secs(1)),
        ("lock attempt on node 4, average", |seen| {
            let slow = NodeAttempts { average: 0.051, p99: 0.051 };
            seen.locks.as_mut().unwrap().nodes.insert("4".to_owned(), slow);
        }),
    ];
    for (name, change) in cases {
        let report = judged(change);
        assert_eq!(
            (report.wrong(), report.slow()),
            (&[] as &[String], &[name.to_owned()] as &[String])
        );
        let mut observed = good();
        change(&mut observed);
        assert!(
            observed.judge(&scenario(), TimingTargets::Report).passed(),
            "{name} is not judged"
        );
    }
    assert!(judged(|seen| seen.latency.p99 = ms(999)).passed());
}

#[test]
fn missing_metrics_fail_where_a_target_needs_them() {
    let report = judged(|seen| seen.locks = Err("away".to_owned()));
    assert_eq!(report.wrong(), ["quorum success"]);
    assert_eq!(report.slow(), ["lock attempt on a node, average"]);
    let mut observed = good();
    observed.locks = Err("away".to_owned());
    observed.purchases.truncate(100);
    observed.nodes.truncate(1);
    let single = Scenario::named("v1-single").unwrap();
    assert!(observed.judge(&single, TimingTargets::Judge).passed(), "v1-single has no such target");
}

#[test]
fn users_that_come_one_after_the_other_all_buy() {
    let sustained = Scenario::named("sustained").unwrap();
    let judged = |change: fn(&mut Run)| {
        let mut observed = good();
        observed.stock_before = 1000;
        observed.purchases.truncate(100);
        observed.nodes.iter_mut().for_each(|node| node.stock = Ok(900));
        observed.database.as_mut().unwrap().available = 900;
        change(&mut observed);
        observed.judge(&sustained, TimingTargets::Report)
    };
    let report = judged(|_| {});
    assert!(report.passed(), "{report}");
    assert_eq!((report.figures().stock, report.figures().sold), (1000, 100));
    // `sold_out` with units left.
    let undersold = judged(|seen| {
        seen.purchases[99].outcome = Outcome::Declined("sold_out".to_owned());
        orders(seen).pop();
        seen.nodes.iter_mut().for_each(|node| node.stock = Ok(901));
        seen.database.as_mut().unwrap().available = 901;
    });
    assert_eq!(undersold.wrong(), ["sold", "success rate"], "{undersold}");
    let refused = judged(|seen| {
        seen.new_tokens.insert(format!("{REFUSED}token_invalid"), 1);
        seen.new_tokens.insert("no log-in: connection_lost".to_owned(), 3);
    });
    assert_eq!(refused.wrong(), ["new tokens refused"], "{refused}");
}

#[test]
fn correctness_is_judged_without_timing() {
    let mut observed = good();
    observed.nodes[0].stock = Ok(2);
    assert!(!observed.judge(&scenario(), TimingTargets::Report).passed());
}

#[test]
fn the_table_shows_targets_and_reasons() {
    let text = judged(|seen| {
        orders(seen).pop();
        seen.latency.p99 = Duration::from_secs(2);
    })
    .to_string();
    for expected in ["FAIL (wrong)", "FAIL (slow)", "< 1000 ms", "= 33.33 %", "histogram_quantile"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("FAIL; wrong: units of orders in the database"), "{last}");
    assert!(last.ends_with("slow: P99"), "{last}");
}

#[path = "rules_tests.rs"]
mod rules;
