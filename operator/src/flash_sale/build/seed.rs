//! The Job that seeds the declared stock and the administrator's account. Its name contains the hash of its inputs: the same
//! stock is the same Job; raised stock, another password or another database is a new Job.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, PodSpec, PodTemplateSpec, Volume,
};

use super::checksum::hash;
use super::credentials::Secrets;
use super::metadata::metadata;
use super::{app, catalog, pod_template, pods, requests, stores_tls};
use crate::flash_sale::database;
use crate::flash_sale::names::{self, Component, DATABASE_CHECKSUM, TEMPLATE_CHECKSUM};
use crate::flash_sale::validate::ValidatedSale;

const MOUNT: &str = "/etc/flashsale";

/// The Job has no TTL: the finished Job is the record that this stock is seeded.
pub(super) fn job(sale: &ValidatedSale, catalog_json: &str, secrets: &Secrets) -> Job {
    let inputs = (
        catalog_json,
        (&sale.database.secret, &secrets.database_address),
        sale.nodes.configured,
        &secrets.admin_checksum,
        &sale.accepted_loss,
    );
    let name = format!("{}-seed-{}", sale.name, &hash(&inputs)[..8]);
    let template = template(sale, secrets);
    let mut metadata = metadata(sale, name, Component::Seed);
    let address = (DATABASE_CHECKSUM.to_owned(), secrets.database_address.clone());
    metadata.annotations = Some([(TEMPLATE_CHECKSUM.to_owned(), hash(&template)), address].into());
    Job {
        metadata,
        spec: Some(JobSpec { backoff_limit: Some(5), template, ..JobSpec::default() }),
        status: None,
    }
}

fn template(sale: &ValidatedSale, secrets: &Secrets) -> PodTemplateSpec {
    pod_template::customized(
        sale,
        Component::Seed,
        PodTemplateSpec {
            metadata: Some(pods::template_metadata(&sale.name, Component::Seed, &[])),
            spec: Some(PodSpec {
                containers: vec![container(sale, secrets)],
                automount_service_account_token: Some(false),
                enable_service_links: Some(false),
                restart_policy: Some("Never".to_owned()),
                security_context: Some(pods::pod_security(app::USER)),
                volumes: Some(volumes(sale)),
                ..PodSpec::default()
            }),
        },
    )
}

fn volumes(sale: &ValidatedSale) -> Vec<Volume> {
    let catalog = Volume {
        name: "catalog".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::catalog(&sale.name),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    [catalog].into_iter().chain(stores_tls::client_volume(sale)).collect()
}

fn container(sale: &ValidatedSale, secrets: &Secrets) -> Container {
    // A user's own Secret can omit the administrator.
    let optional = sale.spec.auth.is_some();
    let mut env = app::environment(sale);
    env.extend([
        pods::env("CATALOG_FILE", format!("{MOUNT}/{}", catalog::FILE)),
        pods::secret_env("ADMIN_ID", &sale.auth.secret, "admin-id", optional),
        pods::secret_env("ADMIN_PASSWORD", &sale.auth.secret, "admin-password", optional),
    ]);
    if sale.spec.database.adopt.as_ref().is_some_and(|adopted| *adopted != sale.name) {
        env.push(pods::env("TAKE_OVER_DATABASE", "true"));
    }
    // Absent for the first seed, which accepts any database.
    let accepted = sale.accepted_loss.as_deref();
    let expected = database::expected(sale.seeded.as_ref(), &secrets.database_address, accepted);
    let expected = expected.map(|seeded| &seeded.id).or_else(|| {
        let first = sale.adopted_id.as_ref().filter(|_| sale.seeded.is_none());
        first.filter(|id| accepted != Some(id.as_str()))
    });
    env.extend(expected.map(|id| pods::env("DATABASE_ID", id.clone())));
    let own = sale.spec.seed.as_ref().and_then(|seed| seed.resources.as_ref());
    let declared = own.or(sale.spec.app.resources.as_ref());
    let resources = requests::with_defaults(Component::Seed, declared);
    let mounts = [pods::mount("catalog", MOUNT)].into_iter().chain(stores_tls::mount(sale));
    Container {
        args: Some(vec!["seed".to_owned()]),
        env: Some(env),
        volume_mounts: Some(mounts.collect()),
        termination_message_policy: pods::end_of_log(true),
        ..pods::container("seed", &sale.images.app, &resources)
    }
}
