//! Errors say what to do.

use std::process::Command;

use serde_json::json;
use tempfile::NamedTempFile;
use testkit::cluster_programs;

use crate::support::{ADMIN, NOBODY, Ran, Server, Shop, plugin, server};

fn run(kubeconfig: &NamedTempFile, arguments: &[&str]) -> Ran {
    let mut command = Command::new(plugin());
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig.path());
    Ran::of(&command.output().unwrap())
}

#[tokio::test]
async fn a_sale_that_does_not_exist_is_answered_with_those_that_do() {
    let shop = Shop::open("names").await;
    let nothing = shop.run(&["status", "winter"]).await;
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.err.contains("there is no sale winter in the namespace names"), "{nothing:?}");
    shop.open_sale("autumn").await;
    shop.open_sale("spring-of-names").await;
    for arguments in [
        &["status", "winter"][..],
        &["verify", "winter"],
        &["logs", "winter"],
        &["hibernate", "winter"],
        &["orders", "export", "winter"],
        &["support-bundle", "winter"],
        &["report", "winter"],
        &["load", "winter", "--scenario", "v1-single"],
    ] {
        let ran = shop.run(arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        let expected =
            "there is no sale winter in the namespace names; there are: autumn, spring-of-names";
        assert!(ran.err.contains(expected), "{arguments:?}: {ran:?}");
    }
    let elsewhere = Shop::open("names-elsewhere").await.run(&["status", "spring-of-names"]).await;
    assert!(
        elsewhere.err.contains("but there is one in the namespace names: -n names"),
        "{elsewhere:?}"
    );
}

#[tokio::test]
async fn a_missing_right_is_named_with_its_verb_and_resource() {
    let kubeconfig = server().await.kubeconfig(NOBODY);
    let ran = run(&kubeconfig, &["status", "-n", "shop", "x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("cannot get resource \"flashsales\""), "{ran:?}");
    assert!(ran.err.contains("docs/OPERATIONS.md lists the rights"), "{ran:?}");
    let ran = run(&kubeconfig, &["status", "-A"]);
    assert!(ran.err.contains("cannot list resource \"flashsales\""), "{ran:?}");
}

#[tokio::test]
async fn a_watch_without_the_right_to_watch_ends_and_names_it() {
    let shop = Shop::open("errors-watch").await;
    shop.open_sale("black-friday").await;
    let rights = json!([
        { "apiGroups": ["flashsale.dev"], "resources": ["flashsales"], "verbs": ["get", "list"] },
    ]);
    let shop = shop.with_rights(rights).await;
    let ran = shop.run(&["status", "black-friday", "--watch"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("cannot watch resource \"flashsales\""), "{ran:?}");
    assert!(ran.err.contains("docs/OPERATIONS.md lists the rights"), "{ran:?}");
}

#[tokio::test]
async fn a_cluster_without_the_definition_says_what_to_install() {
    let bare = Server::bare().await;
    let kubeconfig = bare.kubeconfig(ADMIN);
    for arguments in [&["status"][..], &["status", "x"], &["verify", "x"], &["support-bundle", "x"]]
    {
        let ran = run(&kubeconfig, arguments);
        assert_eq!(ran.code, Some(2));
        assert!(
            ran.err.contains("does not know FlashSale: install the operator's chart"),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_and_an_unknown_context_are_named() {
    let kubeconfig = NamedTempFile::new().unwrap();
    let port = testkit::free_port().unwrap();
    let config = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "a",
            "contexts": [{{"name": "a", "context": {{"cluster": "a", "user": "a"}}}}],
            "clusters": [{{"name": "a", "cluster": {{"server": "https://127.0.0.1:{port}"}}}}],
            "users": [{{"name": "a", "user": {{}}}}]}}"#
    );
    std::fs::write(kubeconfig.path(), config).unwrap();
    let ran = run(&kubeconfig, &["status"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.err.contains(&format!("cannot reach the API server https://127.0.0.1:{port}")),
        "{ran:?}"
    );
    let ran = run(&kubeconfig, &["status", "--context", "b"]);
    assert!(ran.code == Some(2) && ran.err.contains('b'), "{ran:?}");
}

#[tokio::test]
async fn kubectl_finds_the_plugin() {
    let shop = Shop::open("kubectl").await;
    shop.open_sale("autumn").await;
    let kubeconfig = shop.server.kubeconfig(ADMIN);
    let path = std::env::var_os("PATH").unwrap();
    let own = [plugin().parent().unwrap().to_owned(), cluster_programs()];
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(cluster_programs().join("kubectl"));
        command.args(arguments).env("PATH", &path).env("KUBECONFIG", kubeconfig.path());
        Ran::of(&command.output().unwrap())
    };
    let listed = kubectl(&["plugin", "list", "--name-only"]);
    assert!(listed.out.contains("kubectl-flashsale"), "{listed:?}");
    let status = kubectl(&["flashsale", "status", "-n", "kubectl"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.out.contains("autumn"), "{status:?}");
    let help = kubectl(&["flashsale", "verify", "--help"]);
    assert!(help.out.contains("Usage: kubectl flashsale verify"), "{help:?}");
    assert_eq!(kubectl(&["flashsale", "status", "-n", "kubectl", "no"]).code, Some(2));
}
