//! Redis and PostgreSQL over TLS: certificates that are refused, and those that are renewed while buyers buy.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ledger::Ledger;
use serde_json::json;
use sqlx::Connection;
use testkit::{Authority, Certificate, Fsync, Postgres, RedisServer, TlsFolder, free_port};

use crate::common::{Database, SaleSpec, TestSale, eventually};

/// Redis nodes and a database with TLS.
struct Stores {
    nodes: Vec<RedisServer>,
    ports: Vec<u16>,
    postgres: Postgres,
    plain_url: String,
    /// As the pods of the servers have them.
    servers: TlsFolder,
    /// As the pods of the app have them.
    clients: TlsFolder,
}

impl Stores {
    fn start(nodes: usize, certificate: &Certificate, trusted: &str) -> Self {
        let fsync = if nodes == 1 { Fsync::Always } else { Fsync::EverySecond };
        let postgres = Postgres::start().unwrap();
        let stores = Self {
            nodes: (0..nodes).map(|_| RedisServer::start_with(fsync).unwrap()).collect(),
            ports: (0..nodes).map(|_| free_port().unwrap()).collect(),
            plain_url: postgres.create_database("sale").unwrap(),
            postgres,
            servers: TlsFolder::new(certificate, trusted).unwrap(),
            clients: TlsFolder::new(certificate, trusted).unwrap(),
        };
        stores.reload();
        stores
    }

    /// The servers read their files.
    fn reload(&self) {
        for (node, port) in self.nodes.iter().zip(&self.ports) {
            node.use_tls(&self.servers, *port).unwrap();
        }
        self.postgres.use_tls(&self.servers).unwrap();
    }

    fn url(&self) -> String {
        self.plain_url.replace("127.0.0.1", "localhost")
    }

    fn spec(&self) -> SaleSpec {
        let nodes: Vec<String> = self.ports.iter().map(|it| format!("localhost:{it}")).collect();
        let ca_file = self.clients.path("ca.crt").display().to_string();
        let mut spec = SaleSpec { nodes: 0, ..SaleSpec::on(Database::Sqlite) };
        spec.products = json!([{"id": "1", "name": "Console", "stock": 100_000}]);
        spec.settings = vec![
            ("REDIS_NODES", nodes.join(",")),
            ("REDIS_CA_FILE", ca_file.clone()),
            ("DATABASE_URL", self.url()),
            ("DATABASE_CA_FILE", ca_file),
        ];
        spec
    }

    /// The app's connections to the database: all of them, and those with TLS.
    async fn sessions(&self) -> (i64, i64) {
        let mut watcher = sqlx::PgConnection::connect(&self.plain_url).await.unwrap();
        sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl \
             JOIN pg_stat_activity USING (pid) WHERE application_name = 'flashsale'",
        )
        .fetch_one(&mut watcher)
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn both_engines_sell_over_tls_and_open_no_other_connection() {
    for nodes in [5, 1] {
        let authority = Authority::new().unwrap();
        let certificate = authority.issue("localhost", 10).unwrap();
        let stores = Stores::start(nodes, &certificate, authority.certificate());
        let mut spec = stores.spec();
        if nodes == 1 {
            spec.settings.push(("STRATEGY", "Atomic".to_owned()));
        }
        let sale = TestSale::start(spec).await;
        for buyer in ["ann", "bob"] {
            assert_eq!(sale.buyer(buyer).buy("1", 1, None).await.status, 201);
        }
        let (all, encrypted) = stores.sessions().await;
        assert!(all > 0 && all == encrypted, "{encrypted} of {all}");
        for node in &stores.nodes {
            // What remains is this command's own connection.
            let plain = format!("laddr=127.0.0.1:{}", node.address().rsplit_once(':').unwrap().1);
            assert_eq!(node.command("CLIENT LIST").unwrap().matches(&plain).count(), 1);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_refused_by_both_stores_with_its_reason() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let valid = authority.issue("localhost", 10).unwrap();
    for (certificate, trusted, reason) in [
        (valid.clone(), &other, "UnknownIssuer"),
        (authority.issue("db.example", 10).unwrap(), &authority, "not valid for name"),
        (authority.issue("localhost", -1).unwrap(), &authority, "expired"),
    ] {
        let stores = Stores::start(1, &certificate, trusted.certificate());
        let mut spec = SaleSpec { replicas: 0, ..stores.spec() };
        spec.products = json!([]);
        let mut sale = TestSale::start(spec).await;
        sale.add_replica().await;
        eventually("the replica says why", async || {
            let (status, body) = sale.readiness(0).await;
            let reasons = body["reasons"].to_string();
            status == 503
                && reasons.contains("redis: 0 of 1 nodes connected, no quorum")
                && reasons.contains("invalid peer certificate")
                && reasons.contains(reason)
        })
        .await;
        // No connection falls back to plain text.
        assert_eq!(stores.sessions().await.0, 0);

        // It becomes ready by itself when the certificate and the authorities are right.
        stores.servers.replace(&valid, "").unwrap();
        stores.clients.replace(&valid, authority.certificate()).unwrap();
        stores.reload();
        sale.await_ready(0).await;
    }
}

#[tokio::test]
async fn a_url_that_allows_plain_text_is_overruled() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let certificate = authority.issue("localhost", 10).unwrap();
    let stores = Stores::start(1, &certificate, other.certificate());
    let mut spec = stores.spec();
    spec.settings.retain(|(name, _)| *name != "DATABASE_URL");
    spec.settings.push(("DATABASE_URL", format!("{}?sslmode=disable", stores.url())));
    let spec = SaleSpec { replicas: 0, products: json!([]), ..spec };
    let sale = TestSale::start(spec).await;
    let config =
        flashsale_app::config::SeedConfig::from_variables(|name| sale.settings.get(name).cloned());
    let url = config.unwrap().database.location.url();
    let error = Ledger::connect_lazy(&url, 1).unwrap().products().await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// The renewal of the operator, step by step, with new connections of an old and of a new replica in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_are_renewed_while_buyers_buy_and_no_purchase_fails() {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (first, second) =
        (old.issue("localhost", 10).unwrap(), new.issue("localhost", 10).unwrap());
    let stores = Stores::start(5, &first, old.certificate());
    let sale = TestSale::start(stores.spec()).await;
    let (sold, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
    let buyers = futures::future::join_all((0..8).map(async |buyer: usize| {
        let buyer = sale.buyer(&format!("buyer-{buyer}"));
        while !ends.load(Ordering::Relaxed) {
            assert_eq!(buyer.buy("1", 1, None).await.status, 201);
            sold.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let some_more_are_sold = async || {
        let before = sold.load(Ordering::Relaxed);
        eventually("buyers buy", async || sold.load(Ordering::Relaxed) > before + 50).await;
    };
    let both = format!("{}{}", new.certificate(), old.certificate());
    let renewal = async {
        some_more_are_sold().await;
        // Both authorities are published; no server has changed.
        stores.clients.replace(&first, &both).unwrap();
        reconnect(&stores).await;
        some_more_are_sold().await;
        // The servers use the new certificate, one after the other.
        stores.servers.replace(&second, &both).unwrap();
        stores.reload();
        reconnect(&stores).await;
        some_more_are_sold().await;
        // The old authority is gone.
        stores.clients.replace(&second, new.certificate()).unwrap();
        reconnect(&stores).await;
        some_more_are_sold().await;
        ends.store(true, Ordering::Relaxed);
    };
    tokio::join!(buyers, renewal);
    let sold = sold.load(Ordering::Relaxed);
    let orders = async || {
        let mut watcher = sqlx::PgConnection::connect(&stores.plain_url).await.unwrap();
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM orders").fetch_one(&mut watcher).await
    };
    assert_eq!(usize::try_from(orders().await.unwrap()).unwrap(), sold);
}

/// Ends the app's connection to one node after the other, and waits until it is back. Opens a new one to the database.
async fn reconnect(stores: &Stores) {
    for node in &stores.nodes {
        let connections = || node.command("CLIENT LIST").unwrap().matches("resp=3").count();
        let before = connections();
        node.command("CLIENT KILL TYPE pubsub").unwrap();
        eventually("the app is connected again", async || connections() == before).await;
    }
    // A new session, as a replica that starts would open it.
    Ledger::connect_lazy(&database_url(stores), 1).unwrap().products().await.unwrap();
}

fn database_url(stores: &Stores) -> String {
    let file = stores.clients.path("ca.crt");
    format!("{}?sslmode=verify-full&sslrootcert={}", stores.url(), file.display())
}
