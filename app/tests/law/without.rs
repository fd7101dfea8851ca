//! What the row of an erasure is for: the same without it.

use serde_json::json;

use super::{NAME, PASSWORD, customer, finish, places_in_database, sale, sign_up};
use crate::common::{BOTH, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_row_an_erased_buyer_comes_back() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let buyer = customer(&sale).await;
        let path = format!("/v1/buyers/{NAME}");
        let erased = sale.admin("admin").call("DELETE", &path, None).await;
        assert_eq!(erased.status, 200, "{database:?} {erased:?}");
        finish(&sale).await;
        assert_eq!(buyer.buy("1", 1, None).await.problem(), (401, "account_erased"));
        let account = json!({"id": NAME, "password": PASSWORD});
        assert_eq!(sign_up(&sale, &account).await.problem(), (409, "account_exists"));

        assert_eq!(sale.execute("DELETE FROM erasures").await, 1);
        eventually("the token of before buys again", async || {
            buyer.buy("1", 1, Some("again")).await.status == 201
        })
        .await;
        assert_eq!(sign_up(&sale, &account).await.status, 201);
        let places = places_in_database(&sale, NAME).await;
        assert_eq!(places, ["accounts", "orders"], "{database:?}");
    }
}
