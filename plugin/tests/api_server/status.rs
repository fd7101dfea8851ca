//! `status`.

use std::time::Duration;

use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;

use crate::support::{Ran, Shop, condition};

/// Clears a terminal, and sets its cursor to the first place.
const CLEAR: &str = "\u{1b}[2J";
const HOME: &str = "\u{1b}[H";

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

/// Reads what a terminal gets until this text is there, and returns all that was read.
async fn read_until(terminal: &mut ChildStdout, text: &str) -> String {
    let mut read: Vec<u8> = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(text) {
            let more = terminal.read_buf(&mut read).await.unwrap();
            assert!(more > 0, "it ended without {text:?}: {}", String::from_utf8_lossy(&read));
        }
    };
    tokio::time::timeout(Duration::from_mins(1), reading).await.unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_terminal_has_one_screen_that_is_drawn_again() {
    let shop = Shop::open("status-live").await;
    shop.open_sale("black-friday").await;
    let mut watching = shop.start_in_terminal(&["status", "black-friday", "--watch"]);
    let mut terminal = watching.stdout.take().unwrap();
    let first = read_until(&mut terminal, "60 of 100, 40 left").await;
    assert!(first.contains(&format!("{CLEAR}{HOME}black-friday in status-live")), "{first:?}");
    let status = json!({ "totals": { "stock": 100, "sold": 70, "remaining": 30 } });
    shop.report("black-friday", status).await;
    let second = read_until(&mut terminal, "70 of 100, 30 left").await;
    // Over the earlier screen, which is not cleared: that would flicker.
    assert!(second.contains(HOME) && !second.contains(CLEAR), "{second:?}");
    let sales: Api<flashsale_operator::crd::FlashSale> = shop.api();
    sales.delete("black-friday", &DeleteParams::default()).await.unwrap();
    read_until(&mut terminal, "the sale black-friday was deleted").await;
    assert_eq!(Ran::ended(watching).await.code, Some(0));
}
