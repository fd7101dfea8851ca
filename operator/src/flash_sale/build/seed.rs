//! The Job that puts the declared stock in place. Its name is the hash of what it is to do: the
//! same stock is the same Job, raised stock another one.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, PodSpec, PodTemplateSpec, Volume,
};

use super::names::{self, Component};
use super::{app, catalog, hash, pods};
use crate::flash_sale::validate::ValidatedSale;

const MOUNT: &str = "/etc/flashsale";

/// No time to live: the finished Job is the record that this stock is in place.
pub(super) fn job(sale: &ValidatedSale, catalog_json: &str) -> Job {
    let inputs = (catalog_json, &sale.database.secret, sale.spec.redis.nodes);
    let name = format!("{}-seed-{}", sale.name, &hash(&inputs)[..8]);
    Job {
        metadata: names::metadata(sale, name, Component::Seed),
        spec: Some(JobSpec {
            backoff_limit: Some(5),
            template: PodTemplateSpec {
                metadata: Some(pods::template_metadata(&sale.name, Component::Seed, &[])),
                spec: Some(PodSpec {
                    containers: vec![container(sale)],
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    restart_policy: Some("Never".to_owned()),
                    security_context: Some(pods::pod_security(app::USER)),
                    volumes: Some(vec![Volume {
                        name: "catalog".to_owned(),
                        config_map: Some(ConfigMapVolumeSource {
                            name: names::catalog(&sale.name),
                            ..ConfigMapVolumeSource::default()
                        }),
                        ..Volume::default()
                    }]),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn container(sale: &ValidatedSale) -> Container {
    // A user's own Secret may leave the administrator out.
    let optional = sale.spec.auth.is_some();
    let mut env = app::environment(sale);
    env.extend([
        pods::env("CATALOG_FILE", format!("{MOUNT}/{}", catalog::FILE)),
        pods::secret_env("ADMIN_ID", &sale.auth.secret, "admin-id", optional),
        pods::secret_env("ADMIN_PASSWORD", &sale.auth.secret, "admin-password", optional),
    ]);
    Container {
        args: Some(vec!["seed".to_owned()]),
        env: Some(env),
        volume_mounts: Some(vec![pods::mount("catalog", MOUNT)]),
        ..pods::container("seed", &sale.images.app, sale.spec.app.resources.as_ref())
    }
}
