//! What each rule of the delivery is for: the same without it. Triggers of the tests undo what the app writes.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{admin, cancel, order, sale, sale_of};
use crate::common::{BOTH, Database, eventually};
use crate::receiver::{Receiver, Reply, TAKEN};

const FAILED: &str = "SELECT error FROM failed_events";

/// A column is empty again, whenever the app writes it.
fn forgets(database: Database, table: &str, column: &str) -> String {
    let trigger = match database {
        Database::Postgres => format!(
            "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN NEW.{column} := NULL; RETURN NEW; END $$; \
             CREATE TRIGGER forget BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION forget()"
        ),
        Database::Sqlite => format!(
            "CREATE TRIGGER forget AFTER UPDATE ON {table} WHEN NEW.{column} IS NOT NULL \
             BEGIN UPDATE {table} SET {column} = NULL WHERE rowid = NEW.rowid; END"
        ),
    };
    format!("{trigger}; UPDATE {table} SET {column} = NULL")
}

/// Takes no event of an order that is cancelled.
fn refuses_cancelled(event: &Value) -> Reply {
    if event["type"] == "dev.flashsale.order.cancelled" { Reply::Status(500) } else { TAKEN }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_trigger_a_change_has_no_event() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        sale.execute(match database {
            Database::Postgres => "DROP TRIGGER events_of_changed_orders ON orders",
            Database::Sqlite => "DROP TRIGGER events_of_changed_orders",
        })
        .await;
        let changed = order(&ann, &["A"]).await;
        cancel(&ann, &changed).await;
        // An event of later is delivered, and nothing is left.
        let later = order(&ann, &["A"]).await;
        receiver.await_kinds(&later, &["pending"]).await;
        let left = "SELECT state FROM order_events UNION ALL SELECT state FROM failed_events";
        eventually("nothing is left", async || sale.query(left).await.is_empty()).await;
        assert_eq!(receiver.kinds_of(&changed), ["pending"], "{database:?}: it is cancelled");
    }
}

/// What failed counts for no order, so no event waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_wait_for_a_failed_event_the_next_one_of_its_order_overtakes_it() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(refuses_cancelled);
        let changed = order(&ann, &["A"]).await;
        cancel(&ann, &changed).await;
        eventually("it has failed", async || sale.query(FAILED).await.len() == 1).await;
        let hidden = format!("UPDATE failed_events SET order_id = '{}'", Uuid::now_v7());
        assert_eq!(sale.execute(&hidden).await, 1);
        // As a second change of the order.
        sale.execute(&format!("UPDATE orders SET buyer = 'x' WHERE id = '{changed}'")).await;
        receiver.await_kinds(&changed, &["pending", "buyer_erased"]).await;
        receiver.answer(|_| TAKEN);
        let found = format!("UPDATE failed_events SET order_id = '{changed}', retry_at_ms = 1");
        assert_eq!(sale.execute(&found).await, 1, "{database:?}");
        receiver.await_kinds(&changed, &["pending", "buyer_erased", "cancelled"]).await;
    }
}

/// With the lease, one of two replicas sends; without it both do, at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_lease_each_replica_sends_every_event() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let mut sale = sale_of(100, database, &receiver, &[]).await;
        sale.add_replica().await;
        sale.await_ready(1).await;
        let ann = sale.buyer("ann");
        // An event of product A stays under way for ten seconds.
        receiver.answer(|event| {
            if event["data"]["items"][0]["product_id"] == "A" { Reply::Hang } else { TAKEN }
        });
        let stuck = ann.buy("A", 1, None).await.order().to_owned();
        let sent = || receiver.all().iter().filter(|webhook| webhook.order() == stuck).count();
        eventually("it is under way", async || sent() == 1).await;
        for _ in 0..3 {
            let other = ann.buy("B", 1, None).await.order().to_owned();
            receiver.await_kinds(&other, &["confirmed"]).await;
        }
        assert_eq!((sent(), receiver.all().len()), (1, 4), "{database:?}: one replica sends");

        sale.execute(&forgets(database, "event_delivery", "owner")).await;
        eventually("the other one sends it too", async || sent() == 2).await;
        let failed = sale.query(FAILED).await;
        assert!(failed.is_empty(), "{database:?}: the first one has not ended: {failed:?}");
        receiver.answer(|_| TAKEN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_stop_a_receiver_that_is_gone_is_asked_again_and_again() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        sale.execute(&forgets(database, "event_sinks", "disabled_at_ms")).await;
        receiver.answer(|_| Reply::Status(410));
        sale.buyer("ann").buy("A", 1, None).await.order();
        eventually("it is asked again and again", async || receiver.all().len() >= 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_end_of_the_attempts_later_events_of_the_order_wait_for_ever() {
    for database in BOTH {
        let receiver = Receiver::start().await;
        let sale = sale(database, &receiver, &[]).await;
        let ann = sale.buyer("ann");
        receiver.answer(refuses_cancelled);
        sale.execute(&forgets(database, "failed_events", "dead_at_ms")).await;
        let changed = order(&ann, &["A"]).await;
        cancel(&ann, &changed).await;
        sale.execute(&format!("UPDATE orders SET buyer = 'x' WHERE id = '{changed}'")).await;
        let attempts = "SELECT error FROM failed_events WHERE attempts > 5";
        eventually("many attempts have failed", async || {
            // As if the first one had been long ago.
            let age = "UPDATE failed_events SET first_failed_at_ms = 1, retry_at_ms = 1";
            sale.execute(age).await;
            !sale.query(attempts).await.is_empty()
        })
        .await;
        assert_eq!(receiver.kinds_of(&changed), ["pending"], "{database:?}");
        assert_eq!(admin(&sale, "GET", "dead").await.body["events"], json!([]), "{database:?}");
    }
}
