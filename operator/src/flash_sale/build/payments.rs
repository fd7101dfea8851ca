//! Services that report payments: their secrets as files, which the app reloads when they change. Nothing of the pods
//! depends on the Secret's values, so a replaced secret restarts nothing.

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::pods;
use crate::crd::{FlashSaleSpec, StripeSecret};

const VOLUME: &str = "stripe";
const FOLDER: &str = "/etc/flashsale/stripe";
const FILE: &str = "webhook-secret";

fn stripe(spec: &FlashSaleSpec) -> Option<&StripeSecret> {
    Some(&spec.payments.as_ref()?.stripe.as_ref()?.secret_ref)
}

/// The declared key only, not the rest of the Secret.
pub(super) fn volume(spec: &FlashSaleSpec) -> Option<Volume> {
    let secret = stripe(spec)?;
    let file = KeyToPath { key: secret.key.clone(), path: FILE.to_owned(), ..KeyToPath::default() };
    Some(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            items: Some(vec![file]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(spec: &FlashSaleSpec) -> Option<VolumeMount> {
    stripe(spec).map(|_| VolumeMount {
        name: VOLUME.to_owned(),
        // Not by `subPath`, which the kubelet never updates.
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

pub(super) fn environment(spec: &FlashSaleSpec) -> Option<EnvVar> {
    stripe(spec).map(|_| pods::env("STRIPE_WEBHOOK_FILE", format!("{FOLDER}/{FILE}")))
}
