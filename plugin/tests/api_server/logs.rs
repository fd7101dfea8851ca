//! `logs`.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::Shop;

#[tokio::test]
async fn logs_of_all_replicas_are_one_by_time() {
    let shop = Shop::open("logs").await;
    shop.open_sale("black-friday").await;
    let kubelet = &shop.server.kubelet;
    for (pod, component, container) in
        [("app-a", "app", "app"), ("app-b", "app", "app"), ("redis-0", "redis", "redis")]
    {
        shop.pod("black-friday", pod, component, container).await;
    }
    shop.pod("other", "other-a", "app", "app").await;
    let set =
        |pod: &str, container: &str, text: &str| kubelet.set("logs", pod, container, false, text);
    set("app-a", "app", "2026-11-27T00:00:01.5Z a one\n2026-11-27T00:00:03Z a two\n");
    set("app-b", "app", "2026-11-27T00:00:02Z b one\n2026-11-27T00:00:04Z b two\n");
    set("redis-0", "redis", "2026-11-27T00:00:00Z ready\n");
    let ran = shop.run(&["logs", "black-friday"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "[app-a] a one\n[app-b] b one\n[app-a] a two\n[app-b] b two\n");
    let ran = shop.run(&["logs", "black-friday", "-c", "redis", "--timestamps"]).await;
    assert_eq!(ran.out, "[redis-0] 2026-11-27T00:00:00Z ready\n");
    let ran = shop.run(&["logs", "black-friday", "-c", "database"]).await;
    assert!(ran.code == Some(2) && ran.err.contains("there is no pod with"), "{ran:?}");
    let ran = shop.run(&["logs", "black-friday", "--previous"]).await;
    assert!(ran.out.is_empty() && ran.err.contains("app-a"), "{ran:?}");
}

#[tokio::test]
async fn new_lines_and_new_pods_are_followed() {
    let shop = Shop::open("logs-follow").await;
    shop.open_sale("black-friday").await;
    let kubelet = &shop.server.kubelet;
    kubelet.set("logs-follow", "app-a", "app", false, "2026-11-27T00:00:01Z before\n");
    shop.pod("black-friday", "app-a", "app", "app").await;
    let mut following = shop.start(&["logs", "black-friday", "--follow"]);
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("[app-a] before"));
    assert!(kubelet.add("logs-follow", "app-a", "app", "2026-11-27T00:00:02Z later\n"));
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("[app-a] later"));
    kubelet.set("logs-follow", "app-b", "app", false, "2026-11-27T00:00:03Z new pod\n");
    shop.pod("black-friday", "app-b", "app", "app").await;
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("[app-b] new pod"));
    following.kill().await.unwrap();
}

#[tokio::test]
async fn logs_that_may_not_be_read_end_the_command() {
    let shop = Shop::open("logs-refused").await;
    shop.open_sale("black-friday").await;
    shop.pod("black-friday", "app-a", "app", "app").await;
    let rights = json!([
        { "apiGroups": ["flashsale.dev"], "resources": ["flashsales"], "verbs": ["get", "list"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] },
    ]);
    let shop = shop.with_rights(rights).await;
    for arguments in [&["logs", "black-friday"][..], &["logs", "black-friday", "--follow"]] {
        let ran = shop.run(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("cannot get resource \"pods/log\""), "{arguments:?}: {ran:?}");
    }
}
