//! `status`.

use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Ran, Shop, condition};

#[tokio::test]
async fn one_sale_and_all_sales() {
    let shop = Shop::open("status").await;
    shop.open_sale("black-friday").await;
    let one = shop.run(&["status", "black-friday"]).await;
    assert_eq!(one.code, Some(0), "{one:?}");
    for expected in ["Open", "5/5 vote, quorum", "60 of 100, 40 left", "Console", "AllReady"] {
        assert!(one.out.contains(expected), "{expected}: {one:?}");
    }
    let all = shop.run(&["status"]).await;
    assert!(all.out.lines().count() == 2 && all.out.contains("black-friday   Open"), "{all:?}");
    let everywhere = shop.run(&["status", "-A"]).await;
    assert!(everywhere.out.contains("status"), "{everywhere:?}");
    let mixed = shop.run(&["status", "-A", "black-friday"]).await;
    assert_eq!(mixed.code, Some(2), "{mixed:?}");
}

#[tokio::test]
async fn changes_are_lines_without_a_terminal_until_the_sale_is_deleted() {
    let shop = Shop::open("status-watch").await;
    shop.open_sale("black-friday").await;
    let mut watching = shop.start(&["status", "black-friday", "--watch"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(
        first.ends_with("Open: redis 5/5, app 3/3, sold 60 of 100, true: [StockSeeded Ready]"),
        "{first}"
    );
    let nodes = condition("Ready", "False", "NodesAway", "2 of 5 nodes are away");
    let status = json!({
        "phase": "Degraded", "conditions": [nodes],
        "totals": { "stock": 100, "sold": 70, "remaining": 30 },
    });
    shop.report("black-friday", status).await;
    let second = lines.next_line().await.unwrap().unwrap();
    assert!(second.contains("Degraded: ") && second.contains("sold 70 of 100"), "{second}");
    assert!(
        second.ends_with("NodesAway: 2 of 5 nodes are away") && !second.contains('\u{1b}'),
        "{second}"
    );
    let sales: Api<flashsale_operator::crd::FlashSale> = shop.api();
    sales.delete("black-friday", &DeleteParams::default()).await.unwrap();
    let ended = Ran::ended(watching).await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.contains("was deleted"), "{ended:?}");
}
