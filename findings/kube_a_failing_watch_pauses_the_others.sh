#!/bin/sh
# Guess: the watches of one kube `Controller` wait on their own after an error, as the informers of client-go do. A kind whose
#        watch fails, or a watch that cannot be resumed after the API server restarted, delays nothing but itself.
# Seen:  kube 5.0.0 merges all watches into one stream and puts one delay before the whole. Each error of any watch pauses all
#        of them, for twice as long as the last one and for up to a minute (30 s and as much jitter). Ten watches that fail
#        twice, as each does when an API server comes back with an empty watch cache, keep a change of the controller's own
#        kind waiting for about five minutes. With streams of one's own (`for_stream`, `owns_stream`) that delay by
#        themselves and hand on no errors, it is followed at once.
# Runs:  kube 5.0.0 from crates.io, on tokio's paused clock; no cluster. Needs cargo.
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
futures = "0.3"
k8s-openapi = { version = "=0.29.0", features = ["v1_33"] }
kube = { version = "=5.0.0", default-features = false, features = ["client", "runtime", "unstable-runtime"] }
tokio = { version = "1", features = ["full", "test-util"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ObjectMeta;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;

const WATCHES: usize = 10;
const ERRORS: usize = 2;

fn changed() -> ConfigMap {
    let name = |text: &str| Some(text.to_owned());
    let metadata = ObjectMeta { name: name("a"), namespace: name("b"), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// Seconds until a change is reconciled that arrives a second after the other watches failed.
async fn seconds(hand_on_errors: bool) -> f64 {
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitApply(changed()));
    writer.apply_watcher_event(&Event::InitDone);
    let begin = Instant::now();
    let own = stream::once(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, watcher::Error>(changed())
    });
    let mut controller = Controller::for_stream(own.chain(stream::pending()), reader);
    for _ in 0..WATCHES {
        let errors = stream::iter((0..ERRORS).map(|_| Err::<Secret, _>(watcher::Error::NoResourceVersion)));
        let errors = errors.filter(move |_| std::future::ready(hand_on_errors));
        controller = controller.owns_stream(errors.chain(stream::pending()));
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let reconcile = |_: Arc<ConfigMap>, tell: Arc<tokio::sync::mpsc::UnboundedSender<Instant>>| async move {
        let _ = tell.send(Instant::now());
        Ok::<_, Infallible>(Action::await_change())
    };
    let policy = |_: Arc<ConfigMap>, _: &Infallible, _| Action::await_change();
    let run = controller.run(reconcile, policy, Arc::new(tell)).for_each(|_| std::future::ready(()));
    tokio::select! {
        () = run => f64::NAN,
        at = told.recv() => (at.unwrap() - begin).as_secs_f64(),
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (handed_on, kept) = (seconds(true).await, seconds(false).await);
    println!("kube 5.0.0, {WATCHES} watches with {ERRORS} errors each, then a change after 1 s");
    println!("reconciled after {handed_on:.0} s; where the errors are not handed on, after {kept:.0} s");
    std::process::exit(i32::from(!(handed_on > 60.0 && kept < 5.0)));
}
RUST
cargo run --quiet --manifest-path "$folder/Cargo.toml"
