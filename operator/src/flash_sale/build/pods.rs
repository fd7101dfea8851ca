//! Common fields of all pods: restricted security, environment, volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodSecurityContext, ResourceRequirements, SeccompProfile,
    SecretKeySelector, SecurityContext, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::crd::{Amounts, Resources, Storage};
use crate::flash_sale::names::{self, Component};

/// Pods run as `user`, never as root, and own their volumes.
pub(super) fn pod_security(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        fs_group: Some(user),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// Together with [`pod_security`], the `restricted` pod security standard.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// A container with the fields that all containers share.
pub(super) fn container(name: &str, image: &str, resources: &Resources) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        resources: Some(resource_requirements(resources)),
        security_context: Some(container_security()),
        ..Container::default()
    }
}

/// The policy that gives the end of a failed container's log to the operator, which may not read logs.
pub(super) fn end_of_log(wanted: bool) -> Option<String> {
    wanted.then(|| names::END_OF_LOG.to_owned())
}

fn resource_requirements(resources: &Resources) -> ResourceRequirements {
    let amounts = |amounts: &Amounts| {
        let cpu = amounts.cpu.clone().map(|cpu| ("cpu".to_owned(), cpu));
        let memory = amounts.memory.clone().map(|memory| ("memory".to_owned(), memory));
        cpu.into_iter().chain(memory).collect()
    };
    ResourceRequirements {
        requests: resources.requests.as_ref().map(amounts),
        limits: resources.limits.as_ref().map(amounts),
        ..ResourceRequirements::default()
    }
}

/// Metadata of a pod template: labels that never change, and checksums of inputs that the pods read only at
/// start. Nothing here may depend on the operator's version, or an upgrade would restart sales.
pub(super) fn template_metadata(
    name: &str,
    component: Component,
    checksums: &[(&str, &str)],
) -> ObjectMeta {
    let annotation =
        |&(key, value): &(&str, &str)| (format!("flashsale.dev/{key}-checksum"), value.to_owned());
    ObjectMeta {
        labels: Some(names::labels(name, component)),
        annotations: Some(checksums.iter().map(annotation).collect()),
        ..ObjectMeta::default()
    }
}

pub(super) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

pub(super) fn secret_env(name: &str, secret: &str, key: &str, optional: bool) -> EnvVar {
    let selector = SecretKeySelector {
        name: secret.to_owned(),
        key: key.to_owned(),
        optional: optional.then_some(true),
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(selector),
            ..EnvVarSource::default()
        }),
    }
}

pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

pub(super) fn scratch(volume: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// Volume claim template with one volume per pod.
pub(super) fn volume_claim(
    labels: BTreeMap<String, String>,
    storage: &Storage,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::VOLUME.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What becomes of the volume claims of a deleted `StatefulSet`.
pub(super) const fn when_deleted(retained: bool) -> &'static str {
    if retained { "Retain" } else { "Delete" }
}
