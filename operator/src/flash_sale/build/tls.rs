//! TLS of the purchase API: its certificate as files, which the app reloads when they change. Nothing of the pods
//! depends on the Secret's values, so a renewed certificate restarts nothing.

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretVolumeSource, Volume, VolumeMount};

use super::pods;
use crate::crd::App;
use crate::flash_sale::names::{TLS_CERTIFICATE, TLS_KEY};

const VOLUME: &str = "tls";
const FOLDER: &str = "/etc/flashsale/tls";

/// Certificate and key only, not the authority's certificate beside them.
pub(super) fn volume(app: &App) -> Option<Volume> {
    let tls = app.tls.as_ref()?;
    let file =
        |key: &str| KeyToPath { key: key.to_owned(), path: key.to_owned(), ..KeyToPath::default() };
    Some(Volume {
        name: VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(tls.secret_ref.name.clone()),
            items: Some([TLS_CERTIFICATE, TLS_KEY].map(file).into()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

pub(super) fn mount(app: &App) -> Option<VolumeMount> {
    app.tls.is_some().then(|| VolumeMount {
        name: VOLUME.to_owned(),
        // Not by `subPath`, which the kubelet never updates.
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

pub(super) fn environment(app: &App) -> Vec<EnvVar> {
    let files = [("TLS_CERT_FILE", TLS_CERTIFICATE), ("TLS_KEY_FILE", TLS_KEY)];
    let variable = |(name, key)| pods::env(name, format!("{FOLDER}/{key}"));
    app.tls.iter().flat_map(|_| files.map(variable)).collect()
}
