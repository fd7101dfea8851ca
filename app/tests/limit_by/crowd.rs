//! Many accounts of few persons ask at the same moment, at two replicas.

use futures::stream::{self, StreamExt};
use serde_json::json;

use super::{ALL_STORES, CLAIM, FULL, account, await_recorded};
use crate::common::{Answer, Database, SaleSpec, TestSale};

const PERSONS: usize = 100;
/// Units that a person may have.
const LIMIT: usize = 2;
/// Accounts that ask at the same time: most of them are one person's.
const AT_ONCE: usize = 128;

async fn sale(database: Database, strategy: &str) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": 20_000, "max_per_buyer": LIMIT}]);
    let settings = vec![("STRATEGY", strategy.to_owned())];
    let spec = SaleSpec {
        nodes: 1,
        replicas: 2,
        products,
        settings,
        limit_claim: Some(CLAIM),
        ..SaleSpec::on(database)
    };
    TestSale::start(spec).await
}

/// Each account asks for one unit. Returns the answers with the number of the person.
async fn answers(sale: &TestSale, accounts: usize) -> Vec<(usize, Answer)> {
    let asking = stream::iter(0..accounts).map(|number| async move {
        let person = number * PERSONS / accounts;
        let buyer = account(sale, &format!("account-{number}"), format!("person-{person}"));
        (person, buyer.buy_from(number % 2, "1", 1, None).await)
    });
    asking.buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_accounts_of_a_hundred_persons_have_what_these_may_have() {
    for (database, strategy) in ALL_STORES {
        let is_first = (database, strategy) == ALL_STORES[0];
        let accounts = if is_first { 10_000 } else { 1_000 };
        let context = format!("{database:?} {strategy}");
        let sale = sale(database, strategy).await;
        let mut units = [0_usize; PERSONS];
        for (person, answer) in answers(&sale, accounts).await {
            if answer.status == 201 {
                units[person] += 1;
            } else {
                assert_eq!(answer.problem(), FULL, "{context}");
            }
        }
        assert_eq!(units, [LIMIT; PERSONS], "{context}");
        await_recorded(&sale, LIMIT * PERSONS).await;
        let above = format!(
            "SELECT limit_key FROM orders GROUP BY limit_key HAVING sum(quantity) <> {LIMIT}"
        );
        assert!(sale.query(&above).await.is_empty(), "{context}");
    }
}
