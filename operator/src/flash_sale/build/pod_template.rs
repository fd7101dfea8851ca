//! Declared changes of a part's pods. The schema refuses what belongs to the operator (`crd/reserved.rs`), so nothing
//! here replaces a label, a variable or a volume of the operator.

use std::borrow::Cow;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Affinity, Container, LocalObjectReference, PodSpec, PodTemplateSpec, TopologySpreadConstraint,
};

use crate::crd::{PodTemplate, PodUser, SecretName};
use crate::flash_sale::names::{self, Component};
use crate::flash_sale::validate::ValidatedSale;

/// Annotation with the container that `kubectl exec` and `kubectl logs` choose.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The pod template of a part with the changes that the sale declares.
pub(super) fn customized(
    sale: &ValidatedSale,
    part: Component,
    mut template: PodTemplateSpec,
) -> PodTemplateSpec {
    let declared = declared(sale, part);
    let pod = template.spec.get_or_insert_default();
    if sale.spec.pod_user == PodUser::Platform
        && let Some(security) = &mut pod.security_context
    {
        security.run_as_user = None;
        security.run_as_group = None;
        security.fs_group = None;
    }
    let own = declared.as_deref().map_or(&[][..], |declared| &declared.image_pull_secrets);
    pod.image_pull_secrets = pull_secrets(&sale.spec.image_pull_secrets, own);
    let Some(declared) = declared.as_deref() else { return template };
    customize_pod(sale, part, pod, declared);
    for container in &mut pod.containers {
        customize_container(container, declared);
    }
    let own = pod.containers.first().map(|container| container.name.clone());
    pod.containers.append(&mut cloned(&declared.containers));
    if !declared.init_containers.is_empty() {
        pod.init_containers = Some(cloned(&declared.init_containers));
    }
    let has_others = pod.containers.len() > 1 || pod.init_containers.is_some();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(declared.labels.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    if let Some(own) = own.filter(|_| has_others) {
        annotations.insert(DEFAULT_CONTAINER.to_owned(), own);
    }
    annotations.extend(declared.annotations.clone());
    template
}

fn declared(sale: &ValidatedSale, part: Component) -> Option<Cow<'_, PodTemplate>> {
    let spec = &sale.spec;
    let declared = match part {
        Component::Redis => spec.redis.pod_template.as_deref(),
        Component::Database => spec.database.pod_template.as_deref(),
        Component::App => spec.app.pod_template.as_deref(),
        Component::Seed => spec.seed.as_ref()?.pod_template.as_deref(),
        Component::Backup => {
            let of_database = spec.database.pod_template.as_deref()?;
            return Some(Cow::Owned(without_containers(of_database)));
        }
    };
    declared.map(Cow::Borrowed)
}

/// What a backup takes from the database's template. A sidecar would keep its Job from ending.
fn without_containers(template: &PodTemplate) -> PodTemplate {
    PodTemplate {
        env: Vec::new(),
        volumes: Vec::new(),
        volume_mounts: Vec::new(),
        containers: Vec::new(),
        init_containers: Vec::new(),
        termination_grace_period_seconds: None,
        ..template.clone()
    }
}

fn customize_pod(sale: &ValidatedSale, part: Component, pod: &mut PodSpec, declared: &PodTemplate) {
    if !declared.node_selector.is_empty() {
        pod.node_selector = Some(declared.node_selector.clone());
    }
    if let Some(affinity) = &declared.affinity {
        pod.affinity = Some(with_terms_of((**affinity).clone(), pod.affinity.take()));
    }
    if !declared.tolerations.is_empty() {
        pod.tolerations = Some(cloned(&declared.tolerations));
    }
    if !declared.topology_spread_constraints.is_empty() {
        let mut constraints: Vec<TopologySpreadConstraint> =
            cloned(&declared.topology_spread_constraints);
        for constraint in &mut constraints {
            let ours = || names::label_selector(&sale.name, part);
            constraint.label_selector.get_or_insert_with(ours);
        }
        let mut own = pod.topology_spread_constraints.take().unwrap_or_default();
        own.retain(|own| constraints.iter().all(|it| it.topology_key != own.topology_key));
        constraints.append(&mut own);
        pod.topology_spread_constraints = Some(constraints);
    }
    pod.priority_class_name.clone_from(&declared.priority_class_name);
    pod.service_account_name.clone_from(&declared.service_account_name);
    if let Some(context) = &declared.pod_security_context {
        pod.security_context.get_or_insert_default().merge_from((**context).clone());
    }
    if !declared.volumes.is_empty() {
        pod.volumes.get_or_insert_default().append(&mut cloned(&declared.volumes));
    }
    if let Some(seconds) = declared.termination_grace_period_seconds {
        pod.termination_grace_period_seconds = Some(seconds);
    }
}

fn customize_container(container: &mut Container, declared: &PodTemplate) {
    if let Some(context) = &declared.container_security_context {
        container.security_context.get_or_insert_default().merge_from((**context).clone());
    }
    if !declared.env.is_empty() {
        container.env.get_or_insert_default().append(&mut cloned(&declared.env));
    }
    if !declared.volume_mounts.is_empty() {
        container
            .volume_mounts
            .get_or_insert_default()
            .append(&mut cloned(&declared.volume_mounts));
    }
}

fn cloned<T: Clone>(declared: &[impl std::ops::Deref<Target = T>]) -> Vec<T> {
    declared.iter().map(|value| (**value).clone()).collect()
}

/// The Secrets of the sale, then those of the part.
fn pull_secrets(
    of_sale: &[SecretName],
    of_part: &[SecretName],
) -> Option<Vec<LocalObjectReference>> {
    let mut secrets: Vec<LocalObjectReference> = Vec::new();
    for SecretName { name } in of_sale.iter().chain(of_part) {
        if secrets.iter().all(|secret| secret.name != *name) {
            secrets.push(LocalObjectReference { name: name.clone() });
        }
    }
    (!secrets.is_empty()).then_some(secrets)
}

/// The declared affinity with the operator's terms, which are anti-affinity only.
fn with_terms_of(mut declared: Affinity, operator: Option<Affinity>) -> Affinity {
    if let Some(operator) = operator.and_then(|it| it.pod_anti_affinity) {
        let apart = declared.pod_anti_affinity.get_or_insert_default();
        if let Some(mut terms) = operator.preferred_during_scheduling_ignored_during_execution {
            let preferred = &mut apart.preferred_during_scheduling_ignored_during_execution;
            preferred.get_or_insert_default().append(&mut terms);
        }
        if let Some(mut terms) = operator.required_during_scheduling_ignored_during_execution {
            let required = &mut apart.required_during_scheduling_ignored_during_execution;
            required.get_or_insert_default().append(&mut terms);
        }
    }
    declared
}
