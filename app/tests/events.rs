//! Live stock by server-sent events.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::common::{Answer, Database, SaleSpec, TestSale, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Reads one stream of events.
struct Listener {
    response: Response,
    text: String,
}

impl Listener {
    async fn open(sale: &TestSale, replica: usize, path: &str) -> Self {
        let url = format!("{}{path}", sale.replicas[replica].api);
        let response = sale.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event's name and data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let chunk = timeout(SOON, self.response.chunk()).await.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until_remaining(&mut self, remaining: i64) -> Value {
        loop {
            let (_, event) = self.next().await.unwrap();
            if event["remaining"] == remaining {
                return event;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_is_followed_on_every_replica_until_nothing_is_left() {
    let products = json!([{"id": "1", "name": "Console", "stock": 3}]);
    let spec = SaleSpec { replicas: 2, products, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let mut here = Listener::open(&sale, 0, "/v1/products/1/events").await;
    let mut there = Listener::open(&sale, 1, "/v1/products/1/events").await;
    let mut all = Listener::open(&sale, 1, "/v1/sale/events").await;
    let first = ("stock".to_owned(), json!({"product_id": "1", "remaining": 3, "state": "open"}));
    assert_eq!(here.next().await.unwrap(), first);
    assert_eq!(there.next().await.unwrap(), first);
    assert_eq!(all.next().await.unwrap().1["products"][0]["remaining"], 3);

    sale.buyer("ann").buy("1", 1, None).await.order();
    here.until_remaining(2).await;
    there.until_remaining(2).await;
    sale.buyer("bob").buy("1", 2, None).await.order();
    assert_eq!(here.until_remaining(0).await["state"], "sold_out");
    assert_eq!(there.until_remaining(0).await["state"], "sold_out");
    loop {
        let (name, event) = all.next().await.unwrap();
        assert_eq!(name, "sale");
        if event["state"] == "sold_out" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_make_few_events_and_the_last_one_is_the_truth() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let mut listener = Listener::open(&sale, 0, "/v1/products/1/events").await;
    let buyer = sale.buyer("ann");
    let started = Instant::now();
    for _ in 0..20 {
        join_all((0..5).map(|_| buyer.buy("1", 1, None))).await;
    }
    let mut events = 0;
    while listener.next().await.unwrap().1["remaining"] != 0 {
        events += 1;
    }
    // The first is at once, and one may be on its way at each end.
    let most = started.elapsed().as_millis() / 100 + 2;
    assert!(events <= most, "{events} events in {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_follows_the_window_and_a_deletion_ends_the_stream() {
    let starts_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let settings = vec![("SALE_STARTS_AT", starts_at.to_string())];
    let sale = TestSale::start(SaleSpec { settings, ..SaleSpec::on(Database::Sqlite) }).await;
    let mut listener = Listener::open(&sale, 0, "/v1/products/1/events").await;
    loop {
        let (_, event) = listener.next().await.unwrap();
        if event["state"] == "open" {
            break;
        }
        assert_eq!(event["state"], "scheduled");
    }
    assert!(jiff::Timestamp::now() >= starts_at);
    assert_eq!(sale.admin("admin").call("DELETE", "/v1/products/1", None).await.status, 204);
    assert_eq!(listener.next().await.unwrap().0, "gone");
    assert!(listener.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_shuts_down_ends_its_streams_and_stops_at_once() {
    let mut sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let mut listener = Listener::open(&sale, 0, "/v1/products/1/events").await;
    listener.next().await.unwrap();
    let replica = sale.replicas.remove(0);
    let stopping = Instant::now();
    let (mut after, ()) = (0, replica.stop().await);
    while listener.next().await.is_some() {
        after += 1;
    }
    assert_eq!(after, 0);
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_have_a_limit_and_leave_their_place() {
    let settings = vec![("EVENT_LISTENERS", "2".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let mut first = Listener::open(&sale, 0, "/v1/products/1/events").await;
    let second = Listener::open(&sale, 0, "/v1/sale/events").await;
    let url = format!("{}/v1/products/1/events", sale.replicas[0].api);
    let third = Answer::of(sale.client.get(&url).send().await.unwrap()).await;
    assert_eq!(third.problem(), (503, "too_many_listeners"));
    assert!(third.headers.contains_key("retry-after"));
    first.next().await.unwrap();
    drop(second);
    let open = async || sale.client.get(&url).send().await.unwrap().status() == 200;
    eventually("a place is free again", open).await;

    let unknown = format!("{}/v1/products/none/events", sale.replicas[0].api);
    let unknown = Answer::of(sale.client.get(unknown).send().await.unwrap()).await;
    assert!([404, 503].contains(&unknown.status), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_places() {
    let settings = vec![
        ("EVENT_LISTENERS", "6".to_owned()),
        ("EVENT_LISTENERS_PER_ADDRESS", "3".to_owned()),
        ("TRUSTED_PROXIES", "1".to_owned()),
    ];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let follow = async |path: &str, address: &str| {
        let url = format!("{}{path}", sale.replicas[0].api);
        sale.client.get(url).header("x-forwarded-for", address).send().await.unwrap()
    };
    let [product, all] = ["/v1/products/1/events", "/v1/sale/events"];
    // An IPv6 network of 64 bits is one address.
    let mut taken = Vec::new();
    for (path, address) in [(product, "2001:db8::1"), (all, "2001:db8::2"), (all, "2001:db8::3")] {
        let listener = follow(path, address).await;
        assert_eq!(listener.status(), 200);
        taken.push(listener);
    }
    for path in [product, all] {
        let refused = Answer::of(follow(path, "2001:db8::ffff").await).await;
        assert_eq!(refused.problem(), (429, "too_many_listeners"));
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(follow(all, "192.0.2.1").await.status(), 200);
    taken.pop();
    let open = async || follow(all, "2001:db8::ffff").await.status() == 200;
    eventually("a place of the address is free again", open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_listeners_get_events_while_others_buy() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let opened = (0..300).map(|_| Listener::open(&sale, 0, "/v1/products/1/events"));
    let mut listeners = join_all(opened).await;
    let overview = sale.admin("admin").call("GET", "/v1/admin/overview", None).await.body;
    assert_eq!(overview["replica"]["listeners"], 300);
    let buyer = sale.buyer("ann");
    let buying = async {
        for _ in 0..100 {
            buyer.buy("1", 1, None).await.order();
        }
    };
    let told = join_all(listeners.iter_mut().map(|listener| listener.until_remaining(0)));
    let ((), told) = tokio::join!(buying, told);
    assert!(told.iter().all(|event| event["state"] == "sold_out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_changes_is_kept_alive_at_the_interval() {
    let settings = vec![("EVENT_KEEP_ALIVE_SECONDS", "1".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let mut listener = Listener::open(&sale, 0, "/v1/products/1/events").await;
    let first = listener.next().await.unwrap();
    let started = Instant::now();
    for _ in 0..2 {
        assert_eq!(listener.next().await.unwrap(), first, "the same again");
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(10), "not after the default of 15 s: {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_changes_outlasts_the_idle_time_of_connections() {
    let settings = vec![
        ("EVENT_KEEP_ALIVE_SECONDS", "60".to_owned()),
        ("HTTP_IDLE_TIMEOUT_SECONDS", "3".to_owned()),
    ];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let mut listener = Listener::open(&sale, 0, "/v1/products/1/events").await;
    let first = listener.next().await.unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_eq!(listener.next().await.unwrap(), first, "the same again");
    }
}
