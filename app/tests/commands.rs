//! Commands that need nothing but the database: what they refuse, and what they do when asked to.

use std::process::{Command, Output};

use crate::common::{BOTH, Database, SaleSpec, TestSale};
use crate::databases::apply_a_later_migration;

async fn sale(database: Database) -> TestSale {
    TestSale::start(SaleSpec { nodes: 1, replicas: 0, ..SaleSpec::on(database) }).await
}

fn run(sale: &TestSale, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flashsale-app"));
    command.args(arguments).env("DATABASE_URL", sale.database_url()).output().unwrap()
}

/// The command failed, with all of this in its message.
fn assert_refused(output: &Output, reasons: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(reasons.iter().all(|reason| message.contains(*reason)), "{message}");
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const PENDING_EVENT: &str = "INSERT INTO order_events (sink, order_id, state, at_ms) \
     VALUES ('webhook', '0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d01', 'paid', 1)";
const DEAD_EVENT: &str = "INSERT INTO failed_events (sink, number, order_id, state, at_ms, \
     attempts, first_failed_at_ms, retry_at_ms, error, dead_at_ms) VALUES \
     ('webhook', 1, '0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d02', 'paid', 1, 25, 1, 1, 'no answer', 1)";
/// Money that came for an order that was over.
const OPEN_PAYMENT: &str = "INSERT INTO payment_events \
     (id, provider, event_id, kind, outcome, received_at_ms) VALUES \
     ('0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d03', 'stripe', 'evt_1', 'completed', 'order_state', 1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_drops_events_and_payments_only_if_it_is_told_to() {
    for database in BOTH {
        let sale = sale(database).await;
        for statement in [PENDING_EVENT, DEAD_EVENT, OPEN_PAYMENT] {
            assert_eq!(sale.execute(statement).await, 1);
        }
        // Connections of the seed may still be open.
        let release = |flags: &[&str]| {
            let command = ["release-database", "default", "--force"];
            run(&sale, &[command.as_slice(), flags].concat())
        };
        let events = ["1 events of orders are not delivered", "1 were given up", "--drop-events"];
        assert_refused(&release(&[]), &events);
        assert_refused(&release(&["--drop-payments"]), &events);
        sale.execute("DELETE FROM order_events").await;
        assert_refused(&release(&["--drop-payments"]), &["1 were given up", "--drop-events"]);
        let payments = ["1 events of payment services", "--drop-payments"];
        assert_refused(&release(&["--drop-events"]), &payments);
        let kept = sale.query("SELECT sink FROM failed_events").await.len()
            + sale.query("SELECT kind FROM payment_events").await.len();
        assert_eq!(kept, 2, "{database:?}");

        // What an administrator has resolved holds up nothing.
        sale.execute("UPDATE payment_events SET resolved_at_ms = 1").await;
        assert_done(&release(&["--drop-events"]));
        assert!(sale.query("SELECT sink FROM failed_events").await.is_empty());
        sale.ledger().prepare("default").await.unwrap();
        sale.execute(OPEN_PAYMENT).await;
        assert_refused(&release(&[]), &payments);
        assert_done(&release(&["--drop-payments"]));
        assert!(sale.query("SELECT kind FROM payment_events").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_neither_releases_nor_erases_what_it_may_not_know() {
    for database in BOTH {
        let sale = sale(database).await;
        let account = "INSERT INTO accounts (id, password_hash, role) VALUES ('ann', 'x', 'buyer')";
        assert_eq!(sale.execute(account).await, 1);
        apply_a_later_migration(&sale.database_url()).await;
        for command in [&["release-database", "default", "--force"][..], &["erase", "ann"][..]] {
            let refused = run(&sale, command);
            assert_refused(&refused, &["migration 1000", "with the newer image"]);
        }
        let owner = sale.query("SELECT sale FROM installation").await;
        assert_eq!(owner[0].as_deref(), Some("default"), "{database:?}");
        assert_eq!(sale.query("SELECT id FROM accounts").await.len(), 1);
    }
}
