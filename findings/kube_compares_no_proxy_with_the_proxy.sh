#!/bin/sh
# Guess: with HTTPS_PROXY set, kube's client reaches the API servers that NO_PROXY names without the proxy, and all others
#        through it, as kubectl does.
# Seen:  kube 5.0.0 looks in NO_PROXY for the proxy's own address. The API server's is not looked for: one that NO_PROXY names
#        is still reached through the proxy. With the proxy's network in NO_PROXY, as is usual for the inner one, no server is
#        reached through it, not even one outside. A name there counts only with the proxy's port.
# Runs:  kube 5.0.0 from crates.io; nothing is connected. Needs cargo.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
k8s-openapi = { version = "=0.29.0", features = ["v1_33"] }
kube = { version = "=5.0.0", default-features = false, features = ["client", "http-proxy"] }
tokio = { version = "1", features = ["macros", "rt"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::Config;

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: a, user: a}}]
clusters: [{name: a, cluster: {server: "https://api.outside.test:6443"}}]
users: [{name: a, user: {}}]
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let kubeconfig = Kubeconfig::from_yaml(KUBECONFIG).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    match config.unwrap().proxy_url {
        Some(_) => println!("proxy"),
        None => println!("direct"),
    }
}
RUST
cd "$folder"
cargo build --quiet
cargo tree --package kube-client --depth 0 --prefix none
status=0
expect() {
  way=$(HTTPS_PROXY=$1 NO_PROXY=$2 ./target/debug/finding)
  echo "https://api.outside.test, HTTPS_PROXY=$1, NO_PROXY=$2: $way"
  [ "$way" = "$3" ] || status=1
}
expect http://10.0.0.9:3128 "" proxy
expect http://10.0.0.9:3128 api.outside.test proxy
expect http://10.0.0.9:3128 .outside.test proxy
expect http://10.0.0.9:3128 10.0.0.0/8 direct
expect http://proxy.corp.test:3128 .corp.test proxy
expect http://proxy.corp.test:3128 .corp.test:3128 direct
exit $status
