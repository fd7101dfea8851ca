//! TLS of the Redis nodes and of the sale's own database: the Secret of the operator's certificates, and the files in the
//! pods. Servers and clients read the files again when they change, so a renewed certificate restarts nothing.

use k8s_openapi::api::core::v1::{
    EnvVar, KeyToPath, Secret, SecretVolumeSource, Volume, VolumeMount,
};

use super::metadata::metadata;
use super::pods;
use crate::flash_sale::names::{CA_CERTIFICATE, Component, TLS_CERTIFICATE, TLS_KEY};
use crate::flash_sale::validate::ValidatedSale;

const VOLUME: &str = "stores-tls";
const FOLDER: &str = "/etc/flashsale-stores";
/// PostgreSQL refuses a key that others can read. The files belong to root and to the group of the pod.
const KEY_MODE: i32 = 0o440;

/// The certificate's file in the pods of a server.
pub(super) const CERTIFICATE_FILE: &str = "/etc/flashsale-stores/tls.crt";
/// The key's file.
pub(super) const KEY_FILE: &str = "/etc/flashsale-stores/tls.key";

/// The Secret to write; absent: it stays as it is.
pub(super) fn secret(sale: &ValidatedSale) -> Option<Secret> {
    let secret = sale.stores_tls.as_ref()?;
    let certificates = secret.changed.clone()?;
    let mut metadata = metadata(sale, secret.name.clone(), Component::Redis);
    metadata.annotations = Some(certificates.annotations);
    Some(Secret { metadata, data: Some(certificates.data), ..Secret::default() })
}

/// Certificate and key, for a server.
pub(super) fn server_volume(sale: &ValidatedSale) -> Option<Volume> {
    volume(sale, &[TLS_CERTIFICATE, TLS_KEY], Some(KEY_MODE))
}

/// The authorities' certificates, for a client.
pub(super) fn client_volume(sale: &ValidatedSale) -> Option<Volume> {
    volume(sale, &[CA_CERTIFICATE], None)
}

fn volume(sale: &ValidatedSale, keys: &[&str], mode: Option<i32>) -> Option<Volume> {
    let secret = sale.stores_tls.as_ref()?;
    let file = |key: &&str| KeyToPath {
        key: (*key).to_owned(),
        path: (*key).to_owned(),
        ..KeyToPath::default()
    };
    Some(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            items: Some(keys.iter().map(file).collect()),
            default_mode: mode,
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(sale: &ValidatedSale) -> Option<VolumeMount> {
    sale.stores_tls.as_ref().map(|_| VolumeMount {
        read_only: Some(true),
        // Not by `subPath`, which the kubelet never updates.
        ..pods::mount(VOLUME, FOLDER)
    })
}

/// Settings of PostgreSQL's own programs. They verify as the app does.
pub(super) fn libpq_environment(sale: &ValidatedSale) -> Vec<EnvVar> {
    let Some(_) = &sale.stores_tls else { return Vec::new() };
    vec![
        pods::env("PGSSLMODE", "verify-full"),
        pods::env("PGSSLROOTCERT", format!("{FOLDER}/{CA_CERTIFICATE}")),
    ]
}

/// The app's settings. The parameters of an external database's URI decide about its TLS.
pub(super) fn environment(sale: &ValidatedSale) -> Vec<EnvVar> {
    let Some(_) = &sale.stores_tls else { return Vec::new() };
    let own_database = sale.images.postgres.as_ref().map(|_| "DATABASE_CA_FILE");
    let settings = ["REDIS_CA_FILE"].into_iter().chain(own_database);
    settings.map(|name| pods::env(name, format!("{FOLDER}/{CA_CERTIFICATE}"))).collect()
}
