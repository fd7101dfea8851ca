//! Databases for the tests of this crate, and the plans of its statements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgPool, Row as _};
use testkit::{Direction, Packet, PacketFault, Postgres as Server, Proxy};
use uuid::Uuid;

use crate::Ledger;

/// A statement has no more parameters.
const PARAMETERS: usize = 15;

/// A database of its own with the tables, on the server that the tests share.
pub(crate) async fn on_postgres(connections: u32) -> (Arc<Server>, Ledger) {
    let server = Server::shared().unwrap();
    let url = server.new_database().unwrap();
    let ledger = Ledger::connect_lazy(&url, connections).unwrap();
    ledger.migrate().await.unwrap();
    (server, ledger)
}

/// The same behind a proxy that counts round trips, and the name of the database.
pub(crate) async fn behind_proxy(connections: u32) -> (Arc<Server>, String, Proxy, Ledger) {
    behind_proxy_with(connections, |_| PacketFault::None).await
}

/// The same with one connection. The proxy closes it instead of the next answer when the flag is set.
pub(crate) async fn losing_an_answer() -> (Arc<Server>, String, Proxy, Ledger, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let faults = {
        let armed = Arc::clone(&armed);
        move |packet: Packet<'_>| {
            let is_answer = packet.direction == Direction::ToClient;
            if is_answer && armed.swap(false, Ordering::SeqCst) {
                PacketFault::Close
            } else {
                PacketFault::None
            }
        }
    };
    let (server, name, proxy, ledger) = behind_proxy_with(1, faults).await;
    (server, name, proxy, ledger, armed)
}

async fn behind_proxy_with(
    connections: u32,
    faults: impl Fn(Packet<'_>) -> PacketFault + Send + Sync + 'static,
) -> (Arc<Server>, String, Proxy, Ledger) {
    let (server, name) = (Server::shared().unwrap(), format!("t{}", Uuid::now_v7().simple()));
    let url = server.create_database(&name).unwrap();
    let proxy = Proxy::start_with(server.address(), faults).await.unwrap();
    let behind = url.replace(&server.address(), proxy.address());
    let ledger = Ledger::connect_lazy(&behind, connections).unwrap();
    ledger.migrate().await.unwrap();
    (server, name, proxy, ledger)
}

/// Waits until a connection is given back, so that the next statement has it.
pub(crate) async fn await_an_idle_connection(pool: &PgPool) {
    while pool.num_idle() < 1 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn pool_of(ledger: &Ledger) -> &PgPool {
    let Ledger::Postgres(postgres) = ledger else { panic!("it is PostgreSQL") };
    &postgres.pool
}

/// What a session of the app would do for this statement, a step a line. Such a session plans without the values.
pub(crate) async fn plan(pool: &PgPool, statement: &str) -> String {
    let parameters = (1..=PARAMETERS).filter(|n| statement.contains(&format!("${n}"))).count();
    let nulls = match parameters {
        0 => String::new(),
        some => format!("({})", vec!["NULL"; some].join(", ")),
    };
    let explain = format!("PREPARE s AS {statement}; EXPLAIN EXECUTE s {nulls}; DEALLOCATE s");
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

/// The same at a time when PostgreSQL knows that these tables are empty. A session keeps that plan while they grow.
pub(crate) async fn plan_without_rows(pool: &PgPool, tables: &str, statement: &str) -> String {
    let vacuum = AssertSqlSafe(format!("VACUUM ANALYZE {tables}"));
    sqlx::raw_sql(vacuum).execute(pool).await.unwrap();
    plan(pool, statement).await
}

pub(crate) async fn await_a_waiting_statement(pool: &PgPool) {
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock')";
    let deadline = Instant::now() + Duration::from_secs(30);
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(pool).await.unwrap() {
        assert!(Instant::now() < deadline, "no statement waits for a lock");
    }
}
