//! Signals to the process of a Redis node. A process that is the first of its container ignores SIGSTOP from inside, so
//! a pod in the machine's process namespace sends it, as the node's own user.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;

use crate::shop::{SALE, Shop};
use crate::wait::{condition, within};

const SENT: Duration = Duration::from_mins(1);

/// The process belongs to the pod's control group, whose name contains the pod's uid.
const SEND: &str = r#"for process in /proc/[0-9]*; do
  grep -qs "pod$POD" "$process/cgroup" && grep -qsx redis-server "$process/comm" || continue
  kill -s "$SIGNAL" "${process#/proc/}" && exit 0
done
exit 1"#;

impl Shop {
    /// Sends a signal (`STOP`, `CONT`) to the server of a Redis node.
    ///
    /// # Errors
    /// When the node's process is not found.
    pub async fn signal(&self, node: usize, signal: &str) -> Result<()> {
        let pods = self.api::<Pod>();
        let target = pods.get(&format!("{SALE}-redis-{node}")).await?;
        let uid = target.uid().context("a pod without a uid")?;
        let spec = target.spec.context("a pod without a spec")?;
        let container = spec.containers.first().context("a pod without a container")?;
        // The rest of the uid is spelled differently by different drivers of control groups.
        let uid = uid.split('-').next().unwrap_or_default();
        let user = spec.security_context.and_then(|context| context.run_as_user);
        let sender = json!({
            "metadata": { "generateName": "signal-" },
            "spec": {
                "hostPID": true,
                "nodeName": spec.node_name,
                "restartPolicy": "Never",
                "securityContext": { "runAsUser": user },
                "containers": [{
                    "name": "signal", "image": container.image, "command": ["sh", "-c", SEND],
                    "env": [{ "name": "POD", "value": uid }, { "name": "SIGNAL", "value": signal }],
                }],
            },
        });
        let sender = pods.create(&PostParams::default(), &serde_json::from_value(sender)?).await?;
        let sent = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
        };
        let what = format!("SIG{signal} to be sent to node {node}");
        within(SENT, &what, condition(pods, &sender.name_any(), sent)).await
    }
}
