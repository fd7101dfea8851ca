//! Events of orders: the app's settings, and the authorities of the receiver as a file. Both are read when a replica
//! starts, so a changed Secret restarts the replicas.

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::pods;
use crate::crd::{EventState, EventWebhook};
use crate::flash_sale::names::CA_CERTIFICATE;
use crate::flash_sale::validate::ValidatedSale;

const VOLUME: &str = "events-ca";
const FOLDER: &str = "/etc/flashsale-events";

fn webhook(sale: &ValidatedSale) -> Option<&EventWebhook> {
    sale.spec.events.as_ref().map(|events| &events.webhook)
}

pub(super) fn volume(sale: &ValidatedSale) -> Option<Volume> {
    let authorities = webhook(sale)?.authorities_ref.as_ref()?;
    let file = KeyToPath {
        key: CA_CERTIFICATE.to_owned(),
        path: CA_CERTIFICATE.to_owned(),
        ..KeyToPath::default()
    };
    Some(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(authorities.name.clone()),
            items: Some(vec![file]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(sale: &ValidatedSale) -> Option<VolumeMount> {
    webhook(sale)?
        .authorities_ref
        .as_ref()
        .map(|_| VolumeMount { read_only: Some(true), ..pods::mount(VOLUME, FOLDER) })
}

pub(super) fn environment(sale: &ValidatedSale) -> Vec<EnvVar> {
    let Some(webhook) = webhook(sale) else { return Vec::new() };
    let secret = &webhook.secret_ref;
    let mut env = vec![
        pods::env("EVENTS_WEBHOOK_URL", &*webhook.url),
        pods::secret_env("EVENTS_WEBHOOK_SECRET", &secret.name, &secret.key, false),
    ];
    if !webhook.states.is_empty() {
        let states: Vec<&str> =
            webhook.states.iter().map(|state| EventState::as_str(*state)).collect();
        env.push(pods::env("EVENTS_WEBHOOK_STATES", states.join(",")));
    }
    if webhook.authorities_ref.is_some() {
        env.push(pods::env("EVENTS_WEBHOOK_CA_FILE", format!("{FOLDER}/{CA_CERTIFICATE}")));
    }
    env
}
