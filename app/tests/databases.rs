//! Whose database it is, and what a database must be: one sale's own, not made for later versions
//! only, and with a session for each connection.

use futures::future::join_all;
use ledger::{Ledger, LedgerError, ReleaseError, ReleaseOptions, UnusableDatabase};
use reqwest::StatusCode;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use testkit::{PgBouncer, Postgres};
use tokio::time::timeout;

use crate::common::{BOTH, Database, PATIENCE, SaleSpec, TestSale, eventually, execute};

const LAST: &str = "shop/black-friday";
const NEXT: &str = "shop/spring";

fn named(database: Database, name: &str) -> SaleSpec {
    let settings = vec![("SALE_NAME", name.to_owned())];
    SaleSpec { nodes: 1, settings, ..SaleSpec::on(database) }
}

/// A sale with Redis nodes of its own on the database of another.
fn on_the_database_of(other: &TestSale, name: &str) -> SaleSpec {
    let mut spec = SaleSpec { replicas: 0, products: json!([]), ..named(Database::Sqlite, name) };
    spec.settings.push(("DATABASE_URL", other.database_url()));
    spec
}

async fn count(url: &str, of: &str) -> i64 {
    let statement = AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
    } else {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sale_on_a_database_is_refused_with_the_first_ones_name() {
    for database in BOTH {
        let first = TestSale::start(named(database, LAST)).await;
        let mut second = TestSale::start(on_the_database_of(&first, NEXT)).await;
        let refused = second.seed(&json!([{"id": "b", "name": "B", "stock": 1}])).await;
        let message = format!("{:#}", refused.unwrap_err());
        assert!(message.contains("belongs to the sale \"shop/black-friday\""), "{message}");
        assert!(message.contains("release-database shop/black-friday"), "{message}");

        second.add_replica().await;
        eventually("the reason is there", async || {
            let (status, reasons) = second.readiness(0).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            reasons.to_string().contains("belongs to the sale")
        })
        .await;
        let answer = second.buyer("ann").buy("1", 1, None).await;
        assert_eq!(answer.problem(), (503, "database_unavailable"));
        assert_eq!(first.sold().await.as_array().unwrap().len(), 1, "nothing was seeded");
        assert_eq!(first.sold().await[0]["sold"], 0);
        // The sale's own replicas and seeds are not refused.
        first.seed(&json!([{"id": "1", "name": "Console", "stock": 101}])).await.unwrap();
        assert_eq!(first.buyer("ann").buy("1", 1, None).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sales_that_claim_a_database_at_once_one_has_it() {
    for database in BOTH {
        let spec =
            SaleSpec { nodes: 0, replicas: 0, products: json!([]), ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        sale.ledger().migrate().await.unwrap();
        let names: Vec<String> = (0..8).map(|number| format!("shop/{number}")).collect();
        let claim = async |name: &String| sale.ledger().prepare(name).await;
        let claims = join_all(names.iter().map(claim)).await;
        let refused = claims.into_iter().filter_map(Result::err).map(|error| match error {
            LedgerError::Unusable(UnusableDatabase::OwnedByAnother { owner, .. }) => owner,
            error => panic!("{error}"),
        });
        let owners: Vec<String> = refused.collect();
        assert_eq!(owners.len(), 7);
        assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_before_there_were_owners_is_claimed_by_the_first_that_comes() {
    for database in BOTH {
        let sale = TestSale::start(named(database, LAST)).await;
        sale.execute("UPDATE installation SET sale = NULL").await;
        let mut replica = TestSale::start(on_the_database_of(&sale, LAST)).await;
        replica.add_replica().await;
        replica.await_ready(0).await;
        let refused = sale.ledger().prepare(NEXT).await.unwrap_err();
        assert!(refused.to_string().contains(LAST), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_sale_on_a_released_database_starts_with_its_own_stock() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 2, "max_per_buyer": 1}]);
        let mut spec = SaleSpec { products: products.clone(), ..named(database, LAST) };
        let admin = [("ADMIN_ID", "admin"), ("ADMIN_PASSWORD", "the password of last year")];
        spec.settings.extend(admin.map(|(name, value)| (name, value.to_owned())));
        let mut last = TestSale::start(spec).await;
        let (ledger, url) = (last.ledger(), last.database_url());
        for buyer in ["ann", "bob"] {
            assert_eq!(last.buyer(buyer).buy("1", 1, Some("key")).await.status, 201);
        }
        let force = ReleaseOptions { force: true, ..ReleaseOptions::default() };
        let wrong = ledger.release_database(NEXT, force).await.unwrap_err();
        assert!(matches!(wrong, ReleaseError::NotTheOwner { .. }), "{wrong}");
        if database == Database::Postgres {
            let options = ReleaseOptions::default();
            let in_use = ledger.release_database(LAST, options).await.unwrap_err();
            assert!(matches!(in_use, ReleaseError::InUse { .. }), "{in_use}");
        }
        ledger.release_database(LAST, force).await.unwrap();

        let mut spec = on_the_database_of(&last, NEXT);
        spec.settings.extend([
            ("ADMIN_ID", "admin".to_owned()),
            ("ADMIN_PASSWORD", "the password of this year".to_owned()),
        ]);
        let mut next = TestSale::start(SaleSpec { products, replicas: 1, ..spec }).await;
        assert_eq!(next.sold().await[0]["remaining"], 2);
        // Neither the key nor the limit of last year counts.
        for buyer in ["ann", "bob"] {
            let answer = next.buyer(buyer).buy("1", 1, Some("key")).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            assert!(!answer.is_replayed());
        }
        assert_eq!(next.buyer("eve").buy("1", 1, None).await.problem(), (409, "sold_out"));
        let login = json!({"id": "admin", "password": "the password of this year"});
        assert_eq!(next.buyer("").call("POST", "/v1/auth/login", Some(&login)).await.status, 200);

        assert_eq!(count(&url, "past_orders WHERE sale = 'shop/black-friday'").await, 2);
        let sold = "past_products WHERE declared = 2 AND available = 0";
        assert_eq!(count(&url, sold).await, 1);
        assert_eq!(count(&url, "orders").await, 2, "this year's");
        // A replica of last year's sale that still runs sells nothing of this year's.
        eventually("it is unready", async || last.readiness(0).await.0 != StatusCode::OK).await;
        let late = last.buyer("eve").buy("1", 1, None).await;
        assert_eq!(late.problem(), (503, "database_unavailable"));
        last.replicas.pop().unwrap().stop().await;
        next.replicas.pop().unwrap().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_goes_on_under_another_name() {
    for database in BOTH {
        let sale = TestSale::start(named(database, LAST)).await;
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
        sale.ledger().rename_sale(LAST, NEXT).await.unwrap();
        let mut renamed = TestSale::start(on_the_database_of(&sale, NEXT)).await;
        renamed.add_replica().await;
        renamed.await_ready(0).await;
        assert_eq!(renamed.sold().await[0]["sold"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_told_to_takes_a_database_over_with_its_orders() {
    for database in BOTH {
        let last = TestSale::start(named(database, LAST)).await;
        assert_eq!(last.buyer("ann").buy("1", 1, None).await.status, 201);
        let stock = |stock: i64| json!([{"id": "1", "name": "Console", "stock": stock}]);

        let refused = TestSale::start(on_the_database_of(&last, NEXT)).await;
        assert!(refused.seed(&stock(120)).await.is_err(), "nobody said so");
        let mut spec = on_the_database_of(&last, NEXT);
        spec.settings.push(("TAKE_OVER_DATABASE", "true".to_owned()));
        let mut next = TestSale::start(spec).await;
        let lowered = format!("{:#}", next.seed(&stock(1)).await.unwrap_err());
        assert!(lowered.contains("100 already and cannot be lowered to 1"), "{lowered}");
        next.seed(&stock(120)).await.unwrap();
        next.seed(&stock(120)).await.unwrap();
        next.add_replica().await;
        next.await_ready(0).await;
        let counts = next.sold().await[0].clone();
        assert_eq!(counts["sold"], 1, "orders are kept");
        assert_eq!(counts["stock"], 120, "and the declaration adds what it has more");
        eventually("the previous sale sells no more", async || {
            last.readiness(0).await.0 != StatusCode::OK
        })
        .await;
    }
}

/// What a later version of the app might add: it expands.
const LATER: i64 = 1_000;

pub async fn apply_a_later_migration(url: &str) {
    let now = "CURRENT_TIMESTAMP";
    let (bytes, yes) = if url.starts_with("sqlite") { ("x'00'", "1") } else { ("'\\x00'", "true") };
    execute(
        url,
        &format!(
            "ALTER TABLE orders ADD COLUMN gift_note TEXT; \
             ALTER TABLE products ADD COLUMN colour TEXT DEFAULT 'blue'; \
             INSERT INTO _sqlx_migrations \
             (version, description, installed_on, success, checksum, execution_time) \
             VALUES ({LATER}, 'later', {now}, {yes}, {bytes}, 0)"
        ),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_from_before_and_after_a_later_migration_sell_at_the_same_time() {
    for database in BOTH {
        let mut sale = TestSale::start(named(database, LAST)).await;
        apply_a_later_migration(&sale.database_url()).await;
        // Rolled back: this version starts on tables that a later one has changed.
        sale.add_replica().await;
        sale.await_ready(1).await;
        sale.seed(&json!([{"id": "1", "name": "Console", "stock": 120}])).await.unwrap();
        let buyers: Vec<_> = (0..120).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let purchases = buyers.iter().enumerate().map(|(i, b)| b.buy_from(i % 2, "1", 1, None));
        let answers = join_all(purchases).await;
        assert!(answers.iter().all(|answer| answer.status == 201), "{database:?}");
        eventually("all is sold", async || sale.sold().await[0]["remaining"] == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_migration_that_this_version_cannot_live_with_is_refused() {
    for database in BOTH {
        let mut sale = TestSale::start(named(database, LAST)).await;
        apply_a_later_migration(&sale.database_url()).await;
        let needs = format!("UPDATE installation SET needs_migration = {LATER}");
        sale.execute(&needs).await;
        let says = async |replica: usize| {
            let (status, reasons) = sale.readiness(replica).await;
            status == StatusCode::SERVICE_UNAVAILABLE
                && reasons.to_string().contains("knows migration 1000")
        };
        eventually("a replica that runs stops selling", async || says(0).await).await;
        let answer = sale.buyer("ann").buy("1", 1, None).await;
        assert_eq!(answer.problem(), (503, "database_unavailable"));
        let seeded = sale.seed(&json!([{"id": "1", "name": "Console", "stock": 120}])).await;
        assert!(seeded.unwrap_err().to_string().contains("use the newer image"));
        sale.add_replica().await;
        eventually("one that starts is unready", async || {
            let (_, reasons) = sale.readiness(1).await;
            reasons.to_string().contains("knows migration 1000")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_migration_with_another_text_is_refused_and_keeps_no_lock() {
    for database in BOTH {
        let sale = TestSale::start(named(database, LAST)).await;
        let other = match database {
            Database::Sqlite => "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2",
            Database::Postgres => {
                "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2"
            }
        };
        sale.execute(other).await;
        // The second one would wait for the lock that the first one kept.
        let (first, second) = (sale.ledger(), sale.ledger());
        for ledger in [&first, &second] {
            let refused = timeout(PATIENCE, ledger.prepare(LAST)).await;
            let error = refused.expect("it waits for no lock").unwrap_err();
            assert!(error.is_final(), "{error}");
            assert!(error.to_string().contains("migration 2"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_refused_with_the_reason() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    // What comes back last is lent first, unless it is in turn; more than one session may be idle.
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 2",
        "pool_mode = transaction\nmin_pool_size = 3",
    ] {
        let pgbouncer = PgBouncer::start(&postgres, settings).unwrap();
        let pooled = pgbouncer.url_of(&url).unwrap();
        for _ in 0..3 {
            let ledger = Ledger::connect_lazy(&pooled, 1).unwrap();
            let error = ledger.prepare(LAST).await.unwrap_err();
            let shared = LedgerError::Unusable(UnusableDatabase::SharedSessions);
            assert_eq!(error.to_string(), shared.to_string(), "{settings}");
        }
    }
    let pgbouncer = PgBouncer::start(&postgres, "pool_mode = transaction").unwrap();
    let settings = vec![("DATABASE_URL", pgbouncer.url_of(&url).unwrap())];
    let spec = SaleSpec {
        nodes: 1,
        replicas: 0,
        products: json!([]),
        settings,
        ..named(Database::Sqlite, LAST)
    };
    let mut sale = TestSale::start(spec).await;
    sale.add_replica().await;
    eventually("the remedy is there", async || {
        let (status, reasons) = sale.readiness(0).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        reasons.to_string().contains("set pool_mode = session")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_runs_behind_pgbouncer_with_its_defaults() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    let pgbouncer = PgBouncer::start(&postgres, "default_pool_size = 40").unwrap();
    let settings = vec![("DATABASE_URL", pgbouncer.url_of(&url).unwrap())];
    let spec = SaleSpec { replicas: 2, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let buyers: Vec<_> = (0..120).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
    let purchases = buyers.iter().enumerate().map(|(i, b)| b.buy_from(i % 2, "1", 1, Some("k")));
    let answers = join_all(purchases).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 100);
    assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status)));
    assert_eq!(count(&url, "orders").await, 100);
}
