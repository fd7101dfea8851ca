//! Events of orders: the app's settings, and the authorities of the receivers as files. All are read when a replica
//! starts, so a changed Secret restarts the replicas.

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::pods;
use crate::crd::{EventNats, EventState, EventWebhook, SecretName};
use crate::flash_sale::event_secrets::NATS_KEYS;
use crate::flash_sale::names::CA_CERTIFICATE;
use crate::flash_sale::validate::ValidatedSale;

/// Authorities as a file of the app.
struct Authorities<'a> {
    volume: &'static str,
    folder: &'static str,
    secret: &'a SecretName,
}

impl Authorities<'_> {
    fn volume(&self) -> Volume {
        let file = KeyToPath {
            key: CA_CERTIFICATE.to_owned(),
            path: CA_CERTIFICATE.to_owned(),
            ..KeyToPath::default()
        };
        Volume {
            name: self.volume.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(self.secret.name.clone()),
                items: Some(vec![file]),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }
    }

    fn mount(&self) -> VolumeMount {
        VolumeMount { read_only: Some(true), ..pods::mount(self.volume, self.folder) }
    }

    fn file(&self) -> String {
        format!("{}/{CA_CERTIFICATE}", self.folder)
    }
}

fn webhook_authorities(webhook: &EventWebhook) -> Option<Authorities<'_>> {
    let secret = webhook.authorities_ref.as_ref()?;
    Some(Authorities { volume: "events-ca", folder: "/etc/flashsale-events", secret })
}

fn nats_authorities(nats: &EventNats) -> Option<Authorities<'_>> {
    let secret = nats.authorities_ref.as_ref()?;
    Some(Authorities { volume: "events-nats-ca", folder: "/etc/flashsale-events-nats", secret })
}

fn authorities(sale: &ValidatedSale) -> impl Iterator<Item = Authorities<'_>> {
    let events = sale.spec.events.as_ref();
    let webhook = events.and_then(|events| webhook_authorities(events.webhook.as_ref()?));
    let nats = events.and_then(|events| nats_authorities(events.nats.as_ref()?));
    webhook.into_iter().chain(nats)
}

pub(super) fn volumes(sale: &ValidatedSale) -> impl Iterator<Item = Volume> {
    authorities(sale).map(|authorities| authorities.volume())
}

pub(super) fn mounts(sale: &ValidatedSale) -> impl Iterator<Item = VolumeMount> {
    authorities(sale).map(|authorities| authorities.mount())
}

pub(super) fn environment(sale: &ValidatedSale) -> Vec<EnvVar> {
    let Some(events) = &sale.spec.events else { return Vec::new() };
    let mut env = events.webhook.as_ref().map(webhook_environment).unwrap_or_default();
    env.extend(events.nats.iter().flat_map(nats_environment));
    env
}

fn webhook_environment(webhook: &EventWebhook) -> Vec<EnvVar> {
    let secret = &webhook.secret_ref;
    let mut env = vec![
        pods::env("EVENTS_WEBHOOK_URL", &*webhook.url),
        pods::secret_env("EVENTS_WEBHOOK_SECRET", &secret.name, &secret.key, false),
    ];
    env.extend(states("EVENTS_WEBHOOK_STATES", &webhook.states));
    if let Some(authorities) = webhook_authorities(webhook) {
        env.push(pods::env("EVENTS_WEBHOOK_CA_FILE", authorities.file()));
    }
    env
}

fn nats_environment(nats: &EventNats) -> Vec<EnvVar> {
    let mut env = vec![
        pods::env("EVENTS_NATS_SERVERS", nats.servers.join(",")),
        pods::env("EVENTS_NATS_SUBJECT", &*nats.subject),
    ];
    env.extend(nats.stream.iter().map(|stream| pods::env("EVENTS_NATS_STREAM", &**stream)));
    env.extend(states("EVENTS_NATS_STATES", &nats.states));
    if let Some(authorities) = nats_authorities(nats) {
        env.push(pods::env("EVENTS_NATS_CA_FILE", authorities.file()));
    }
    // The Secret has the keys of one log-in.
    env.extend(nats.secret_ref.iter().flat_map(|secret| {
        NATS_KEYS.map(|(key, name)| pods::secret_env(name, &secret.name, key, true))
    }));
    env
}

fn states(name: &str, states: &[EventState]) -> Option<EnvVar> {
    let states: Vec<&str> = states.iter().map(|state| EventState::as_str(*state)).collect();
    (!states.is_empty()).then(|| pods::env(name, states.join(",")))
}
