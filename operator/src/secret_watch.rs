//! Watches Secrets, by their metadata only, and triggers the sales that use them.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tracing::warn;

use crate::crd::FlashSale;
use crate::error_chain::error_chain;
use crate::flash_sale::secret_names::SecretNames;
use crate::flash_sale::secret_watches::SecretWatches;
use crate::{watch_errors, watched};

type Sale = DeserializeGuard<FlashSale>;

/// Stream of sales with a Secret that has changed. Without the right to watch Secrets the stream has no items, and the
/// resync finds the changes.
pub fn changes(
    secrets: Api<PartialObjectMeta<Secret>>,
    sales: Store<Sale>,
    watches: SecretWatches,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<Sale>> + use<> {
    let warned = AtomicBool::new(false);
    let namespace = namespace.map(str::to_owned);
    watcher(secrets, watcher::Config::default().page_size(watched::PAGE))
        .inspect(move |event| match event {
            // Only says that a list begins.
            Ok(watcher::Event::Init) => {}
            event => watches.set(namespace.as_deref(), event.is_ok()),
        })
        .touched_objects()
        .backoff(watch_errors::delays())
        .filter_map(move |secret| {
            let failed = secret.as_ref().err();
            if let Some(error) = failed.filter(|_| !warned.swap(true, Ordering::Relaxed)) {
                warn!(
                    error = error_chain(error),
                    "cannot watch Secrets; sales read them once a minute"
                );
            }
            ready(secret.ok())
        })
        .flat_map(move |secret| stream::iter(users(&secret, &sales.state())))
}

fn users(secret: &PartialObjectMeta<Secret>, sales: &[Arc<Sale>]) -> Vec<ObjectRef<Sale>> {
    let name = secret.name_any();
    let uses = |sale: &&Arc<Sale>| {
        let secrets = sale.0.as_ref().ok().map(SecretNames::of);
        sale.namespace() == secret.namespace() && secrets.is_some_and(|it| it.contains(&name))
    };
    sales.iter().filter(uses).map(|sale| ObjectRef::from_obj(&**sale)).collect()
}
