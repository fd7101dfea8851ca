//! What the id of an event is for: the same without it.

use serde_json::Value;

use super::events::{completed, refunded};
use super::{Shop, outcome};
use crate::common::{BOTH, Database};

const PRICE: i64 = 49_900;

/// From now on each delivery of an event is recorded as another event.
fn forget_ids(database: Database) -> &'static str {
    match database {
        Database::Postgres => {
            "CREATE FUNCTION forget_id() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN NEW.event_id := NEW.event_id || '/' || NEW.id; RETURN NEW; END $$; \
             CREATE TRIGGER forget_id BEFORE INSERT ON payment_events \
             FOR EACH ROW EXECUTE FUNCTION forget_id()"
        }
        Database::Sqlite => {
            "CREATE TRIGGER forget_id AFTER INSERT ON payment_events \
             BEGIN UPDATE payment_events SET event_id = event_id || '/' || id WHERE id = NEW.id; END"
        }
    }
}

/// An event that waits for an administrator is resolved and delivered twice more. Returns how many wait then.
async fn waiting_again(shop: &Shop, event: &Value) -> usize {
    assert_eq!(outcome(&shop.send(event).await), "partial_refund");
    let open = shop.open_events().await;
    assert_eq!(open.len(), 1, "{open:?}");
    let path = format!("/v1/admin/payments/{}/resolve", open[0]["id"].as_str().unwrap());
    assert_eq!(shop.sale.admin("shop").call("POST", &path, None).await.status, 200);
    for _ in 0..2 {
        assert_eq!(outcome(&shop.send(event).await), "partial_refund");
    }
    shop.open_events().await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_id_an_event_that_was_resolved_waits_again_with_each_delivery() {
    for database in BOTH {
        let shop = Shop::open(database, 1, &[]).await;
        let order = shop.order(1).await;
        let paid = completed("evt_1", &order, PRICE);
        assert_eq!(outcome(&shop.send(&paid).await), "applied");
        assert_eq!(outcome(&shop.send(&paid).await), "replayed");
        let part = |event_id: &str| refunded(event_id, &order, PRICE, false);
        assert_eq!(waiting_again(&shop, &part("evt_2")).await, 0, "{database:?}");

        shop.sale.execute(forget_ids(database)).await;
        assert_eq!(waiting_again(&shop, &part("evt_3")).await, 2, "{database:?}");
        let paid = completed("evt_4", &order, PRICE);
        for _ in 0..2 {
            assert_eq!(outcome(&shop.send(&paid).await), "applied", "{database:?}: once more");
        }
        assert_eq!(shop.state(&order).await, "paid", "its state lets a payment through once");
    }
}
