//! An operator that is killed between any two of its writes, and the next one that finds what is left.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{Method, Request};
use flashsale_operator::controller::Scope;
use flashsale_operator::crd::{FlashSale, Phase, ProductStatus};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;

use crate::cluster::{
    NAME, app_is_rolled_out, everything_runs, in_phase, owned, pods_are_ready, seed_completes,
};
use crate::support::{Operator, PARTS, apply, minimal, namespace, operator_client, wait_for};

const AT_A_TIME: usize = 6;

/// A client whose process is dead after some writes: no later request of it is sent.
struct Mortal {
    left: AtomicUsize,
    dead: Notify,
}

impl Mortal {
    fn client(self: &Arc<Self>, inner: &Client) -> Client {
        let (mortal, inner) = (Arc::clone(self), inner.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (mortal, inner) = (Arc::clone(&mortal), inner.clone());
            async move {
                if request.method() != Method::GET && !mortal.may_write() {
                    mortal.dead.notify_one();
                    pending::<Infallible>().await;
                }
                inner.send(request).await
            }
        });
        Client::new(service, "default")
    }

    fn may_write(&self) -> bool {
        let spend = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok()
    }
}

/// Runs an operator until its death after this number of writes, or until `done`. Whether it died.
async fn dies_after(writes: usize, namespace: &str, done: impl Future<Output = ()>) -> bool {
    let mortal = Arc::new(Mortal { left: AtomicUsize::new(writes), dead: Notify::new() });
    let operator = Operator::run(mortal.client(&operator_client().await), Scope::of([namespace]));
    sells(&operator);
    tokio::select! {
        () = mortal.dead.notified() => true,
        () = done => false,
    }
}

/// The app reports its counts.
fn sells(operator: &Operator) {
    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 0, remaining: 100 };
    *operator.app.0.lock().unwrap() = Some(vec![counts]);
}

/// Kind and name of each part. The name of a seed Job depends on generated passwords.
async fn parts(client: &Client, namespace: &str) -> BTreeSet<String> {
    let names = owned(client, namespace).await.into_keys();
    let stable = |name: String| match name.split_once("-seed-") {
        Some((sale, _)) => format!("{sale}-seed"),
        None => name,
    };
    names.map(stable).collect()
}

async fn seeds(client: &Client, namespace: &str) -> Vec<String> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    jobs.list_metadata(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect()
}

async fn secrets(client: &Client, namespace: &str) -> Vec<Secret> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    secrets.list(&ListParams::default()).await.unwrap().items
}

/// Of a sale with another stock and other images.
async fn is_changed(client: &Client, namespace: &str, seed: &str) {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let image = |template: &k8s_openapi::api::core::v1::PodTemplateSpec| {
        template.spec.as_ref()?.containers.first()?.image.clone()
    };
    wait_for(&sets, "black-friday-redis", |set: Option<&StatefulSet>| {
        let spec = set.and_then(|set| set.spec.as_ref());
        spec.and_then(|spec| image(&spec.template)).as_deref() == Some("redis:next")
    })
    .await;
    wait_for(&apps, NAME, |app: Option<&Deployment>| {
        let spec = app.and_then(|app| app.spec.as_ref());
        spec.and_then(|spec| image(&spec.template)).as_deref() == Some("app:next")
    })
    .await;
    seed_completes(client, namespace, seed).await;
    pods_are_ready(client, namespace, "black-friday-redis", 5).await;
    app_is_rolled_out(client, namespace).await;
}

/// Makes a sale and changes it; at each of the two, an operator dies after this number of writes. Whether one died.
async fn sale_with_deaths_after(writes: usize) -> bool {
    let (client, namespace) = namespace(&format!("killed-{writes}")).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let opens = async {
        everything_runs(&client, &namespace).await;
        wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    };
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let died_making = Box::pin(dies_after(writes, &namespace, opens)).await;
    let left = secrets(&client, &namespace).await;
    let next = Operator::start(&namespace).await;
    sells(&next);
    everything_runs(&client, &namespace).await;
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    let now = secrets(&client, &namespace).await;
    let generated = |secret: &Secret| {
        now.iter().any(|it| it.name_any() == secret.name_any() && it.data == secret.data)
    };
    assert!(left.iter().all(generated), "after {writes} writes a Secret was generated again");
    drop(next);

    let seed = seeds(&client, &namespace).await.concat();
    let mut sale = minimal(NAME);
    sale["spec"]["products"][0]["stock"] = json!(150);
    sale["spec"]["redis"] = json!({ "image": "redis:next" });
    sale["spec"]["app"] = json!({ "image": "app:next" });
    let generation = apply(&client, &namespace, &sale).await.unwrap().metadata.generation;
    let is_ready = |sale: Option<&FlashSale>| {
        let status = sale.and_then(|sale| sale.status.as_ref());
        status.is_some_and(|status| {
            Some(status.observed_generation) == generation
                && status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
        })
    };
    let changes = async {
        Box::pin(is_changed(&client, &namespace, &seed)).await;
        wait_for(&sales, NAME, is_ready).await;
    };
    let died_changing = Box::pin(dies_after(writes, &namespace, changes)).await;
    let last = Operator::start(&namespace).await;
    sells(&last);
    Box::pin(is_changed(&client, &namespace, &seed)).await;
    wait_for(&sales, NAME, is_ready).await;
    let later = seeds(&client, &namespace).await;
    let later: Vec<_> = later.iter().filter(|name| **name != seed).collect();
    assert_eq!(later.len(), 1, "after {writes} writes: one for the other stock");
    let found = parts(&client, &namespace).await;
    assert_eq!(found, PARTS.map(str::to_owned).into(), "after {writes} writes");
    died_making || died_changing
}

#[tokio::test]
async fn an_operator_may_be_killed_between_any_two_writes() {
    let mut deaths = 0;
    // Several sales at a time: each waits most of its time.
    loop {
        let died = join_all((deaths..deaths + AT_A_TIME).map(sale_with_deaths_after)).await;
        let all = died.iter().take_while(|died| **died).count();
        deaths += all;
        if all < AT_A_TIME {
            break;
        }
    }
    assert!(deaths > 20, "only {deaths} writes make and change a sale");
}
