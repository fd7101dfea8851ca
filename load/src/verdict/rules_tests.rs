//! Cases of the rules that only some scenarios have.

use super::*;

/// Of a hundred orders, ten are cancelled, and ten payments fail; the rest is paid or pending.
fn checked_out() -> Run {
    let mut observed = good();
    observed.purchases.truncate(100);
    let states = ["cancelled", "payment_failed", "paid", "pending"];
    for (number, purchase) in observed.purchases.iter_mut().enumerate() {
        let mut order = order(number);
        order.state = states[(number / 10).min(3)].to_owned();
        orders_of(&mut observed.observed.database)[number] = order.clone();
        purchase.outcome = Outcome::Sold(order);
    }
    observed.nodes.iter_mut().for_each(|node| node.stock = Ok(20));
    observed.database.as_mut().unwrap().available = 20;
    observed
}

fn orders_of(database: &mut Result<DatabaseState, String>) -> &mut Vec<Order> {
    &mut database.as_mut().unwrap().orders
}

#[test]
fn units_that_came_back_are_not_sold_and_states_must_agree() {
    let checkout = Scenario::named("checkout").unwrap();
    let judged = |change: fn(&mut Run)| {
        let mut observed = checked_out();
        change(&mut observed);
        observed.judge(&checkout, TimingTargets::Report)
    };
    let report = judged(|_| {});
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().sold, 80);
    let state = judged(|seen| orders_of(&mut seen.database)[25].state = "pending".to_owned());
    assert!(state.problems()[0].contains("(paid), but recorded"), "{state}");
    let lost = judged(|seen| {
        seen.nodes.iter_mut().for_each(|node| node.stock = Ok(19));
        seen.database.as_mut().unwrap().available = 19;
    });
    assert!(lost.wrong().contains(&"stock in the database".to_owned()), "{lost}");
}

#[test]
fn restocked_units_are_on_sale() {
    let soak = Scenario::named("soak").unwrap();
    let judged = |recorded| {
        let mut observed = good();
        observed.purchases.truncate(100);
        observed.stock_before = 60;
        observed.restocked = Restocked { answered: 50, recorded };
        observed.nodes.iter_mut().for_each(|node| node.stock = Ok(10));
        observed.database.as_mut().unwrap().available = 10;
        observed.judge(&soak, TimingTargets::Report)
    };
    assert!(judged(50).passed(), "{}", judged(50));
    assert!(judged(49).wrong().contains(&"units restocked, by the database".to_owned()));
}

#[test]
fn nobody_who_asked_first_is_overtaken() {
    let fair = Scenario::named("s3-fair").unwrap();
    let judged = |change: fn(&mut Run)| {
        let mut observed = good();
        observed.stock_before = 90;
        observed.purchases.truncate(100);
        observed.database.as_mut().unwrap().orders.truncate(90);
        for purchase in &mut observed.purchases[90..] {
            purchase.outcome = Outcome::Declined("sold_out".to_owned());
        }
        change(&mut observed);
        observed.judge(&fair, TimingTargets::Report)
    };
    assert!(judged(|_| {}).passed(), "{}", judged(|_| {}));
    let overtaken = judged(|seen| {
        seen.purchases.swap(10, 95);
    });
    assert_eq!(overtaken.wrong(), ["users overtaken"], "{overtaken}");
    assert_eq!(judged(|seen| seen.unseen_tickets = 1).wrong(), ["tickets not seen"]);
}

#[test]
fn the_other_products_of_an_order_are_judged_too() {
    let s3 = Scenario::named("s3-distributed").unwrap();
    let judged = |change: fn(&mut OtherProduct)| {
        let mut observed = good();
        observed.purchases.truncate(100);
        let mut other = OtherProduct {
            id: "B".to_owned(),
            stock_before: 100,
            nodes: observed.nodes.clone(),
            database: observed.database.clone(),
        };
        change(&mut other);
        observed.others.push(other);
        observed.judge(&s3, TimingTargets::Report)
    };
    assert!(judged(|_| {}).passed(), "{}", judged(|_| {}));
    let node = judged(|other| other.nodes[2].stock = Ok(1));
    assert_eq!(node.wrong(), ["stock of B on redis-2"], "{node}");
    let half = judged(|other| drop(orders_of(&mut other.database).pop()));
    assert_eq!(half.wrong(), ["orders with and without B"], "{half}");
    let away = judged(|other| other.database = Err("away".to_owned()));
    assert_eq!(away.wrong(), ["B in the database"], "{away}");
    let back = judged(|other| {
        other.nodes.iter_mut().for_each(|node| node.stock = Ok(1));
        let database = other.database.as_mut().unwrap();
        (database.given_back, database.available) = (1, 1);
    });
    assert!(back.passed(), "of an earlier order without the first product: {back}");
}

#[test]
fn nodes_must_be_stopped_and_answers_be_as_the_scenario_says() {
    let judged = |name: &str, stopped: usize, codes: &[(&str, u32)]| {
        let mut observed = good();
        observed.stopped_nodes = (0..stopped).map(|node| format!("redis-{node}")).collect();
        observed.answers = codes.iter().map(|&(code, count)| (code.to_owned(), count)).collect();
        observed.judge(&Scenario::named(name).unwrap(), TimingTargets::Report)
    };
    let two = |stopped, codes| judged("v3-two-nodes-stopped", stopped, codes);
    let quiet = [("sold", 100), ("sold_out", 200)];
    assert!(two(2, &quiet).passed());
    let forgotten = two(0, &quiet);
    assert_eq!(forgotten.wrong(), ["Redis nodes stopped"]);
    assert!(forgotten.problems()[0].contains("cargo xtask demo"));
    let refused = two(2, &[("sold", 100), ("lock_timeout", 1)]);
    assert_eq!(refused.wrong(), ["answers other than sold, sold_out"], "{refused}");
    let three = judged("v3-three-nodes-stopped", 3, &quiet);
    assert_eq!(three.wrong(), ["answers quorum_unavailable"], "{three}");
    let lost =
        lost_pod(&Scenario::named("soak").unwrap(), TimingTargets::Judge, 4, "pod 2 was lost");
    assert!(!lost.passed() && lost.problems()[0].starts_with("pod 2 was lost; "), "{lost}");
}

#[test]
fn pods_that_start_far_apart_are_no_crowd() {
    let judged = |millis, timing| {
        let mut observed = good();
        observed.pods = Some((3, Duration::from_millis(millis)));
        observed.judge(&scenario(), timing)
    };
    assert!(judged(999, TimingTargets::Judge).passed());
    let apart = judged(5_000, TimingTargets::Judge);
    assert_eq!((apart.passed(), apart.slow()), (false, &["started within".to_owned()] as &[_]));
    let reported = judged(5_000, TimingTargets::Report);
    let row = reported.checks().iter().find(|row| row.name == "started within").unwrap();
    assert_eq!((reported.passed(), row.status), (true, Status::Missed), "{reported}");
}

/// A sale in which orders of before the run gave these units back.
fn given_back(units: i64, change: impl FnOnce(&mut Run)) -> Report {
    judged(|seen| {
        seen.database.as_mut().unwrap().given_back = units;
        change(seen);
    })
}

fn left(seen: &mut Run, units: i64) {
    seen.nodes.iter_mut().for_each(|node| node.stock = Ok(units));
    seen.database.as_mut().unwrap().available = units;
}

fn one_more_buys(seen: &mut Run, number: usize) {
    seen.purchases[number].outcome = Outcome::Sold(order(number));
    orders(seen).push(order(number));
}

fn one_less_buys(seen: &mut Run) {
    seen.purchases[99].outcome = Outcome::Declined("sold_out".to_owned());
    orders(seen).pop();
}

#[test]
fn units_of_earlier_orders_come_back_in_time_or_too_late() {
    let late = given_back(1, |seen| left(seen, 1));
    assert!(late.passed(), "{late}");
    let row = late.checks().iter().find(|row| row.name == "sold").unwrap();
    assert_eq!((row.measured.as_str(), row.target.as_deref()), ("100", Some("100 to 101")));
    let back = late.checks().iter().find(|row| row.name == "units back from earlier orders");
    let back = back.unwrap();
    assert_eq!((back.measured.as_str(), back.status), ("1", Status::Info));
    assert!(back.rule.is_some());
    let in_time = given_back(1, |seen| one_more_buys(seen, 100));
    assert!(in_time.passed(), "{in_time}");
    assert_eq!((in_time.figures().sold, in_time.figures().oversold), (101, 0));

    let oversold = given_back(1, |seen| {
        one_more_buys(seen, 100);
        one_more_buys(seen, 101);
        left(seen, -1);
    });
    assert_eq!(oversold.wrong(), ["sold", "oversold", "success rate"], "{oversold}");
    let undersold = given_back(1, |seen| {
        one_less_buys(seen);
        left(seen, 2);
    });
    assert_eq!(undersold.wrong(), ["sold", "success rate"], "{undersold}");
    let vanished = given_back(1, |_| {});
    assert!(vanished.wrong().contains(&"stock in the database".to_owned()), "{vanished}");
}

#[test]
fn a_late_payment_of_an_earlier_order_takes_a_unit() {
    let taken = given_back(-1, one_less_buys);
    assert!(taken.passed(), "{taken}");
    let oversold = given_back(-1, |seen| left(seen, -1));
    assert_eq!(oversold.wrong(), ["sold", "oversold", "success rate"], "{oversold}");
}

/// The order of this user was answered as pending, and has expired.
fn expires(seen: &mut Run, number: usize) {
    let in_state = |state: &str| Order { state: state.to_owned(), ..order(number) };
    seen.purchases[number].outcome = Outcome::Sold(in_state("pending"));
    orders(seen)[number] = in_state("expired");
}

#[test]
fn an_order_that_nobody_paid_in_time_is_given_back() {
    let late = judged(|seen| {
        expires(seen, 7);
        left(seen, 1);
    });
    assert!(late.passed(), "{late}");
    assert_eq!((late.figures().sold, late.problems().len()), (99, 0));
    let back = late.checks().iter().find(|row| row.name == "units back from orders that expired");
    assert_eq!(back.unwrap().measured, "1");
    let sold_again = judged(|seen| {
        expires(seen, 7);
        one_more_buys(seen, 100);
    });
    assert!(sold_again.passed(), "{sold_again}");
    let sold_twice = judged(|seen| {
        expires(seen, 7);
        one_more_buys(seen, 100);
        one_more_buys(seen, 101);
        left(seen, -1);
    });
    assert_eq!(sold_twice.wrong(), ["sold", "oversold", "success rate"], "{sold_twice}");

    let changes: [fn(&mut Order); 3] = [
        |order| order.buyer = "user-200".to_owned(),
        |order| order.quantity = 2,
        |order| order.state = "cancelled".to_owned(),
    ];
    for change in changes {
        let report = judged(|seen| {
            expires(seen, 7);
            left(seen, 1);
            change(&mut orders(seen)[7]);
        });
        assert!(report.problems()[0].contains("(pending), but recorded as"), "{report}");
    }
    let paid = judged(|seen| {
        orders(seen)[7].state = "expired".to_owned();
        left(seen, 1);
    });
    assert!(paid.problems()[0].contains("(confirmed), but recorded as"), "{paid}");
}

#[test]
fn a_run_without_its_users_proves_nothing() {
    let sustained = Scenario::named("sustained").unwrap();
    let came = |users: usize| {
        let mut observed = good();
        observed.purchases.truncate(users);
        orders(&mut observed).truncate(users);
        let stock = 100 - i64::try_from(users).unwrap();
        left(&mut observed, stock);
        observed.judge(&sustained, TimingTargets::Report)
    };
    assert_eq!(came(0).wrong(), ["users that came"], "{}", came(0));
    assert!(came(1).passed(), "{}", came(1));
    let missing = judged(|seen| drop(seen.purchases.pop()));
    assert_eq!(missing.wrong(), ["users that came"], "{missing}");
}
