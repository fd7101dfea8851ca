//! Scheduled backups of a sale's own database: the built parts, and the script of a backup with a real server.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use flashsale_operator::crd::{DatabaseStatus, FlashSaleStatus};
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::retained::RetainedData;
use flashsale_operator::flash_sale::validate::{ValidatedSale, validate};
use k8s_openapi::api::batch::v1::CronJobSpec;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use tempfile::TempDir;
use testkit::Postgres;

use crate::build::{built, value};
use crate::{images, references, sale};

const DAILY: &str = "database: {backup: {schedule: '@daily', keep: 2}}";
const SEEDED: &str = "2026-11-27T00:00:00.123456Z";

/// The sale with this database.
fn seeded(changes: &str) -> ValidatedSale {
    let mut sale = sale(changes);
    let database = DatabaseStatus { address: String::new(), id: SEEDED.to_owned() };
    sale.status = Some(FlashSaleStatus { database: Some(database), ..FlashSaleStatus::default() });
    validate(&sale, references(), &images()).unwrap()
}

fn parts(sale: &ValidatedSale) -> KubernetesResources<Prepared> {
    build(sale, &Passwords::fixed()).unwrap()
}

fn spec(parts: KubernetesResources<Prepared>) -> CronJobSpec {
    parts.backup.cron_job.unwrap().spec.unwrap()
}

fn pod(parts: KubernetesResources<Prepared>) -> PodSpec {
    spec(parts).job_template.spec.unwrap().template.spec.unwrap()
}

#[test]
fn a_backup_runs_as_the_database_and_with_its_image() {
    let parts = parts(&seeded(DAILY));
    assert_eq!(parts.backup.cron_job.as_ref().unwrap().name_any(), "black-friday-backup");
    let database = parts.database.clone().unwrap().spec.unwrap().template.spec.unwrap();
    let spec = spec(parts);
    assert_eq!((spec.schedule.as_str(), spec.time_zone.as_deref()), ("@daily", Some("Etc/UTC")));
    assert_eq!((spec.suspend, spec.concurrency_policy.as_deref()), (Some(false), Some("Forbid")));
    let job = spec.job_template.spec.unwrap();
    assert!(job.active_deadline_seconds.is_some());

    let pod = job.template.spec.unwrap();
    let (backup, server) = (&pod.containers[0], &database.containers[0]);
    assert_eq!((&pod.security_context, &backup.image), (&database.security_context, &server.image));
    assert_eq!(backup.security_context, server.security_context);
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(backup.resources.as_ref().unwrap().requests.as_ref().unwrap().len(), 2);
    let env = backup.env.as_ref().unwrap();
    assert_eq!(value(env, "PGHOST"), "black-friday-db.shop.svc");
    assert_eq!(
        (value(env, "DATABASE_ID").as_str(), value(env, "PGSSLMODE").as_str()),
        (SEEDED, "")
    );
    let password = env.iter().find(|it| it.name == "PGPASSWORD").unwrap();
    let password = password.value_from.clone().unwrap().secret_key_ref.unwrap();
    assert_eq!((password.name.as_str(), password.key.as_str()), ("black-friday-db", "password"));

    for none in ["", "database: {secretRef: {name: shop-db, key: uri}}"] {
        let backup = built(none, references()).backup;
        assert!(backup.cron_job.is_none() && backup.claim.is_none(), "{none}");
    }
}

#[test]
fn the_volume_of_backups_follows_the_deletion_policy_and_the_name_of_the_data() {
    let claim = parts(&seeded(DAILY)).backup.claim.unwrap();
    assert_eq!(claim.name_any(), "black-friday-backups");
    assert!(claim.owner_references().is_empty(), "it outlives the sale");
    let delete = "database: {deletionPolicy: Delete, backup: {schedule: '@daily'}}";
    assert_eq!(parts(&seeded(delete)).backup.claim.unwrap().owner_references().len(), 1);

    let retained = RetainedData {
        secret: Some(ObjectMeta::default()),
        database_exists: true,
        ..RetainedData::default()
    };
    let adopting = "database: {adopt: autumn, backup: {schedule: '@daily'}}";
    let backup = built(adopting, References { retained, ..references() }).backup;
    let claim = backup.claim.as_ref().unwrap();
    assert_eq!(claim.name_any(), "autumn-backups");
    assert_eq!(claim.labels()["app.kubernetes.io/instance"], "autumn", "another sale can adopt it");
    assert_eq!(backup.cron_job.as_ref().unwrap().name_any(), "black-friday-backup");
}

#[test]
fn nothing_is_backed_up_before_the_seed_in_hibernation_and_on_demand() {
    let suspended = |sale: &ValidatedSale| spec(parts(sale)).suspend.unwrap();
    let mut sale = seeded(DAILY);
    assert!(!suspended(&sale));
    sale.hibernates = true;
    assert!(suspended(&sale));
    assert!(suspended(&seeded("database: {backup: {schedule: '@daily', suspend: true}}")));
    assert!(spec(built(DAILY, references())).suspend.unwrap(), "no database is known yet");
}

#[test]
fn a_backup_is_placed_as_the_database_without_its_containers_and_verifies_tls() {
    let pod = pod(parts(&seeded(
        "
stores: {tls: {mode: Managed}}
database:
  backup: {schedule: '@daily'}
  podTemplate:
    nodeSelector: {pool: sales}
    env: [{name: A, value: a}]
    volumes: [{name: logs, emptyDir: {}}]
    volumeMounts: [{name: logs, mountPath: /logs}]
    containers: [{name: proxy, image: 'proxy:1'}]
",
    )));
    assert_eq!(pod.node_selector.unwrap()["pool"], "sales");
    assert_eq!(pod.containers.len(), 1, "a sidecar would not end");
    let env = pod.containers[0].env.as_ref().unwrap();
    assert!(env.iter().all(|it| it.name != "A"));
    assert_eq!(value(env, "PGSSLMODE"), "verify-full");
    assert_eq!(value(env, "PGSSLROOTCERT"), "/etc/flashsale-stores/ca.crt");
    let names = pod.volumes.unwrap().into_iter().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names, ["backups", "stores-tls"]);
    let mounts = pod.containers[0].volume_mounts.iter().flatten();
    assert_eq!(mounts.map(|it| &it.name).collect::<Vec<_>>(), ["backups", "stores-tls"]);
}

/// A server, a database of it, and the volume of its backups.
struct Stage {
    postgres: Arc<Postgres>,
    database: String,
    volume: TempDir,
}

fn name(url: &str) -> String {
    url.rsplit_once('/').unwrap().1.to_owned()
}

impl Stage {
    fn new() -> Self {
        let postgres = Postgres::shared().unwrap();
        let database = name(&postgres.new_database().unwrap());
        Self { postgres, database, volume: tempfile::tempdir().unwrap() }
    }

    /// Runs the built script after `first` for the database with this id.
    fn back_up(&self, first: &str, id: &str) -> Output {
        let backup = pod(parts(&seeded(DAILY))).containers.remove(0);
        let env = backup.env.unwrap();
        let script = format!("{first}\n{}", backup.command.unwrap()[2]);
        let folder = self.volume.path().display().to_string();
        let address = self.postgres.address();
        let (host, port) = address.split_once(':').unwrap();
        let programs = self.postgres.programs().display();
        Command::new("sh")
            .args(["-c", &script.replace("/backups", &folder)])
            .envs(["SALE", "KEEP"].map(|it| (it, value(&env, it))))
            .envs([("PGHOST", host), ("PGPORT", port), ("PGUSER", "postgres")])
            .envs([("PGDATABASE", self.database.as_str()), ("DATABASE_ID", id)])
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
            .output()
            .unwrap()
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.volume.path()).unwrap();
        let mut names: Vec<String> =
            files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn restored(&self, dump: &Path) -> String {
        let copy = self.postgres.new_database().unwrap();
        let restore = Command::new(self.postgres.programs().join("pg_restore"))
            .args(["--exit-on-error", "--dbname", &copy])
            .arg(dump)
            .status()
            .unwrap();
        assert!(restore.success());
        self.postgres.query(&name(&copy), "SELECT count(*) FROM orders").unwrap()
    }
}

#[test]
fn only_a_complete_dump_of_the_seeded_database_replaces_an_earlier_one() {
    let stage = Stage::new();
    let tables = format!(
        "CREATE TABLE _sqlx_migrations (version BIGINT, installed_on TIMESTAMPTZ); \
         INSERT INTO _sqlx_migrations VALUES (2, now()), (1, '{SEEDED}'); \
         CREATE TABLE orders AS SELECT generate_series(1, 3) AS id"
    );
    stage.postgres.query(&stage.database, &tables).unwrap();
    let [first, second] =
        ["20250101", "20250102"].map(|it| format!("black-friday-{it}T000000Z.dump"));
    let of_others = ["black-friday-by-hand.dump", "notes.txt"].map(str::to_owned);
    let before = [vec![first.clone(), second.clone()], of_others.to_vec()].concat();
    for file in &before {
        std::fs::write(stage.volume.path().join(file), "earlier").unwrap();
    }

    let lost = stage.back_up("", "2026-11-26T00:00:00.000000Z");
    assert!(String::from_utf8_lossy(&lost.stderr).contains("not the seeded database"), "{lost:?}");
    assert_eq!((lost.status.success(), stage.files()), (false, before.clone()));

    let broken = "pg_dump() { echo half >\"${2#--file=}\"; return 1; }";
    let failed = stage.back_up(broken, SEEDED);
    let (parts, rest): (Vec<_>, Vec<_>) =
        stage.files().into_iter().partition(|it| it.ends_with(".dump.part"));
    assert!(!failed.status.success(), "{failed:?}");
    assert_eq!((parts.len(), rest), (1, before));

    let done = stage.back_up("", SEEDED);
    assert!(done.status.success(), "{done:?}");
    let mut files = stage.files();
    files.retain(|it| *it != second && !of_others.contains(it));
    assert_eq!(files.len(), 1, "{first} and the part are gone: {files:?}");
    assert_eq!(stage.files().len(), 4, "the rest stays");
    assert_eq!(stage.restored(&stage.volume.path().join(&files[0])), "3");
}
