//! Probes of the servers. A frozen process still accepts connections, so they wait for a reply.
//!
//! A probe is a process in the container. After its timeout the kubelet kills that process only, so the command replaces
//! the shell (`exec`), or it limits its own duration: what it started would stay until the server replies.

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::probes::{ProbeBounds, ProbeTimes};
use crate::flash_sale::names::METRICS_PORT;

/// A probe by a shell command.
pub(super) fn command(command: &str, bounds: &ProbeBounds, declared: Option<&ProbeTimes>) -> Probe {
    let command = ["sh", "-c", command].map(str::to_owned).into();
    let exec = Some(ExecAction { command: Some(command) });
    Probe { exec, ..timed(bounds, declared) }
}

/// A probe by a path of the internal port.
pub(super) fn http(path: &str, bounds: &ProbeBounds, declared: Option<&ProbeTimes>) -> Probe {
    let http_get = Some(HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(METRICS_PORT),
        ..HTTPGetAction::default()
    });
    Probe { http_get, ..timed(bounds, declared) }
}

/// The seconds for which a command may wait for its reply: a little less than the kubelet waits for the command.
pub(super) fn reply_within(bounds: &ProbeBounds, declared: Option<&ProbeTimes>) -> i32 {
    (timeout(bounds, declared) - 1).max(1)
}

fn timeout(bounds: &ProbeBounds, declared: Option<&ProbeTimes>) -> i32 {
    declared.and_then(|times| times.timeout_seconds).unwrap_or(bounds.timeout.0)
}

fn timed(bounds: &ProbeBounds, declared: Option<&ProbeTimes>) -> Probe {
    let times = declared.copied().unwrap_or_default();
    Probe {
        period_seconds: Some(times.period_seconds.unwrap_or(bounds.period.0)),
        timeout_seconds: Some(timeout(bounds, declared)),
        failure_threshold: Some(times.failure_threshold.unwrap_or(bounds.failures.0)),
        ..Probe::default()
    }
}
