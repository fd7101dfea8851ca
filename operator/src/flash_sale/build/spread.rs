//! Spread of the pods of a part over machines and zones.

use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodAntiAffinity, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use crate::crd::{Spread, SpreadMode};
use crate::flash_sale::names::{self, Component};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The spread of Redis nodes over machines.
pub(super) fn over_hosts(name: &str, spread: &Spread) -> Option<Affinity> {
    let term = PodAffinityTerm {
        label_selector: Some(names::label_selector(name, Component::Redis)),
        topology_key: HOST.to_owned(),
        ..PodAffinityTerm::default()
    };
    let apart = match spread.hosts {
        SpreadMode::Disabled => return None,
        SpreadMode::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term },
            ]),
            ..PodAntiAffinity::default()
        },
        SpreadMode::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        },
    };
    Some(Affinity { pod_anti_affinity: Some(apart), ..Affinity::default() })
}

/// The spread of Redis nodes over zones. Zones without a usable machine do not count, or a drained zone would keep
/// pods pending.
pub(super) fn over_zones(name: &str, spread: &Spread) -> Option<Vec<TopologySpreadConstraint>> {
    let unsatisfiable = match spread.zones {
        SpreadMode::Disabled => return None,
        SpreadMode::Preferred => "ScheduleAnyway",
        SpreadMode::Required => "DoNotSchedule",
    };
    let mut constraint = constraint(name, Component::Redis, ZONE, unsatisfiable);
    constraint.node_taints_policy = Some("Honor".to_owned());
    Some(vec![constraint])
}

/// Prefers different machines, for replicas whose number changes.
pub(super) fn replicas(name: &str) -> Vec<TopologySpreadConstraint> {
    vec![constraint(name, Component::App, HOST, "ScheduleAnyway")]
}

fn constraint(
    name: &str,
    part: Component,
    topology_key: &str,
    when_unsatisfiable: &str,
) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: when_unsatisfiable.to_owned(),
        label_selector: Some(names::label_selector(name, part)),
        ..TopologySpreadConstraint::default()
    }
}
