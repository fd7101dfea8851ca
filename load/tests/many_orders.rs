//! A sale with a million earlier orders: what the load tool needs does not grow with them.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod fake;

use std::io::Write;

use flashsale_load::config::MetricsSource;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use tokio::process::Command;

use fake::{Behaviour, SCENARIO, Sale};

const EARLIER: &str = "
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)
INSERT INTO orders
SELECT printf('00000000-0000-4000-8000-%012d', n), '1', 'buyer-' || n, 1, 'confirmed' FROM numbers";

#[tokio::test]
async fn a_million_earlier_orders_are_checked_in_little_memory() {
    let sale = Sale::start(Behaviour::Honest).await;
    sale.sql(EARLIER).await;
    let mut scenario = tempfile::NamedTempFile::new().unwrap();
    let slow = SCENARIO.replace("users: 30\n", "users: 4\nusers_per_second: 100\n");
    scenario.write_all(slow.as_bytes()).unwrap();
    let settings = &sale.settings;
    let MetricsSource::Host(metrics) = &settings.metrics else { panic!("a host") };
    let output = Command::new(env!("CARGO_BIN_EXE_flashsale-load"))
        .args(["run", "--targets", "report", "--scenario-file"])
        .arg(scenario.path())
        .env("SALE_URL", &settings.sale_urls[0])
        .env("REDIS_NODES", &settings.redis_nodes[0])
        .env("DATABASE_URL", &settings.database_url)
        .env("JWT_SECRET", &settings.jwt_secret)
        .env("METRICS_HOST", metrics)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["sold"]), (&"PASS".into(), &4.into()), "{said}");
    // The largest of all processes that this one has started and waited for.
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(used < 64_000, "{used} KB");
}
