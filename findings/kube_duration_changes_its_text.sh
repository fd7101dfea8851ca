#!/bin/sh
# Guess: kube's `Duration` stands for `metav1.Duration`, so a field that is read and written back has the text of before, or
#        the one that Go would write: "1m30s" stays, "0s" stays.
# Seen:  kube-core 5.0.0 writes what Rust's `Debug` prints: "90s" for "1m30s", "1.5s" for "1500ms", and "0ns" for "0s".
#        `time.ParseDuration` of Go reads all of these, but a tool that compares what was declared with what is there sees a
#        change, and a pattern in the definition of a resource that allows hours, minutes and seconds refuses "0ns". A client
#        that restores a field must keep the text, not the typed value.
# Runs:  kube-core 5.0.0 from crates.io, no cluster. Needs cargo.
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
kube-core = { version = "=5.0.0", default-features = false }
serde_json = "1"
TOML
cat >"$folder/src/main.rs" <<'RUST'
fn main() {
    for declared in ["1m30s", "1500ms", "0s"] {
        let read: kube_core::Duration = serde_json::from_value(declared.into()).unwrap();
        println!("{declared} {}", serde_json::to_value(read).unwrap().as_str().unwrap());
    }
}
RUST
cd "$folder"
cargo build --quiet
grep -A1 '^name = "kube-core"' Cargo.lock | tail -1
seen=$(target/debug/finding)
echo "$seen"
[ "$seen" = "1m30s 90s
1500ms 1.5s
0s 0ns" ]
