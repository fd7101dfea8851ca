//! Scheduled backups of the sale's own database: a `CronJob`, and a volume that no change of the sale deletes.

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec,
    Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata::metadata;
use super::{database, pod_template, pods, requests, stores_tls};
use crate::crd::{Backup, DeletionPolicy};
use crate::flash_sale::backup::BackupParts;
use crate::flash_sale::names::{self, Component};
use crate::flash_sale::validate::ValidatedSale;

const VOLUME: &str = "backups";
const FOLDER: &str = "/backups";
/// Seconds until a backup is given up. The next one does not start before.
const DEADLINE: i64 = 3600;
/// Seconds after its time in which a backup can still start.
const STARTS_WITHIN: i64 = 3600;

/// Renames a dump when it is complete, and only then deletes older ones. A database other than the seeded one, such as an
/// empty one after a loss, is not dumped: its dumps would replace those with the orders.
const DUMP: &str = r#"set -eu
umask 027
cd /backups
rm -f "$SALE"-*.dump.part
seeded=$(echo "SELECT installed_on = :'id'::timestamptz FROM _sqlx_migrations ORDER BY version LIMIT 1" |
  psql -XAtq -v ON_ERROR_STOP=1 -v id="$DATABASE_ID")
if [ "$seeded" != t ]; then
  echo "this is not the seeded database, whose id is $DATABASE_ID: no backup, and earlier ones stay" >&2
  exit 1
fi
dump=$SALE-$(date -u +%Y%m%dT%H%M%SZ).dump
pg_dump --format=custom --file="$dump.part"
mv "$dump.part" "$dump"
ls -r "$SALE"-????????T??????Z.dump | tail -n "+$((KEEP + 1))" | while read -r old; do
  rm "$old"
done
"#;

pub(super) fn parts(sale: &ValidatedSale) -> BackupParts {
    let (Some(declared), Some(image)) = (&sale.spec.database.backup, &sale.images.postgres) else {
        return BackupParts::default();
    };
    BackupParts {
        claim: Some(claim(sale, declared)),
        cron_job: Some(cron_job(sale, declared, image)),
    }
}

/// The sale after which the database and its backups are named.
fn adopted(sale: &ValidatedSale) -> &str {
    sale.spec.database.adopt.as_deref().unwrap_or(&sale.name)
}

/// Id of the database that has the sale's orders.
fn database_id(sale: &ValidatedSale) -> Option<&String> {
    sale.seeded.as_ref().map(|database| &database.id).or(sale.adopted_id.as_ref())
}

/// Without an owner, it outlives the sale, as the claim of the database does.
fn claim(sale: &ValidatedSale, declared: &Backup) -> PersistentVolumeClaim {
    let owned = sale.spec.database.deletion_policy == DeletionPolicy::Delete;
    let labels = names::labels(adopted(sale), Component::Backup);
    let mut claim = pods::volume_claim(labels, &declared.storage);
    claim.metadata.name = Some(names::backup_claim(adopted(sale)));
    claim.metadata.namespace = Some(sale.namespace.clone());
    claim.metadata.owner_references = owned.then(|| vec![sale.owner.clone()]);
    claim
}

fn cron_job(sale: &ValidatedSale, declared: &Backup, image: &str) -> CronJob {
    // Before the first seed there are no orders.
    let suspended = declared.suspend || sale.hibernates || database_id(sale).is_none();
    let labels = names::labels(&sale.name, Component::Backup);
    CronJob {
        metadata: metadata(sale, names::backup_cron_job(&sale.name), Component::Backup),
        spec: Some(CronJobSpec {
            schedule: declared.schedule.clone(),
            time_zone: Some("Etc/UTC".to_owned()),
            suspend: Some(suspended),
            concurrency_policy: Some("Forbid".to_owned()),
            starting_deadline_seconds: Some(STARTS_WITHIN),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(JobSpec {
                    backoff_limit: Some(3),
                    active_deadline_seconds: Some(DEADLINE),
                    template: template(sale, declared, image),
                    ..JobSpec::default()
                }),
            },
        }),
        status: None,
    }
}

fn template(sale: &ValidatedSale, declared: &Backup, image: &str) -> PodTemplateSpec {
    let backups = Volume {
        name: VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::backup_claim(adopted(sale)),
            read_only: None,
        }),
        ..Volume::default()
    };
    let volumes = [backups].into_iter().chain(stores_tls::client_volume(sale)).collect();
    pod_template::customized(
        sale,
        Component::Backup,
        PodTemplateSpec {
            metadata: Some(pods::template_metadata(&sale.name, Component::Backup, &[])),
            spec: Some(PodSpec {
                containers: vec![container(sale, declared, image)],
                automount_service_account_token: Some(false),
                enable_service_links: Some(false),
                restart_policy: Some("Never".to_owned()),
                security_context: Some(pods::pod_security(database::USER)),
                volumes: Some(volumes),
                ..PodSpec::default()
            }),
        },
    )
}

fn container(sale: &ValidatedSale, declared: &Backup, image: &str) -> Container {
    let secret = &sale.database.secret;
    let id = database_id(sale).cloned().unwrap_or_default();
    let resources = requests::with_defaults(Component::Backup, declared.resources.as_ref());
    let mut env = vec![
        pods::env("PGHOST", format!("{}.{}.svc", sale.own_database, sale.namespace)),
        pods::secret_env("PGUSER", secret, "username", false),
        pods::secret_env("PGPASSWORD", secret, "password", false),
        pods::secret_env("PGDATABASE", secret, "database", false),
        pods::env("PGCONNECT_TIMEOUT", "10"),
        pods::env("SALE", adopted(sale)),
        pods::env("DATABASE_ID", id),
        pods::env("KEEP", declared.keep.to_string()),
    ];
    env.extend(stores_tls::libpq_environment(sale));
    let mounts = [pods::mount(VOLUME, FOLDER)].into_iter().chain(stores_tls::mount(sale));
    Container {
        command: Some(["sh", "-c", DUMP].map(str::to_owned).into()),
        env: Some(env),
        volume_mounts: Some(mounts.collect()),
        termination_message_policy: pods::end_of_log(true),
        ..pods::container("backup", image, &resources)
    }
}
