//! What a pod says about its start and its end. Takes no client.

use k8s_openapi::api::core::v1::{ContainerState, Pod};

use super::build::CONTAINER;

/// Reasons that do not pass by themselves.
const FINAL: [&str; 5] = [
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// Why a pod does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For a person.
    pub message: String,
    /// Whether waiting is of no use.
    pub is_final: bool,
}

impl Waiting {
    /// Something that may pass.
    pub fn new(message: String) -> Self {
        Self { message, is_final: false }
    }
}

/// `None`: the pod runs, or has ended.
pub fn waiting(pod: &Pod) -> Option<Waiting> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Pending") {
        return None;
    }
    let state = state(pod);
    if let Some(waiting) = state.and_then(|state| state.waiting) {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        let is_final = FINAL.contains(&reason.as_str());
        let remedy = if reason.contains("Image") {
            "; if the load image has another name, give --image"
        } else {
            ""
        };
        return Some(Waiting { message: format!("{reason} {message}{remedy}"), is_final });
    }
    let conditions = status.conditions.iter().flatten();
    let scheduled = conditions.into_iter().find(|it| it.type_ == "PodScheduled");
    let unscheduled = scheduled.filter(|it| it.status == "False").and_then(|it| it.message.clone());
    Some(Waiting::new(unscheduled.unwrap_or_else(|| "its pod is being started".to_owned())))
}

/// Exit status, or the reason why there is none; `None`: it goes on.
pub fn ended(pod: &Pod) -> Option<(Option<i32>, String)> {
    if let Some(ended) = state(pod).and_then(|state| state.terminated) {
        let reason = ended.reason.unwrap_or_default();
        // 128 and more: a signal ended it.
        let own = (0..128).contains(&ended.exit_code) && reason != "OOMKilled";
        return Some((own.then_some(ended.exit_code), reason));
    }
    let status = pod.status.as_ref()?;
    let failed = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    failed.then(|| (None, status.reason.clone().unwrap_or_default()))
}

fn state(pod: &Pod) -> Option<ContainerState> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find(|it| it.name == CONTAINER)?.state.clone()
}
