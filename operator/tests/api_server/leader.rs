//! One operator at a time.

use flashsale_operator::leader::Leadership;

use crate::support::{DEADLINE, SYSTEM, operator_client};

#[tokio::test]
async fn the_next_one_takes_over_when_the_lease_is_released() {
    let client = operator_client().await;
    let seek = |who: &str| Leadership::seek(client.clone(), SYSTEM.to_owned(), who.to_owned());
    let mut first = seek("first").await.unwrap();
    tokio::time::timeout(DEADLINE, first.until(true)).await.unwrap().unwrap();
    let mut second = seek("second").await.unwrap();
    tokio::time::timeout(DEADLINE, second.until(false)).await.unwrap().unwrap();
    first.release().await.unwrap();
    tokio::time::timeout(DEADLINE, second.until(true)).await.unwrap().unwrap();
    second.release().await.unwrap();
}
