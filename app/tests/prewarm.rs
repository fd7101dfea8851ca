//! A replica connects to the database before its first buyer comes.

use crate::common::{Database, SaleSpec, TestSale, eventually};

/// More than the tasks of a replica use at the same time.
const CONNECTIONS: &str = "24";

const OPEN: &str = "SELECT count(*)::TEXT FROM pg_stat_activity \
     WHERE datname = current_database() AND application_name = 'flashsale'";

#[tokio::test]
async fn a_replica_opens_all_its_database_connections_before_a_buyer_comes() {
    let settings = vec![("DATABASE_MAX_CONNECTIONS", CONNECTIONS.to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Postgres) };
    // It is ready, and nobody buys.
    let sale = TestSale::start(spec).await;
    eventually("all connections are open", async || {
        sale.query(OPEN).await == [Some(CONNECTIONS.to_owned())]
    })
    .await;
}
