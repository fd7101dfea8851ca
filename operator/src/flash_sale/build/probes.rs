//! Probes of the servers. A frozen process still accepts connections, so they wait for a reply.
//!
//! A probe is a process in the container. After its timeout the kubelet kills that process only, so the command replaces
//! the shell (`exec`), or it limits its own duration: what it started would stay until the server replies.

use k8s_openapi::api::core::v1::{ExecAction, Probe};

/// Runs a command every second until it succeeds, for at most two minutes.
pub(super) fn startup(command: &str) -> Probe {
    Probe {
        period_seconds: Some(1),
        timeout_seconds: Some(2),
        failure_threshold: Some(120),
        ..probe(command)
    }
}

/// Fails 20 to 35 seconds after the last reply. A machine under load starts the command late, so it has some seconds.
pub(super) fn readiness(command: &str) -> Probe {
    Probe {
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..probe(command)
    }
}

/// Slow to act: three minutes without a reply. A restart helps a frozen server only; a busy one would lose its time.
pub(super) fn liveness(command: &str) -> Probe {
    Probe {
        period_seconds: Some(30),
        timeout_seconds: Some(10),
        failure_threshold: Some(6),
        ..probe(command)
    }
}

fn probe(command: &str) -> Probe {
    let command = ["sh", "-c", command].map(str::to_owned).into();
    Probe { exec: Some(ExecAction { command: Some(command) }), ..Probe::default() }
}
