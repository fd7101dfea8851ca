//! A Redis user with the documented rights and no others serves a sale, and needs each of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::{Database, SaleSpec, TestSale, eventually};
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{RedisServer, User};

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
const SETUSER: &str = "ACL SETUSER flashsale ";

/// The rights for this strategy, as the docs have them; their placeholder is the password.
fn user(strategy: &str) -> User {
    let documented: &'static str = std::fs::read_to_string(DOCUMENTED).unwrap().leak();
    let (_, after) = documented.split_once("## A Redis user with few rights").unwrap();
    let (_, after) = after.split_once(&format!("`{strategy}`:")).unwrap();
    let rules = after.lines().find_map(|line| line.strip_prefix(SETUSER)).unwrap();
    User { name: "flashsale", rules }
}

/// The documented commands: `script|load` for a subcommand.
fn commands(user: &User) -> BTreeSet<String> {
    user.rules.split(' ').filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect()
}

fn sale_of(user: User, nodes: usize, settings: &[(&'static str, &str)]) -> SaleSpec {
    let settings = settings.iter().map(|&(name, value)| (name, value.to_owned()));
    let settings = settings
        .chain([("REDIS_PASSWORD", "PASSWORD".to_owned()), ("COMPARE_SECONDS", "1".to_owned())]);
    let products = json!([
        {"id": "1", "name": "Console", "stock": 100},
        {"id": "2", "name": "Game", "stock": 100, "max_per_buyer": 5},
    ]);
    SaleSpec {
        nodes,
        replicas: 2,
        products,
        settings: settings.collect(),
        user: Some(user),
        ..SaleSpec::on(Database::Postgres)
    }
}

/// Asks as the default user, which may do everything.
fn ask(node: &RedisServer, command: &[&str]) -> String {
    let address = node.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let output = Command::new("redis-cli").args(["-h", host, "-p", port]).args(command).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// What the user was denied, except to name itself, which changes nothing and which Redis 7.0 does not know.
fn denials(node: &RedisServer) -> Vec<String> {
    let log = ask(node, &["--json", "ACL", "LOG", "128"]);
    let log: Value = serde_json::from_str(&log).unwrap();
    let denials =
        log.as_array().unwrap().iter().map(|entry| {
            format!("{} {} in {}", entry["reason"], entry["object"], entry["context"])
        });
    denials.filter(|denial| !denial.contains("client")).collect()
}

/// The commands that were called, by a client or in a script. Of these the test itself calls `GET` and `INFO`, which scripts and clients call before it.
fn called(node: &RedisServer) -> BTreeSet<String> {
    let statistics = ask(node, &["INFO", "commandstats"]);
    let names = statistics.lines().filter_map(|line| {
        let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        (!numbers.starts_with("0,")).then(|| name.to_owned())
    });
    names.collect()
}

/// As the startup probe of a pod asks.
fn votes(node: &RedisServer) -> bool {
    let admitted = ask(node, &["GET", "redlock:admitted"]);
    let server = ask(node, &["INFO", "server"]);
    server.lines().any(|line| line.trim_end() == format!("run_id:{}", admitted.trim_end()))
}

/// What the Lua files under this folder call.
fn in_scripts(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "lua") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for call in text.split("redis.call('").chain(text.split("redis.pcall('")).skip(1) {
            let (name, rest) = call.split_once('\'').unwrap_or_default();
            if name.is_empty() || name.chars().any(|it| !it.is_ascii_uppercase()) {
                continue;
            }
            let name = name.to_lowercase();
            let sub = rest.strip_prefix(", '").and_then(|rest| rest.split('\'').next());
            found.insert(match (name.as_str(), sub) {
                ("pubsub", Some(sub)) => format!("pubsub|{}", sub.to_lowercase()),
                _ => name,
            });
        }
    }
    found
}

async fn buy(sale: &TestSale, buyers: usize) {
    let buy = |buyer: usize| async move {
        let buyer_name = format!("buyer-{buyer}");
        sale.buyer(&buyer_name).buy_from(buyer % 2, "1", 1, Some("key")).await.status
    };
    let bought = join_all((0..buyers).map(buy)).await;
    assert!(bought.iter().all(|status| *status == 201), "{bought:?}");
}

/// An account, a wrong password and the right one.
async fn somebody_logs_in(sale: &TestSale) {
    let nobody = sale.buyer("nobody");
    let account = json!({"id": "dora", "password": "correct horse"});
    let made = nobody.call("POST", "/v1/auth/signup", Some(&account)).await;
    assert!([201, 409].contains(&made.status), "{made:?}");
    let wrong = json!({"id": "dora", "password": "wrong horse"});
    assert_eq!(nobody.call("POST", "/v1/auth/login", Some(&wrong)).await.status, 401);
    assert_eq!(nobody.call("POST", "/v1/auth/login", Some(&account)).await.status, 200);
}

/// Purchases, log-ins, an order of several products, coupons and an administrator's changes.
async fn everything_is_sold(sale: &TestSale, locked: bool) {
    buy(sale, 30).await;
    eventually("the limits are shared", async || {
        sale.metrics().await.contains("\nflashsale_rate_limits_shared 1\n")
    })
    .await;
    somebody_logs_in(sale).await;
    let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
    if locked {
        several_products_and_coupons(sale).await;
    }
    let product = json!({"id": "3", "name": "Book", "stock": 5});
    assert_eq!(admin.call("POST", "/v1/products", Some(&product)).await.status, 201);
    eventually("the new product is sold", async || ann.buy("3", 1, None).await.status == 201).await;
    let add = json!({"add": 3});
    assert_eq!(admin.call("POST", "/v1/products/3/restock", Some(&add)).await.status, 200);
}

async fn several_products_and_coupons(sale: &TestSale) {
    let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
    let items =
        json!({"items": [{"product_id": "1", "quantity": 1}, {"product_id": "2", "quantity": 2}]});
    let order = ann.call("POST", "/v1/orders", Some(&items)).await;
    assert_eq!(order.status, 201, "{order:?}");
    let cancel = format!("/v1/orders/{}/cancel", order.order());
    assert_eq!(ann.call("POST", &cancel, None).await.status, 200);
    let coupon = json!({"id": "ten", "quantity": 5});
    let made = admin.call("POST", "/v1/coupons", Some(&coupon)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let issued = ann.call("POST", "/v1/coupons/ten/issue", None).await;
    assert!(issued.status < 300, "{issued:?}");
}

/// Nodes that restart forget their statistics, so they are read before and after a restart.
struct Seen(BTreeSet<String>);

impl Seen {
    fn look(&mut self, sale: &TestSale) {
        for node in &sale.nodes {
            assert_eq!(denials(node), Vec::<String>::new());
            self.0.extend(called(node));
        }
    }

    fn covers(&self, documented: &BTreeSet<String>, scripts: &BTreeSet<String>) {
        let missing: Vec<_> = scripts.difference(documented).collect();
        assert!(missing.is_empty(), "the scripts call these too: {missing:?}");
        let unused: Vec<_> = documented
            .iter()
            .filter(|command| !self.0.contains(*command) && !scripts.contains(*command))
            .collect();
        assert!(unused.is_empty(), "nothing calls these: {unused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_may_do_what_the_lock_needs_and_no_more() {
    let user = user("Locked");
    let mut seen = Seen(BTreeSet::new());
    for order in ["Fair", "Unordered"] {
        let mut sale = TestSale::start(sale_of(user, 5, &[("LOCK_ORDER", order)])).await;
        everything_is_sold(&sale, true).await;
        seen.look(&sale);
        sale.nodes[4].restart().unwrap();
        sale.nodes[3].restart_empty().unwrap();
        buy(&sale, 40).await;
        // The wiped one reads the counters of the others before that.
        eventually("all nodes vote again", async || sale.nodes.iter().all(votes)).await;
        seen.look(&sale);
    }
    let scripts = &in_scripts("redlock/src/scripts") | &in_scripts("app/src/auth");
    seen.covers(&commands(&user), &scripts);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_may_do_what_atomic_needs_and_no_more() {
    let user = user("Atomic");
    let mut seen = Seen(BTreeSet::new());
    let mut sale = TestSale::start(sale_of(user, 1, &[("STRATEGY", "Atomic")])).await;
    everything_is_sold(&sale, false).await;
    seen.look(&sale);
    sale.nodes[0].restart_empty().unwrap();
    eventually("it sells again", async || {
        sale.buyer("ann").buy("1", 1, Some("again")).await.status == 201
    })
    .await;
    let admin = sale.admin("shop");
    eventually("a product is deleted", async || {
        matches!(admin.call("DELETE", "/v1/products/3", None).await.status, 204 | 404 | 409)
    })
    .await;
    seen.look(&sale);
    let scripts = &in_scripts("sale/src/atomic") | &in_scripts("redlock/src/scripts");
    let scripts = &scripts | &in_scripts("app/src/auth");
    println!("called: {:?}", seen.0);
    seen.covers(&commands(&user), &scripts);
}
