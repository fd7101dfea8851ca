//! Default requests, so that no pod is the first to be evicted (quality of service `BestEffort`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::crd::{Amounts, Resources};
use crate::flash_sale::names::Component;

/// CPU and memory of a small sale, as `kubectl explain` says. An autoscaler of the app needs its CPU request:
/// utilization is relative to it.
const fn defaults(part: Component) -> (&'static str, &'static str) {
    match part {
        Component::Redis => ("20m", "32Mi"),
        Component::Database => ("100m", "128Mi"),
        Component::App => ("100m", "64Mi"),
        Component::Seed | Component::Backup => ("50m", "64Mi"),
    }
}

/// The declared resources, with a default request for CPU or memory if it has neither a request nor a limit. In
/// Kubernetes, a limit without a request is also the request.
pub(super) fn with_defaults(part: Component, declared: Option<&Resources>) -> Resources {
    let mut resources = declared.cloned().unwrap_or_default();
    let (cpu, memory) = defaults(part);
    let has = |amount: fn(&Amounts) -> Option<&Quantity>| {
        let amounts = [&resources.requests, &resources.limits];
        amounts.into_iter().flatten().any(|amounts| amount(amounts).is_some())
    };
    let (has_cpu, has_memory) =
        (has(|amounts| amounts.cpu.as_ref()), has(|amounts| amounts.memory.as_ref()));
    if !has_cpu || !has_memory {
        let requests = resources.requests.get_or_insert_default();
        if !has_cpu {
            requests.cpu = Some(Quantity(cpu.to_owned()));
        }
        if !has_memory {
            requests.memory = Some(Quantity(memory.to_owned()));
        }
    }
    resources
}
