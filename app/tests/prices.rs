//! Prices: an order keeps the price of the moment at which it was sold, in every store.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::common::{ALL_STORES, Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

fn price(amount: i64, currency: &str) -> Value {
    json!({"amount": amount, "currency": currency})
}

fn products() -> Value {
    json!([
        {"id": "1", "name": "Console", "stock": 50, "price": price(49_900, "EUR")},
        {"id": "2", "name": "Game", "stock": 50, "price": price(6_999, "EUR"), "max_per_buyer": 5},
        {"id": "3", "name": "Sticker", "stock": 50},
        {"id": "4", "name": "Import", "stock": 50, "price": price(7_500, "JPY")},
    ])
}

async fn sale(database: Database, strategy: &str) -> TestSale {
    let settings = vec![("STRATEGY", strategy.to_owned())];
    let spec = SaleSpec { nodes: 1, products: products(), settings, ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

async fn order(buyer: &Buyer<'_>, items: &[(&str, i64)]) -> Answer {
    let item = |(id, quantity): &(&str, i64)| json!({"product_id": id, "quantity": quantity});
    let body = json!({"items": items.iter().map(item).collect::<Vec<_>>()});
    buyer.call("POST", "/v1/orders", Some(&body)).await
}

/// Amount and currency of an order.
async fn cost(sale: &TestSale, id: &str) -> (Value, Value) {
    let order = sale.admin("shop").call("GET", &format!("/v1/orders/{id}"), None).await.body;
    (order["amount"].clone(), order["currency"].clone())
}

async fn set_price(sale: &TestSale, id: &str, price: &Value) {
    let terms = json!({"name": "Console", "price": price});
    let path = format!("/v1/products/{id}");
    let changed = sale.admin("shop").call("PUT", &path, Some(&terms)).await;
    assert_eq!(changed.status, 200, "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_keeps_its_price_whatever_the_product_costs_later() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let ann = sale.buyer("ann");
        let eur = |amount: i64| (json!(amount), json!("EUR"));
        // Alone, under a key, under a known key, and with a limit: other statements each.
        let first = ann.buy("1", 2, None).await.order().to_owned();
        let keyed = ann.buy("1", 1, Some("k")).await.order().to_owned();
        let limited = ann.buy("2", 1, Some("l")).await.order().to_owned();
        let again = ann.buy("2", 2, None).await.order().to_owned();
        let free = ann.buy("3", 1, None).await.order().to_owned();
        set_price(&sale, "1", &price(39_900, "EUR")).await;
        assert_eq!(ann.buy("1", 1, Some("k")).await.order(), keyed);
        let later = ann.buy("1", 1, None).await.order().to_owned();
        let context = format!("{database:?} {strategy}");
        for (id, expected) in [
            (&first, eur(99_800)),
            (&keyed, eur(49_900)),
            (&limited, eur(6_999)),
            (&again, eur(13_998)),
            (&free, (Value::Null, Value::Null)),
            (&later, eur(39_900)),
        ] {
            assert_eq!(cost(&sale, id).await, expected, "{context}");
        }
        let listed = ann.call("GET", "/v1/orders", None).await.body;
        assert_eq!(listed["orders"][0]["amount"], 39_900);
        let export = sale.admin("shop").request(0, "GET", "/v1/admin/orders/export");
        let csv = export.send().await.unwrap().text().await.unwrap();
        let line = csv.lines().find(|line| line.starts_with(&first)).unwrap().to_owned();
        assert!(line.ends_with(",99800,EUR"), "{csv}");
        let buyer = sale.admin("shop").call("GET", "/v1/buyers/ann/export", None).await.body;
        assert_eq!(buyer["orders"][0]["amount"], 39_900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_purchases_at_once_all_have_the_price() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let buyers: Vec<_> = (0..40).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let buying = buyers.iter().enumerate().map(|(i, buyer)| {
            let product = if i % 2 == 0 { "1" } else { "2" };
            async move { buyer.buy(product, 1, (i % 3 == 0).then_some("k")).await }
        });
        let answers = futures::future::join_all(buying).await;
        for (i, answer) in answers.iter().enumerate() {
            let expected = if i % 2 == 0 { 49_900 } else { 6_999 };
            assert_eq!(cost(&sale, answer.order()).await.0, expected, "{database:?} {strategy}");
            let told = if strategy == "Locked" { json!(expected) } else { Value::Null };
            assert_eq!(answer.body["amount"], told, "{database:?} {strategy}");
        }
    }
}

/// The product has another price by the time at which the database can take the order.
#[tokio::test(flavor = "multi_thread")]
async fn what_redis_sold_has_the_price_of_that_moment_however_late_it_is_recorded() {
    let sale = sale(Database::Postgres, "Atomic").await;
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    // Others may read the table and not write, and nobody sees the new price.
    let change = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE; \
                  UPDATE products SET price = 39900 WHERE id = '1'";
    sqlx::raw_sql(change).execute(&mut database).await.unwrap();
    let bought = sale.buyer("ann").buy("1", 2, None).await.order().to_owned();
    let path = format!("/v1/orders/{bought}");
    let unrecorded = sale.admin("shop").call("GET", &path, None).await;
    assert_eq!(unrecorded.problem(), (503, "order_not_recorded_yet"));
    sqlx::raw_sql("COMMIT").execute(&mut database).await.unwrap();
    eventually("it is recorded", async || {
        sale.admin("shop").call("GET", &path, None).await.status == 200
    })
    .await;
    assert_eq!(cost(&sale, &bought).await, (json!(99_800), json!("EUR")));
}

/// With `Atomic`, the order has it once it is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_has_the_amount_and_a_repetition_has_the_same() {
    for (database, strategy) in ALL_STORES {
        let sale = sale(database, strategy).await;
        let ann = sale.buyer("ann");
        let told = |answer: &Answer| {
            ["unit_price", "amount", "currency", "decimals"].map(|name| answer.body[name].clone())
        };
        let eur = |unit: i64, amount: i64| {
            if strategy == "Atomic" {
                return [Value::Null, Value::Null, Value::Null, Value::Null];
            }
            [json!(unit), json!(amount), json!("EUR"), json!(2)]
        };
        let context = format!("{database:?} {strategy}");
        assert_eq!(told(&ann.buy("1", 2, None).await), eur(49_900, 99_800), "{context}");
        let keyed = ann.buy("1", 2, Some("k")).await;
        let limited = ann.buy("2", 3, Some("l")).await;
        assert_eq!(told(&limited), eur(6_999, 20_997), "{context}");
        let twice = [(); 8].map(|()| ann.buy("2", 1, Some("t")));
        let twice = futures::future::join_all(twice).await;
        assert!(twice.iter().all(|answer| told(answer) == eur(6_999, 6_999)), "{twice:?}");
        assert!(told(&ann.buy("3", 1, None).await).iter().all(Value::is_null), "{context}");
        set_price(&sale, "1", &price(1, "JPY")).await;
        let again = ann.buy("1", 2, Some("k")).await;
        assert_eq!(
            (again.order(), told(&again)),
            (keyed.order(), eur(49_900, 99_800)),
            "{context}"
        );
        // Refused before the engine is asked, but for the key.
        sale.buyer("bob").buy("1", 46, None).await.order();
        eventually("it is sold out", async || {
            sale.buyer("eve").buy("1", 1, None).await.status == 409
        })
        .await;
        let again = ann.buy("1", 2, Some("k")).await;
        assert_eq!(
            (again.order(), told(&again)),
            (keyed.order(), eur(49_900, 99_800)),
            "{context}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_several_products_has_one_amount_and_one_currency() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let ann = sale.buyer("ann");
        let placed = order(&ann, &[("1", 2), ("2", 3), ("3", 1)]).await;
        assert_eq!((placed.status, &placed.body["amount"]), (201, &json!(120_797)), "{placed:?}");
        assert_eq!(
            (&placed.body["currency"], &placed.body["decimals"]),
            (&json!("EUR"), &json!(2))
        );
        let items = json!([
            {"product_id": "1", "quantity": 2, "unit_price": 49_900},
            {"product_id": "2", "quantity": 3, "unit_price": 6_999},
            {"product_id": "3", "quantity": 1},
        ]);
        assert_eq!(placed.body["items"], items);
        set_price(&sale, "1", &price(1, "EUR")).await;
        assert_eq!(cost(&sale, placed.order()).await.0, 120_797);
        let mixed = order(&ann, &[("1", 1), ("4", 1)]).await;
        assert_eq!(mixed.problem(), (409, "mixed_currencies"));
        let alone = order(&ann, &[("4", 2)]).await.body;
        assert_eq!((&alone["amount"], &alone["decimals"]), (&json!(15_000), &json!(0)));
        assert_eq!(sale.sold().await[0]["sold"], 2, "nothing of a refused order was taken");
        let (unpriced, price) = (order(&ann, &[("3", 1)]).await.body, &Value::Null);
        assert_eq!((&unpriced["amount"], &unpriced["currency"]), (price, price));
    }
}

/// With `Atomic`, no order waits for a payment.
#[tokio::test(flavor = "multi_thread")]
async fn the_sale_says_how_long_units_with_a_price_are_held_until_they_are_paid() {
    for (strategy, expected) in
        [("Locked", json!([600, 60, null, 600])), ("Atomic", json!([null, null, null, null]))]
    {
        let sale = sale(Database::Sqlite, strategy).await;
        let terms = json!({"name": "Game", "price": price(6_999, "EUR"), "hold_seconds": 60});
        let changed = sale.admin("shop").call("PUT", "/v1/products/2", Some(&terms)).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        let shown = sale.buyer("ann").call("GET", "/v1/sale", None).await.body;
        let products = shown["products"].as_array().unwrap().iter();
        let held: Vec<&Value> = products.map(|product| &product["hold_seconds"]).collect();
        assert_eq!(json!(held), expected, "{strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_shown_and_odd_ones_refused() {
    let sale = sale(Database::Sqlite, "Locked").await;
    let (ann, admin) = (sale.buyer("ann"), sale.admin("shop"));
    let shown = json!({"amount": 49_900, "currency": "EUR", "decimals": 2});
    let products = ann.call("GET", "/v1/products", None).await.body;
    assert_eq!((&products[0]["price"], &products[2]["price"]), (&shown, &Value::Null));
    assert_eq!(ann.call("GET", "/v1/sale", None).await.body["products"][0]["price"], shown);
    let overview = admin.call("GET", "/v1/admin/overview", None).await.body;
    assert_eq!(overview["products"][0]["price"], shown);
    for odd in [
        price(0, "EUR"),
        price(-1, "EUR"),
        price(100_000_000_001, "EUR"),
        price(1, "eur"),
        price(1, "ZZZ"),
        price(1, "XAU"),
        price(1, "EURO"),
        json!({"amount": 4.5, "currency": "EUR"}),
        json!({"amount": "1", "currency": "EUR"}),
        json!({"amount": 1}),
        json!({"amount": 1, "currency": "EUR", "tax": 1}),
        json!(1),
    ] {
        let terms = json!({"name": "Console", "price": odd});
        let changed = admin.call("PUT", "/v1/products/1", Some(&terms)).await;
        assert_eq!(changed.problem(), (422, "invalid_request"), "{odd}");
        let product = json!({"id": "9", "name": "Console", "stock": 1, "price": odd});
        let created = admin.call("POST", "/v1/products", Some(&product)).await;
        assert_eq!(created.problem(), (422, "invalid_request"), "{odd}");
    }
    let product = json!({"id": "9", "name": "Console", "stock": 1, "price": price(5, "KWD")});
    let created = admin.call("POST", "/v1/products", Some(&product)).await;
    let expected = json!({"amount": 5, "currency": "KWD", "decimals": 3});
    assert_eq!((created.status, &created.body["price"]), (201, &expected));
    let terms = json!({"name": "Console"});
    let changed = admin.call("PUT", "/v1/products/9", Some(&terms)).await;
    assert_eq!(changed.body["price"], Value::Null, "an absent setting is removed");
    let audit = admin.call("GET", "/v1/admin/audit?action=create_product", None).await.body;
    assert_eq!(audit["entries"][0]["detail"]["currency"], "KWD");
}

/// The statements of the release before name neither price nor currency, and read `state` and `ended_as`.
#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_sells_at_the_price_too() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        let id = uuid::Uuid::now_v7();
        sale.execute(&format!(
            "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
                 VALUES ('{id}', '1', 'bob', 3, 1), ('{}', '3', 'bob', 1, 1)",
            uuid::Uuid::now_v7()
        ))
        .await;
        let id = id.to_string();
        assert_eq!(cost(&sale, &id).await, (json!(149_700), json!("EUR")), "{database:?}");
        // An order of before the migration.
        sale.execute(&format!(
            "UPDATE orders SET unit_price = NULL, currency = NULL WHERE id = '{id}'"
        ))
        .await;
        assert_eq!(cost(&sale, &id).await, (Value::Null, Value::Null));
        // A declaration of the release before says nothing about the price.
        sale.execute(
            "INSERT INTO products (id, name) VALUES ('1', 'Console II') \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        )
        .await;
        let ann = sale.buyer("ann");
        eventually("the name is known", async || {
            ann.call("GET", "/v1/products", None).await.body[0]["name"] == "Console II"
        })
        .await;
        let products = ann.call("GET", "/v1/products", None).await.body;
        assert_eq!(products[0]["price"]["amount"], 49_900);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_trigger_an_order_of_the_release_before_has_no_price() {
    for database in BOTH {
        let sale = sale(database, "Locked").await;
        sale.execute(match database {
            Database::Postgres => "DROP TRIGGER orders_price ON orders",
            Database::Sqlite => "DROP TRIGGER orders_price",
        })
        .await;
        let id = uuid::Uuid::now_v7().to_string();
        sale.execute(&format!(
            "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
             VALUES ('{id}', '1', 'bob', 3, 1)"
        ))
        .await;
        assert_eq!(cost(&sale, &id).await, (Value::Null, Value::Null), "{database:?}");
    }
}
