//! The screen and the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::screen::{Rate, line, screen};
use super::watch::{Change, Changes};
use super::*;
use crate::cluster::Target;

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

#[test]
fn a_sale_that_was_deleted_while_the_watch_was_interrupted_is_noticed() {
    let present = || Some(Change::Is(Box::new(sale())));
    let mut changes = Changes::default();
    let events = vec![
        (Event::Init, None),
        (Event::InitApply(sale()), present()),
        (Event::InitDone, None),
        (Event::Apply(sale()), present()),
        // The watch begins anew, and the list is empty.
        (Event::Init, None),
        (Event::InitDone, Some(Change::Deleted)),
    ];
    for (event, expected) in events {
        let text = format!("{event:?}");
        assert_eq!(changes.read(event), expected, "{text}");
    }
    assert_eq!(changes.read(Event::Delete(sale())), Some(Change::Deleted));
}

/// The list of all sales. Watches fail, and are counted.
async fn list_without_watch(
    State(watches): State<Arc<AtomicUsize>>,
    Query(options): Query<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    if options.contains_key("watch") {
        watches.fetch_add(1, Ordering::SeqCst);
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError",
            "message": "no watch", "code": 500,
        });
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(status));
    }
    let list = json!({
        "kind": "FlashSaleList", "apiVersion": "flashsale.dev/v1beta1",
        "metadata": { "resourceVersion": "1" }, "items": [sale()],
    });
    (StatusCode::OK, Json(list))
}

/// An API server that knows no more than that.
async fn cluster_without_watch(watches: Arc<AtomicUsize>) -> Cluster {
    let path = "/apis/flashsale.dev/v1beta1/namespaces/shop/flashsales";
    let router = Router::new().route(path, get(list_without_watch)).with_state(watches);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": url } }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a", "namespace": "shop" } }],
        "users": [{ "name": "a", "user": {} }],
    });
    std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
    let target = Target { kubeconfig: Some(kubeconfig.path().into()), ..Target::default() };
    Cluster::of(&target).await.unwrap()
}

#[tokio::test]
async fn a_watch_that_fails_is_tried_again_with_pauses() {
    let watches = Arc::new(AtomicUsize::new(0));
    let cluster = cluster_without_watch(Arc::clone(&watches)).await;
    let watching = watch::run(&cluster, sale(), false);
    let ended = tokio::time::timeout(Duration::from_secs(2), Box::pin(watching)).await;
    assert!(ended.is_err(), "it goes on: {ended:?}");
    let watches = watches.load(Ordering::SeqCst);
    assert!((1..=4).contains(&watches), "{watches} attempts in 2 s");
}
