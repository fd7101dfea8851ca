//! A sale keeps the images that it runs. Another major version of its database is refused.

use flashsale_operator::config::DefaultImages;
use flashsale_operator::crd::{DatabaseStatus, FlashSale, FlashSaleStatus, ImagesStatus};
use flashsale_operator::flash_sale::app_client::{DatabaseReport, SaleReport};
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::names::{DATABASE_IMAGE, DATABASE_VERSION};
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::retained::RetainedData;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::status::{NOON, after, outcome};
use crate::{images, references, sale};

/// A sale and its StatefulSets, as one reconcile left them for the next.
struct Running {
    status: Option<FlashSaleStatus>,
    sets: Vec<StatefulSet>,
}

impl Running {
    /// What an operator without `status.images` and without termination messages left.
    fn of_an_earlier_operator(pods_ready: bool) -> Self {
        let built = built(&sale(""), references(), &defaults("redis:7.2", "postgres:16"));
        let mut sets = vec![built.redis, built.database.unwrap()];
        for set in &mut sets {
            let ready = if pods_ready { set.spec.as_ref().unwrap().replicas } else { Some(0) };
            let template = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
            // What the API server makes of an absent policy.
            template.containers[0].termination_message_policy = Some("File".to_owned());
            set.status = serde_json::from_value(json!({
                "replicas": ready, "updatedReplicas": ready, "readyReplicas": ready,
            }))
            .unwrap();
        }
        Self { status: None, sets }
    }

    fn with_images(redis: &str, database: &str, version: Option<i32>) -> Self {
        let images = ImagesStatus {
            redis: Some(redis.to_owned()),
            database: Some(database.to_owned()),
            database_version: version,
        };
        let status = FlashSaleStatus { images: Some(images), ..FlashSaleStatus::default() };
        Self { status: Some(status), sets: Vec::new() }
    }

    fn next(&self, changes: &str, defaults: &DefaultImages) -> KubernetesResources<Prepared> {
        let sale = FlashSale { status: self.status.clone(), ..sale(changes) };
        built(&sale, self.references(), defaults)
    }

    fn references(&self) -> References {
        References { stateful_sets: self.sets.clone(), ..references() }
    }

    fn refusals(&self, changes: &str) -> Vec<String> {
        let sale = FlashSale { status: self.status.clone(), ..sale(changes) };
        validate(&sale, self.references(), &images()).unwrap().refusals
    }
}

fn built(
    sale: &FlashSale,
    references: References,
    defaults: &DefaultImages,
) -> KubernetesResources<Prepared> {
    build(&validate(sale, references, defaults).unwrap(), &Passwords::fixed()).unwrap()
}

fn defaults(redis: &str, postgres: &str) -> DefaultImages {
    let image = |name: &str| Some(name.to_owned());
    DefaultImages { redis: image(redis), postgres: image(postgres), ..images() }
}

fn image(set: &StatefulSet) -> &str {
    let template = set.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    template.containers[0].image.as_deref().unwrap()
}

fn images_of(resources: &KubernetesResources<Prepared>) -> (&str, &str) {
    (image(&resources.redis), image(resources.database.as_ref().unwrap()))
}

fn policy(set: &StatefulSet) -> Option<&str> {
    let template = set.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    template.containers[0].termination_message_policy.as_deref()
}

const LATER: (&str, &str) = ("valkey/valkey:9.1", "postgres:18");

#[test]
fn other_defaults_of_a_later_operator_restart_nothing() {
    let running = Running::of_an_earlier_operator(true);
    let next = running.next("", &defaults(LATER.0, LATER.1));
    assert_eq!(images_of(&next), ("redis:7.2", "postgres:16"));
    for (before, after) in running.sets.iter().zip([&next.redis, next.database.as_ref().unwrap()]) {
        let mut before = before.spec.clone().unwrap().template;
        before.spec.as_mut().unwrap().containers[0].termination_message_policy = None;
        assert_eq!(before, after.spec.clone().unwrap().template);
    }
}

#[test]
fn a_sale_that_never_ran_follows_the_defaults() {
    let waiting = Running::of_an_earlier_operator(false);
    let later = defaults(LATER.0, LATER.1);
    assert_eq!(images_of(&waiting.next("", &later)), LATER);
    // Between two restarts of its pods it did run: the stock is seeded.
    let database = DatabaseStatus { address: "a".to_owned(), id: "1".to_owned() };
    let seeded = FlashSaleStatus { database: Some(database), ..FlashSaleStatus::default() };
    let away = Running { status: Some(seeded), ..waiting };
    assert_eq!(images_of(&away.next("", &later)), ("redis:7.2", "postgres:16"));
}

#[test]
fn the_spec_decides_and_without_it_the_last_image_that_was_ready() {
    let kept = Running::with_images("redis:8.0", "postgres:17.1", Some(17));
    let later = defaults(LATER.0, LATER.1);
    let declared = "{redis: {image: mine}, database: {image: 'postgres:17.2'}}";
    assert_eq!(images_of(&kept.next(declared, &later)), ("mine", "postgres:17.2"));
    // Not the image of the StatefulSet, which may be a mistake that was just taken back.
    let typo = Running { sets: Running::of_an_earlier_operator(true).sets, ..kept };
    assert_eq!(images_of(&typo.next("", &later)), ("redis:8.0", "postgres:17.1"));
}

#[test]
fn another_major_version_of_the_database_is_refused_and_nothing_else() {
    let kept = Running::with_images("redis:8.0", "postgres:16", Some(16));
    let declared = "{redis: {image: 'redis:8.2'}, database: {image: 'registry.test/postgres:18'}}";
    assert_eq!(images_of(&kept.next(declared, &images())), ("redis:8.2", "postgres:16"));
    let refusals = kept.refusals(declared);
    assert_eq!(refusals.len(), 1);
    for part in
        ["spec.database.image: registry.test/postgres:18", "PostgreSQL 16", "keeps postgres:16"]
    {
        assert!(refusals[0].contains(part), "{}", refusals[0]);
    }
    assert!(kept.refusals("database: {image: 'postgres:16.9'}").is_empty());
    assert!(kept.refusals("database: {image: 'postgres:15'}").len() == 1, "nor an older one");
    // What the server reported counts, whatever the image is called.
    let unnamed = Running::with_images("redis:8.0", "company/database", Some(16));
    assert_eq!(unnamed.refusals("database: {image: 'postgres:18'}").len(), 1);
    // The server itself refuses what the name does not tell.
    assert!(kept.refusals("database: {image: company/database}").is_empty());
    assert!(
        Running::of_an_earlier_operator(false)
            .refusals("database: {image: 'postgres:18'}")
            .is_empty()
    );
    assert_eq!(
        Running::of_an_earlier_operator(true).refusals("database: {image: 'postgres:18'}").len(),
        1
    );
}

#[test]
fn retained_orders_keep_their_version() {
    let annotations = [(DATABASE_IMAGE, "postgres:16"), (DATABASE_VERSION, "16")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let secret = ObjectMeta { annotations: Some(annotations.into()), ..ObjectMeta::default() };
    let retained = RetainedData { secret: Some(secret), ..RetainedData::default() };
    let references = References { retained, ..references() };
    let later = defaults(LATER.0, LATER.1);
    let adopting = built(&sale(""), references.clone(), &later);
    assert_eq!(images_of(&adopting), (LATER.0, "postgres:16"));
    let newer = validate(&sale("database: {image: 'postgres:18'}"), references, &later).unwrap();
    assert_eq!(newer.refusals.len(), 1);
    assert_eq!(newer.images.postgres.as_deref(), Some("postgres:16"));
}

#[test]
fn the_end_of_the_log_is_reported_from_the_next_image_on() {
    let running = Running::of_an_earlier_operator(true);
    let same = running.next("", &images());
    assert_eq!((policy(&same.redis), policy(same.database.as_ref().unwrap())), (None, None));
    let changed = running.next("{redis: {image: other}, database: {image: other}}", &images());
    let reported = Some("FallbackToLogsOnError");
    let policies = (policy(&changed.redis), policy(changed.database.as_ref().unwrap()));
    assert_eq!(policies, (reported, reported));
    let new = built(&sale(""), references(), &images());
    assert_eq!((policy(&new.redis), policy(new.database.as_ref().unwrap())), (reported, reported));
}

#[test]
fn an_image_is_kept_once_all_pods_are_ready_with_it() {
    let images = |outcome: &Outcome, previous: Option<FlashSaleStatus>| {
        after(previous, outcome, NOON).images
    };
    assert_eq!(images(&outcome(4, 0, 0, Seed::Running), None), None);
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let kept = ready.images.clone().unwrap();
    assert_eq!(kept.redis.as_deref(), Some("redis:1"));
    assert_eq!((kept.database.as_deref(), kept.database_version), (Some("postgres:1"), None));

    let mut reported = outcome(5, 1, 3, Seed::Done);
    if let Outcome::Applied { observed, resources, .. } = &mut reported {
        let database = DatabaseReport { id: Some("1".to_owned()), version: Some(18) };
        observed.report = Some(SaleReport { database: Some(database), ..SaleReport::default() });
        let pods = resources.redis.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        pods.containers[0].image = Some("redis:2".to_owned());
        // One of them is not updated yet.
        resources.redis.status.as_mut().unwrap().updated_replicas = Some(4);
    }
    let rolling = images(&reported, Some(ready)).unwrap();
    assert_eq!((rolling.redis.as_deref(), rolling.database_version), (Some("redis:1"), Some(18)));
}
