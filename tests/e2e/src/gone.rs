//! Waiting for the parts of a deleted sale to be gone.

use std::fmt::Debug;

use anyhow::Result;
use futures::StreamExt;
use kube::Resource;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, watcher};
use serde::de::DeserializeOwned;

use crate::shop::{GONE, SALE, Shop};
use crate::wait::{unbroken, within};

impl Shop {
    /// Waits until no object of a kind is left that the operator made.
    ///
    /// # Errors
    /// When that takes longer than [`GONE`].
    pub async fn gone<K>(&self) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let labels = format!(
            "app.kubernetes.io/managed-by=flashsale-operator,app.kubernetes.io/instance={SALE}"
        );
        let ours = watcher::Config::default().labels(&labels);
        let what = format!("every {} to be gone", K::kind(&()));
        within(GONE, &what, async {
            let mut changes = unbroken(watcher(self.api::<K>(), ours));
            while changes.next().await.is_some() {
                let left = self.api::<K>().list(&ListParams::default().labels(&labels)).await?;
                if left.items.is_empty() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }
}
