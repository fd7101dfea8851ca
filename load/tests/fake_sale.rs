//! The whole load run against a small fake sale with a real Redis and a real database: an honest
//! one passes, and each way of cheating is found.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod fake;

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use flashsale_load::config::{MetricsSource, Settings};
use flashsale_load::run;
use flashsale_load::scenario::Scenario;
use flashsale_load::verdict::Report;
use serde_json::Value;
use testkit::{Authority, TlsFolder};
use tokio::io::{AsyncBufReadExt, BufReader};

use fake::{Behaviour, SCENARIO, STOCK, Sale};

async fn loaded(behaviour: Behaviour) -> Report {
    Sale::start(behaviour).await.load().await.unwrap()
}

fn is_wrong(report: &Report, name: &str) -> bool {
    report.wrong().iter().any(|wrong| wrong.starts_with(name))
}

#[tokio::test]
async fn an_honest_sale_passes_once() {
    let sale = Sale::start(Behaviour::Honest).await;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.failed["sold_out"], figures.requests), (10, 20, 30));
    assert_eq!(figures.node_stock[&sale.redis.address()], Some(0));
    assert_eq!((figures.series.response_times.count(), figures.series.points.len()), (30, 30));
    let parts = |part: &str, statistic: &str| figures.latency_parts[part][statistic];
    // A connection for each user; one answer came over each.
    assert!((parts("tcp_connect", "count") - 30.0).abs() < 1e-9);
    assert!((parts("answer", "count") - 30.0).abs() < 1e-9);
    assert!(parts("name_lookup", "max_ms") > 0.0, "the name was looked up before the run");
    assert!(parts("answer", "max_ms") <= figures.max_ms && parts("answer", "p50_ms") > 0.0);
    assert!(!figures.latency_parts.contains_key("tls_handshake"));
    for row in report.checks() {
        assert!(row.rule.is_some(), "{row:?} says how it is computed");
    }

    let again = sale.load().await.unwrap_err().to_string();
    assert!(
        again.contains("needs a fresh sale with 10 units") && again.contains("0 units are left"),
        "{again}"
    );
}

#[tokio::test]
async fn nodes_with_tls_are_read_and_a_wrong_authority_is_named() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let certificate = authority.issue("localhost", 10).unwrap();
    let files = TlsFolder::new(&certificate, other.certificate()).unwrap();
    let mut sale = Sale::start(Behaviour::Honest).await;
    let port = testkit::free_port().unwrap();
    sale.redis.use_tls(&files, port).unwrap();
    sale.settings.redis_nodes = vec![format!("localhost:{port}")];
    sale.settings.redis_ca_file = Some(files.path("ca.crt"));
    let error = sale.load().await.unwrap_err().to_string();
    assert!(error.starts_with("REDIS_NODES: ") && error.contains("UnknownIssuer"), "{error}");
    files.replace(&certificate, authority.certificate()).unwrap();
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures().node_stock[&format!("localhost:{port}")], Some(0));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let report = loaded(Behaviour::LosesAnswers).await;
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.lost_answers, figures.requests), (10, 10, 40));
}

#[tokio::test]
async fn orders_of_others_are_noticed_and_earlier_ones_are_not() {
    let mut sale = Sale::start(Behaviour::Honest).await;
    sale.sql("INSERT INTO orders VALUES ('earlier', '1', 'ann', 1, 'confirmed')").await;
    sale.settings.scenario = scenario(one_by_one(4, 1)).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");

    let late = sale.sql("INSERT INTO orders VALUES ('late', '1', 'bob', 1, 'confirmed')");
    let (report, ()) = tokio::join!(sale.load(), sale.while_others_wait(5, late));
    let report = report.unwrap();
    assert!(is_wrong(&report, "orders in the database"), "{report}");
    assert!(report.problems()[0].contains("1 orders of others"), "{report}");
}

#[tokio::test]
async fn cheating_is_found() {
    // At once: some of them are found only after the nodes had their time to catch up.
    let (oversold, unrecorded, twice, forgotten) = tokio::join!(
        loaded(Behaviour::SellsOneTooMany),
        loaded(Behaviour::AnswersWithoutRecording),
        loaded(Behaviour::RecordsTwice),
        loaded(Behaviour::ForgetsTheNodes),
    );
    assert!(is_wrong(&oversold, "oversold"), "{oversold}");
    assert!(unrecorded.problems()[0].contains("is not in the database"), "{unrecorded}");
    assert!(twice.problems()[0].contains("without an answer 201"), "{twice}");
    assert!(is_wrong(&forgotten, "stock on 127.0.0.1"), "{forgotten}");
}

/// Another scenario for a fake sale.
fn scenario(change: impl Fn(&str) -> String) -> (tempfile::NamedTempFile, Scenario) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(change(SCENARIO).as_bytes()).unwrap();
    let scenario = Scenario::from_file(file.path()).unwrap();
    (file, scenario)
}

fn one_by_one(users: u32, stock: u32) -> impl Fn(&str) -> String {
    move |text| {
        let rate = format!("users: {users}\nusers_per_second: 100");
        text.replace("users: 30\n", &format!("{rate}\n"))
            .replace("stock: 10", &format!("stock: {stock}"))
    }
}

#[tokio::test]
async fn users_who_come_one_after_the_other_need_no_fresh_sale() {
    let mut sale = Sale::start(Behaviour::LosesAnswers).await;
    sale.settings.scenario = scenario(one_by_one(4, 10)).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    assert_eq!((figures.sold, figures.answers["sold"], figures.answers["internal"]), (4, 4, 4));
    assert!(figures.longest_pause_ms > 0.0);
    let of_seconds = figures.answers_by_second.iter().flat_map(|second| second.values());
    assert_eq!(of_seconds.sum::<u32>(), 8);

    let again = sale.load().await.unwrap_err().to_string();
    assert!(again.contains("needs 10 units") && again.contains("6 are left"), "{again}");
    sale.settings.scenario = scenario(one_by_one(8, 1)).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!((report.figures().sold, report.figures().failed["sold_out"]), (6, 2));
}

/// A crowd over one connection: each user but the first waits for the connection, and all of them want to buy at once.
#[tokio::test]
async fn a_user_who_waits_for_a_connection_has_asked_before() {
    let mut sale = Sale::start(Behaviour::Honest).await;
    let one = |text: &str| text.replace("users: 30\n", "users: 30\nconnections: 1\n");
    sale.settings.scenario = scenario(one).1;
    let report = sale.load().await.unwrap();
    assert!(report.passed(), "{report}");
    let figures = report.figures();
    let connects = figures.latency_parts["tcp_connect"]["count"];
    assert!((connects - 1.0).abs() < 1e-9, "{connects} connections");
    let points = &figures.series.points;
    assert_eq!(points.len(), 30);
    // Two rounded numbers.
    assert!(points.iter().all(|point| point.asked_us <= 1), "{points:?}");
}

#[tokio::test]
async fn the_hold_of_an_earlier_order_may_end_during_a_run() {
    // With units left at the end, and sold out.
    for users in [8, 30] {
        let mut sale = Sale::start(Behaviour::Honest).await;
        sale.sql("INSERT INTO orders VALUES ('earlier', '1', 'ann', 1, 'pending')").await;
        sale.settings.scenario = scenario(one_by_one(users, 10)).1;
        let expires = sale.while_others_wait(9, sale.expire("earlier"));
        let (report, ()) = tokio::join!(sale.load(), expires);
        let report = report.unwrap();
        assert!(report.passed(), "{report}");
        let figures = report.figures();
        assert_eq!(figures.oversold, 0);
        assert_eq!(figures.sold + figures.database_stock.unwrap(), 11, "{report}");
        let mut rows = report.checks().iter();
        let row = rows.find(|row| row.name == "units back from earlier orders").unwrap();
        assert_eq!(row.measured, "1");
    }
}

#[tokio::test]
async fn cheating_is_found_while_users_come_one_after_the_other() {
    let run = async |behaviour| {
        let mut sale = Sale::start(behaviour).await;
        sale.settings.scenario = scenario(one_by_one(15, 10)).1;
        sale.load().await.unwrap()
    };
    let (oversold, unrecorded, twice) = tokio::join!(
        run(Behaviour::SellsOneTooMany),
        run(Behaviour::AnswersWithoutRecording),
        run(Behaviour::RecordsTwice),
    );
    assert!(is_wrong(&oversold, "oversold"), "{oversold}");
    assert!(unrecorded.problems()[0].contains("is not in the database"), "{unrecorded}");
    assert!(twice.problems()[0].contains("without an answer 201"), "{twice}");
}

/// A process that loads the sale with this scenario.
fn process(sale: &Sale, scenario: &std::path::Path) -> tokio::process::Command {
    let Settings { sale_urls, redis_nodes, database_url, jwt_secret, metrics, .. } = &sale.settings;
    let MetricsSource::Host(metrics) = metrics else { unreachable!("a host") };
    let mut load = tokio::process::Command::new(env!("CARGO_BIN_EXE_flashsale-load"));
    load.args(["run", "--targets", "report", "--scenario-file"])
        .arg(scenario)
        .env("SALE_URL", &sale_urls[0])
        .env("REDIS_NODES", &redis_nodes[0])
        .env("DATABASE_URL", database_url)
        .env("JWT_SECRET", jwt_secret)
        .env("METRICS_HOST", metrics)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    load
}

async fn send(signal: &str, process: u32) {
    let mut kill = tokio::process::Command::new("kill");
    assert!(kill.args([signal, &process.to_string()]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_ends_with_its_verdict() {
    let sale = Sale::start(Behaviour::Honest).await;
    let (file, _) = scenario(one_by_one(100_000, 10));
    let load = process(&sale, file.path()).spawn().unwrap();
    let client = redis::Client::open(format!("redis://{}", sale.redis.address())).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        let get = redis::cmd("GET").arg("stock:1").to_owned();
        while get.query_async::<i64>(&mut redis).await.unwrap() == STOCK {}
    })
    .await
    .unwrap();
    send("-TERM", load.id().unwrap()).await;
    let ended = load.wait_with_output().await.unwrap();
    let output = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{output}");
    let verdict: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["verdict"], "PASS");
    let users = verdict["users"].as_u64().unwrap();
    assert!((1..100_000).contains(&users), "{users} users came");
}

#[tokio::test]
async fn a_run_that_is_told_twice_ends_at_once_and_says_what_is_lost() {
    let sale = Sale::start(Behaviour::KeepsSilent).await;
    let (file, _) = scenario(one_by_one(100_000, 10));
    let mut load =
        process(&sale, file.path()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let id = load.id().unwrap();
    while sale.requests() == 0 {
        assert!(load.try_wait().unwrap().is_none(), "it ended before the first user came");
        tokio::task::yield_now().await;
    }
    send("-TERM", id).await;
    let mut said = BufReader::new(load.stderr.take().unwrap()).lines();
    while !said.next_line().await.unwrap().unwrap().contains("told to stop") {}
    // One that comes with the first does not count.
    while load.try_wait().unwrap().is_none() {
        send("-INT", id).await;
    }
    let mut last = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        last = line;
    }
    assert_eq!(load.wait().await.unwrap().code(), Some(2), "{last}");
    assert!(last.contains("its verdict are lost"), "{last}");
    assert!(last.contains("0 were done, and 0 had bought"), "{last}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let sale = Sale::start(Behaviour::Honest).await;
    let nowhere = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let mut cases = HashMap::new();
    let mut case = |name, change: &dyn Fn(&mut Settings)| {
        let mut settings = sale.settings.clone();
        change(&mut settings);
        cases.insert(name, settings);
    };
    case("SALE_URL", &|s| s.sale_urls.push(format!("http://{nowhere}")));
    case("REDIS_NODES", &|s| s.redis_nodes = vec![nowhere.clone()]);
    case("DATABASE_URL", &|s| s.database_url = "sqlite:///nowhere/sale.db".to_owned());
    case("METRICS_HOST", &|s| s.metrics = MetricsSource::Host(nowhere.clone()));
    case("METRICS_URLS", &|s| {
        s.metrics = MetricsSource::Urls(vec![format!("http://{nowhere}/metrics")]);
    });
    for (name, settings) in cases {
        let error = run(&settings).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{name}: {error}");
    }
}
