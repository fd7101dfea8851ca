//! The root cause of a part's outage, from the status of its pods and from events.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use super::names::Component;
use super::unreadable_volume;

/// Why a part is unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Kubernetes' own reason, one of a fixed set.
    pub reason: &'static str,
    /// The message of the container runtime, the scheduler or the container itself.
    pub message: String,
}

/// A warning event about an object of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The part.
    pub component: Component,
    /// Such as `FailedCreate`.
    pub reason: String,
    /// The message of the event.
    pub message: String,
}

/// Reason of a server that runs and is not ready.
pub const UNRESPONSIVE: &str = "Unresponsive";
/// A restarted container that has run for this long no longer reports its last failure.
const RECENT_RESTART: Duration = Duration::from_mins(1);
/// Maximum length of a message, because the status contains it.
const MAX_MESSAGE_CHARS: usize = 500;

/// The cause of the newest pod of `component` that has one; without such a pod, the newest warning.
#[must_use]
pub fn find(
    component: Component,
    pods: &[Pod],
    warnings: &[Warning],
    now: Timestamp,
) -> Option<Cause> {
    let mut pods: Vec<&Pod> = pods.iter().filter(|pod| component.has(pod)).collect();
    pods.sort_by_key(|pod| (std::cmp::Reverse(pod.creation_timestamp()), pod.name_any()));
    let from_pod = |pod| from_pod(pod, now).or_else(|| unresponsive(component, pod));
    pods.into_iter().find_map(from_pod).or_else(|| {
        let about = warnings.iter().filter(|warning| warning.component == component);
        about.rev().find_map(from_warning)
    })
}

fn from_warning(warning: &Warning) -> Option<Cause> {
    let reason = match warning.reason.as_str() {
        "FailedCreate" => "FailedCreate",
        "FailedMount" | "FailedAttachVolume" => "FailedMount",
        "ProvisioningFailed" => "ProvisioningFailed",
        "FailedCreatePodSandBox" => "FailedCreatePodSandBox",
        _ => return None,
    };
    Some(Cause { reason, message: truncated(&warning.message) })
}

fn from_pod(pod: &Pod, now: Timestamp) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || is_ready(pod) {
        return None;
    }
    let init = status.init_container_statuses.iter().flatten();
    let mut containers = init.chain(status.container_statuses.iter().flatten());
    let cause = containers
        .find_map(|container| from_container(container, now))
        .or_else(|| unschedulable(pod))
        .or_else(|| evicted(pod))?;
    Some(Cause { message: format!("pod {}: {}", pod.name_any(), cause.message), ..cause })
}

/// A server that runs and has started, but is not ready. Replicas of the app report their own reasons.
fn unresponsive(component: Component, pod: &Pod) -> Option<Cause> {
    let server = matches!(component, Component::Redis | Component::Database);
    if !server || pod.metadata.deletion_timestamp.is_some() || is_ready(pod) {
        return None;
    }
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let silent = containers.iter().find(|container| {
        let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
        running && container.started == Some(true) && !container.ready
    })?;
    let message = format!(
        "pod {}: container {} runs, but does not answer its readiness probe",
        pod.name_any(),
        silent.name
    );
    Some(Cause { reason: UNRESPONSIVE, message })
}

/// Whether a pod is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    let reason = found.reason.as_deref().unwrap_or_default();
    Some((&found.status, reason, found.message.as_deref().unwrap_or_default()))
}

fn unschedulable(pod: &Pod) -> Option<Cause> {
    let (status, reason, message) = condition(pod, "PodScheduled")?;
    let is_so = status == "False" && reason == "Unschedulable";
    is_so.then(|| Cause { reason: "Unschedulable", message: truncated(message) })
}

fn evicted(pod: &Pod) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    let (reason, message) = (status.reason.as_deref()?, status.message.as_deref()?);
    let failed = status.phase.as_deref() == Some("Failed");
    failed.then(|| Cause {
        reason: "PodFailed",
        message: format!("{reason}: {}", truncated(message)),
    })
}

fn from_container(container: &ContainerStatus, now: Timestamp) -> Option<Cause> {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let failed = match state {
        ContainerState { waiting: Some(waiting), .. } => {
            let message = waiting.message.as_deref().unwrap_or_default();
            let cause = from_waiting(container, waiting.reason.as_deref(), message);
            if cause.is_some() {
                return cause;
            }
            last
        }
        ContainerState { terminated: Some(terminated), .. } => Some(terminated),
        ContainerState { running: Some(running), .. } => {
            let since = running.started_at.as_ref().map_or(now, |at| at.0);
            let ran = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            last.filter(|_| ran < RECENT_RESTART)
        }
        ContainerState { .. } => last,
    };
    failed.filter(|failed| failed.exit_code != 0).map(|failed| from_exit(&container.name, failed))
}

/// The cause of a container that the kubelet cannot start.
fn from_waiting(container: &ContainerStatus, reason: Option<&str>, message: &str) -> Option<Cause> {
    let (reason, what) = match reason? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            ("ImagePullBackOff", format!("image {} can't be pulled", container.image))
        }
        "CreateContainerConfigError" => {
            ("CreateContainerConfigError", format!("container {} can't be created", container.name))
        }
        "CreateContainerError" | "RunContainerError" => {
            ("RunContainerError", format!("container {} can't be started", container.name))
        }
        _ => return None,
    };
    // The kubelet alternates between messages with and without this prefix.
    let message = message.split_once("ErrImagePull: ").map_or(message, |(_, message)| message);
    Some(Cause { reason, message: format!("{what}: {}", truncated(message)) })
}

fn from_exit(container: &str, failed: &ContainerStateTerminated) -> Cause {
    if failed.reason.as_deref() == Some("OOMKilled") {
        let message = format!("container {container} exceeded its memory limit");
        return Cause { reason: "OOMKilled", message };
    }
    if let Some(message) = failed.message.as_deref().and_then(unreadable_volume::message) {
        return Cause { reason: unreadable_volume::REASON, message };
    }
    let code = failed.exit_code;
    let why = failed.message.as_deref().and_then(failure_line).unwrap_or("see its log");
    let message = format!("container {container} exited with {code}: {}", truncated(why));
    Cause { reason: "CrashLoopBackOff", message }
}

/// The line of a log that explains the exit: the app's own error, or else the last line.
fn failure_line(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim).rev().filter(|line| !line.is_empty());
    let own = lines.clone().find_map(|line| line.strip_prefix("flashsale-app: "));
    own.or_else(|| lines.find(|line| !line.starts_with("note: ")))
}

fn truncated(message: &str) -> String {
    message.trim().chars().take(MAX_MESSAGE_CHARS).collect()
}
