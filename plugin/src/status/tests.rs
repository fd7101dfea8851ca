//! The screen and the table.

use serde_json::json;

use super::screen::{Rate, line, screen};
use super::*;

fn now() -> Timestamp {
    "2026-11-27T01:00:00Z".parse().unwrap()
}

fn sale() -> FlashSale {
    serde_json::from_value(json!({
        "apiVersion": "flashsale.dev/v1beta1",
        "kind": "FlashSale",
        "metadata": {
            "name": "black-friday", "namespace": "shop", "generation": 2,
            "creationTimestamp": "2026-11-26T01:00:00Z"
        },
        "spec": {
            "startsAt": "2026-11-27T00:00:00Z", "endsAt": "2026-11-27T01:30:00Z",
            "products": [{ "id": "1", "name": "Console", "stock": 100, "maxPerBuyer": 1 }]
        },
        "status": {
            "observedGeneration": 2, "phase": "Degraded",
            "conditions": [
                { "type": "RedisReady", "status": "False", "reason": "NodesAway", "message": "1 of 5\nis away",
                  "lastTransitionTime": "2026-11-27T00:59:30Z" },
                { "type": "Ready", "status": "False", "reason": "NodesAway", "message": "1 of 5 is away",
                  "lastTransitionTime": "2026-11-27T00:59:30Z" },
                { "type": "AppAvailable", "status": "True", "reason": "Available", "message": "",
                  "lastTransitionTime": "2026-11-26T01:00:00Z" }
            ],
            "waitingFor": { "reason": "NodesAway", "since": "2026-11-27T00:59:30Z" },
            "redis": { "ready": 4, "nodes": 5, "quorum": true, "summary": "4/5" },
            "app": { "ready": 3, "replicas": 3, "summary": "3/3" },
            "products": [{ "id": "1", "stock": 100, "sold": 60, "remaining": 40 }],
            "totals": { "stock": 100, "sold": 60, "remaining": 40 },
            "url": "http://black-friday.shop.svc:8080"
        }
    }))
    .unwrap()
}

#[test]
fn one_screen_has_everything() {
    let text = screen(&sale(), Some(Rate { units: 2.5, seconds: 20.0 }), now());
    for expected in [
        "black-friday in shop, 24h old",
        "phase         Degraded",
        "waits for     NodesAway, for 30s",
        "starts        2026-11-27T00:00:00Z (60m ago)",
        "ends          2026-11-27T01:30:00Z (in 30m)",
        "Redis nodes   4/5 vote, quorum",
        "replicas      3/3 ready",
        "sold          60 of 100, 40 left, 2.5 a second over 20 s",
        "URL           http://black-friday.shop.svc:8080",
        "1         Console   100     60     40     [############        ]",
        "RedisReady     False    NodesAway   30s     1 of 5 is away",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    assert!(text.lines().count() < 25, "{text}");
}

#[test]
fn a_sale_that_no_operator_has_seen_says_so() {
    let mut unseen = sale();
    unseen.status = None;
    assert!(screen(&unseen, None, now()).contains("No operator has seen this sale"));
    assert_eq!(line(&unseen), "not seen by an operator");
    let mut changed = sale();
    changed.metadata.generation = Some(3);
    assert!(screen(&changed, None, now()).contains("has not seen the last change"));
}

#[test]
fn a_line_has_the_cause() {
    let text = line(&sale());
    assert!(
        text.starts_with("Degraded: redis 4/5, app 3/3, sold 60 of 100, true: [AppAvailable]"),
        "{text}"
    );
    assert!(text.ends_with("NodesAway: 1 of 5 is away"), "{text}");
}

#[test]
fn all_sales_are_a_table() {
    let text = list(&[sale()], true, now());
    let rows: Vec<Vec<&str>> = text.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(
        rows[1],
        [
            "shop",
            "black-friday",
            "Degraded",
            "False",
            "4/5",
            "3/3",
            "100",
            "60",
            "40",
            "24h",
            "NodesAway"
        ]
    );
    assert_eq!(rows[0].len(), rows[1].len());
    assert!(list(&[sale()], false, now()).starts_with("NAME "));
}
