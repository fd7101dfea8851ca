#!/bin/sh
# Guess: a pool of sqlx with `min_connections(4)` has four open connections soon after it was made, whether it was made by
#        `connect` or by `connect_lazy`: the latter only does not wait for them.
# Seen:  sqlx 0.9.0 opens none. Its maintenance task looks for missing connections only after it has closed an old one, and
#        its first pass finds none to close; the next one is ten minutes later. Without `idle_timeout` and `max_lifetime`
#        another branch fills the pool at once. So a service that connects lazily, to start before its database does, meets
#        its first burst with an empty pool, whatever `min_connections` says.
# Runs:  sqlx 0.9.0 with SQLite from crates.io, in memory. Needs cargo and a C compiler.
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
sqlx = { version = "=0.9.0", default-features = false, features = ["runtime-tokio", "sqlite"] }
tokio = { version = "1", features = ["full"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::time::Duration;

use sqlx::sqlite::SqlitePoolOptions;

const URL: &str = "sqlite::memory:";

#[tokio::main]
async fn main() {
    let options = || SqlitePoolOptions::new().min_connections(4).max_connections(4);
    let eager = options().connect(URL).await.unwrap();
    let lazy = options().connect_lazy(URL).unwrap();
    let endless = options().idle_timeout(None).max_lifetime(None).connect_lazy(URL).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("connections after 5 s with min_connections(4)");
    println!("  connect: {}", eager.size());
    println!("  connect_lazy: {}", lazy.size());
    println!("  connect_lazy without idle_timeout and max_lifetime: {}", endless.size());
    std::process::exit(i32::from((eager.size(), lazy.size(), endless.size()) != (4, 0, 4)));
}
RUST
cd "$folder"
echo "sqlx 0.9.0"
cargo run --quiet
