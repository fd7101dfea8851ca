//! The limits of log-ins and sign-ups are those of all replicas together, and while Redis is away those of each.

use std::time::Instant;

use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::{Answer, Database, SaleSpec, TestSale, eventually};

/// A sale with two replicas in processes of their own.
async fn two_replicas() -> (TestSale, [Process; 2]) {
    let settings = vec![("TRUSTED_PROXIES", "1".to_owned())];
    let spec = SaleSpec { nodes: 1, replicas: 0, settings, ..SaleSpec::on(Database::Postgres) };
    let sale = TestSale::start(spec).await;
    let replicas = [(); 2].map(|()| Process::start(&sale));
    for replica in &replicas {
        await_shared(&sale, replica, true).await;
    }
    let ann = json!({"id": "ann", "password": "correct horse"});
    assert_eq!(post(&sale, &replicas[0], "signup", "192.0.2.1", &ann).await.status, 201);
    (sale, replicas)
}

async fn metrics(sale: &TestSale, replica: &Process) -> String {
    let url = format!("http://{}/metrics", replica.internal);
    match sale.client.get(url).send().await {
        Ok(response) => response.text().await.unwrap(),
        Err(_) => String::new(),
    }
}

/// Waits until the replica is ready and shares its limits, or has its own.
async fn await_shared(sale: &TestSale, replica: &Process, shared: bool) {
    let line = format!("\nflashsale_rate_limits_shared {}\n", u8::from(shared));
    eventually("the replica shares its limits, or not", async || {
        metrics(sale, replica).await.contains(&line)
    })
    .await;
    if shared {
        let url = format!("http://{}/readyz", replica.internal);
        eventually("the replica is ready", async || {
            sale.client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
}

async fn post(sale: &TestSale, replica: &Process, path: &str, from: &str, body: &Value) -> Answer {
    let url = format!("http://{}/v1/auth/{path}", replica.api);
    let request = sale.client.post(url).header("x-forwarded-for", from).json(body);
    Answer::of(request.send().await.unwrap()).await
}

/// How many of these guesses at an id were checked.
async fn guess(sale: &TestSale, replica: &Process, id: &str, from: &str, guesses: usize) -> usize {
    let mut checked = 0;
    for n in 0..guesses {
        let body = json!({"id": id, "password": format!("password{n}")});
        let answer = post(sale, replica, "login", from, &body).await;
        checked += usize::from(answer.problem() == (401, "wrong_credentials"));
    }
    checked
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_a_budget_of_log_ins_and_one_of_sign_ups() {
    let (sale, [a, b]) = two_replicas().await;
    let begun = Instant::now();
    let checked = guess(&sale, &a, "ann", "192.0.2.66", 3).await
        + guess(&sale, &b, "ann", "192.0.2.66", 4).await
        + guess(&sale, &a, "ann", "192.0.2.66", 2).await;
    let refilled = usize::try_from(begun.elapsed().as_secs() / 30).unwrap();
    assert!((5..=5 + refilled).contains(&checked), "{checked}");
    // Another address, known to one replica, is not limited at the other.
    let ann = json!({"id": "ann", "password": "correct horse"});
    for replica in [&a, &b, &a] {
        assert_eq!(post(&sale, replica, "login", "192.0.2.1", &ann).await.status, 200);
    }
    // The id is taken, so no password is hashed, and the attempts count all the same.
    let (begun, mut made) = (Instant::now(), 0);
    while post(&sale, [&a, &b][made % 2], "signup", "192.0.2.67", &ann).await.status == 409 {
        made += 1;
    }
    let refilled = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((30..=30 + refilled).contains(&made), "{made}");
    for replica in [&a, &b] {
        let fallbacks = "\nflashsale_rate_limit_fallbacks_total 0\n";
        assert!(metrics(&sale, replica).await.contains(fallbacks));
    }
}

/// The node refuses the calls for sign-ups, because their key is of another type.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_shared_budget_an_address_signs_up_as_often_at_each_replica() {
    let (sale, [a, b]) = two_replicas().await;
    sale.nodes[0].command("SET limits:sign-ups:address x").unwrap();
    let ann = json!({"id": "ann", "password": "correct horse"});
    let (begun, mut made) = (Instant::now(), 0);
    for replica in [&a, &b] {
        while post(&sale, replica, "signup", "192.0.2.67", &ann).await.status == 409 {
            made += 1;
        }
        let fallbacks = "\nflashsale_rate_limit_fallbacks_total 0\n";
        assert!(!metrics(&sale, replica).await.contains(fallbacks), "it decided alone");
    }
    let refilled = 2 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 1);
    assert!((60..=60 + refilled).contains(&made), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_each_replica_has_its_own_limits_and_nobody_is_locked_out() {
    let (mut sale, [a, b]) = two_replicas().await;
    assert!(guess(&sale, &a, "bob", "192.0.2.66", 6).await >= 5);
    sale.nodes[0].kill().unwrap();
    // One attempt comes back in half a minute.
    let refilled = |since: Instant| usize::try_from(since.elapsed().as_secs() / 30).unwrap();
    let begun = Instant::now();
    for replica in [&a, &b] {
        // The loss is noticed by the first attempt, which the replica's own limits decide.
        let checked = guess(&sale, replica, "carl", "192.0.2.66", 6).await;
        assert!((5..=6 + refilled(begun)).contains(&checked), "{checked}");
        await_shared(&sale, replica, false).await;
        let text = metrics(&sale, replica).await;
        let counted =
            text.lines().find(|it| it.starts_with("flashsale_rate_limit_fallbacks_total"));
        assert_ne!(counted, Some("flashsale_rate_limit_fallbacks_total 0"), "{text}");
        let ann = json!({"id": "ann", "password": "correct horse"});
        assert_eq!(post(&sale, replica, "login", "192.0.2.1", &ann).await.status, 200);
    }
    // The node comes back without its data. What this replica has seen, it still knows.
    sale.nodes[0].restart_empty().unwrap();
    for replica in [&a, &b] {
        await_shared(&sale, replica, true).await;
    }
    assert!(guess(&sale, &a, "carl", "192.0.2.66", 2).await <= 1 + refilled(begun));
    let begun = Instant::now();
    let checked = guess(&sale, &a, "dora", "192.0.2.66", 3).await
        + guess(&sale, &b, "dora", "192.0.2.66", 6).await;
    assert!((5..=6 + refilled(begun)).contains(&checked), "shared again: {checked}");
}
