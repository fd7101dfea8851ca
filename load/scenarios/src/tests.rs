//! The built-in scenarios, and mistakes in a file.

use super::*;

#[test]
fn built_in_scenarios_are_those_of_the_design() {
    let v3 = Scenario::named("v3-redlock").unwrap();
    assert_eq!((v3.users, v3.stock, v3.nodes, v3.users_per_second), (300, 100, 5, None));
    assert_eq!(v3.pause(), Duration::from_millis(100)..=Duration::from_millis(500));
    let v1 = Scenario::named("v1-single").unwrap();
    assert_eq!((v1.users, v1.stock, v1.nodes, v1.users_per_second), (100, 100, 1, None));
    let sustained = Scenario::named("sustained").unwrap();
    assert_eq!(sustained.between_users(), Some(Duration::from_millis(20)));
    for name in ["s3-distributed", "s3-fair"] {
        let s3 = Scenario::named(name).unwrap();
        assert_eq!((s3.users, s3.stock, s3.products.join("")), (100, 90, "ABC".to_owned()));
    }
    let friday = Scenario::named("black-friday").unwrap();
    assert_eq!((friday.users, friday.stock, friday.users_per_second), (30_000, 100, Some(1000.0)));
    let coupons = Scenario::named("coupon-rush").unwrap();
    assert_eq!((coupons.users, coupons.stock, coupons.call), (10_000, 1000, Kind::Coupon));
    assert_eq!(Scenario::named("hundred-thousand").unwrap().users, 100_000);
    let soak = Scenario::named("soak").unwrap();
    assert_eq!(soak.duration(), Duration::from_mins(30));
    assert_eq!(soak.job.deadline_seconds(), 2400);
    let short = soak.clone().lasting(Duration::from_secs(9)).unwrap();
    assert_eq!((short.duration().as_secs(), short.job.deadline_seconds()), (9, 2400));
    let long = soak.lasting(Duration::from_secs(1800 + 3601)).unwrap();
    assert_eq!(long.job.deadline_seconds(), 2400 + 3660);
    let sustained = Scenario::named("sustained").unwrap().lasting(Duration::from_secs(9)).unwrap();
    assert_eq!(sustained.job.deadline_seconds(), 7200 + 60);
    assert!(v1.lasting(Duration::from_secs(9)).is_err());
    for (number, name) in (1..).zip(["one-node", "two-nodes", "three-nodes"]) {
        let stopped = Scenario::named(&format!("v3-{name}-stopped")).unwrap();
        assert_eq!(stopped.stopped_nodes, Some(number));
        assert!(!stopped.job.meanwhile.is_empty());
    }
}

#[test]
fn seconds_are_a_number_above_0() {
    assert_eq!(positive_seconds("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["0", "-1", "NaN", "inf", "1e300", "", "5s"] {
        assert!(positive_seconds(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_any_hundred_orders_the_percentages_are_exact() {
    let checkout = Scenario::named("checkout").unwrap();
    for first in [0, 7] {
        let count =
            |kind| (first..first + 100).filter(|index| checkout.follow_up(*index) == kind).count();
        let FollowUps { pay, cancel, fail, expire } = checkout.follow_up_percent;
        let counts = [
            count(Some(FollowUp::Pay)),
            count(Some(FollowUp::Cancel)),
            count(Some(FollowUp::Fail)),
            count(Some(FollowUp::Expire)),
        ];
        assert_eq!(counts, [pay, cancel, fail, expire].map(|percent| percent as usize));
        assert_eq!(count(None), 100 - counts.iter().sum::<usize>());
    }
    assert_eq!(Scenario::named("v3-redlock").unwrap().follow_up(3), None);
}

#[test]
fn expects_whole_purchases_only() {
    let scenario = Scenario { quantity: 3, ..Scenario::named("v3-redlock").unwrap() };
    assert_eq!(scenario.expected_buyers(300, 100), 33);
    assert_eq!(scenario.expected_buyers(4, 100), 4);
}

#[test]
fn errors_say_what_to_change() {
    let unknown = Scenario::named("v9").unwrap_err().to_string();
    assert!(unknown.contains("v1-single, v3-redlock, v3-lock-timeout-1s"), "{unknown}");
    let text = BUILT_IN[0];
    for (from, to, expected) in [
        ("users: 100", "users: 0", "at least 1"),
        ("users: 100", "userz: 100", "userz"),
        ("min: 0.1", "min: 0.9", "min at most max"),
        ("stock: 100", "stock: -1", "0 or more"),
        ("stock: 100", "stock: 100\nusers_per_second: 0", "0.001 to 100000"),
        ("stock: 100", "stock: 100\nrestock: {every_seconds: 5, units: 1}", "restock requires"),
        ("stock: 100", "stock: 100\nproducts: [A]", "products requires"),
        ("stock: 100", "stock: 100\nin_turn: true", "in_turn requires"),
        ("stock: 100", "stock: 100\nfollow_up_percent: {pay: 101}", "at most 100"),
        ("stock: 100", "stock: 99\nfollow_up_percent: {cancel: 1}", "for all users"),
        ("stock: 100", "stock: 100\nconnections: 0", "connections must"),
        ("stock: 100", "stock: 100\nseconds: 5", "requires users_per_second"),
    ] {
        let error = Scenario::parse(&text.replace(from, to), "x.yaml").unwrap_err().to_string();
        assert!(
            error.starts_with("--scenario-file: x.yaml: ") && error.contains(expected),
            "{error}"
        );
    }
}
