//! What limits by person are made of: the same without a part of it.

use super::{FULL, account, sale, sale_by};
use crate::common::{ALL_STORES, BOTH, Database};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_claim_each_account_of_a_person_has_the_limit() {
    for (database, strategy) in ALL_STORES {
        let sale = sale_by(database, strategy, None).await;
        for name in ["ann", "anna", "annie"] {
            let buyer = account(&sale, name, "p1");
            buyer.buy("1", 2, None).await.order();
            assert_eq!(buyer.buy("1", 1, None).await.problem(), FULL, "{database:?} {strategy}");
        }
        assert_eq!(account(&sale, "ann", "p1").stock("1").await, 4, "{database:?} {strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_trigger_the_limit_key_says_whose_an_erased_order_was() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        sale.execute(match database {
            Database::Postgres => "DROP TRIGGER orders_lose_limit_key ON orders",
            Database::Sqlite => "DROP TRIGGER orders_lose_limit_key",
        })
        .await;
        let (ann, anna) = (account(&sale, "ann", "p1"), account(&sale, "anna", "p1"));
        ann.buy("1", 1, None).await.order();
        anna.buy("1", 1, None).await.order();
        let admin = sale.admin("admin");
        assert_eq!(admin.call("DELETE", "/v1/buyers/ann", None).await.status, 200);
        let export = admin.call("GET", "/v1/buyers/anna/export", None).await;
        let key = export.body["limit_keys"][0].as_str().unwrap().to_owned();
        let left = "SELECT limit_key FROM orders WHERE buyer LIKE 'erased:%'";
        assert_eq!(sale.query(left).await, [Some(key)], "{database:?}: that of anna");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_units_of_erased_accounts_a_person_has_the_limit_again() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        account(&sale, "ann", "p1").buy("1", 2, None).await.order();
        let admin = sale.admin("admin");
        assert_eq!(admin.call("DELETE", "/v1/buyers/ann", None).await.status, 200);
        let anna = account(&sale, "anna", "p1");
        assert_eq!(anna.buy("1", 1, None).await.problem(), FULL, "{database:?}");
        assert_eq!(sale.execute("DELETE FROM erased_units").await, 1);
        anna.buy("1", 2, None).await.order();
    }
}
