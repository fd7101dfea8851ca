//! Warnings about sales that are accepted, but risky.

use flashsale_operator::flash_sale::configuration::warnings;
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::validate::validate;

use crate::status::{NOON, after, applied, condition, outcome};
use crate::{data, images, references, sale};

fn of(changes: &str) -> Vec<String> {
    warnings(&validate(&sale(changes), references(), &images()).unwrap())
}

fn with_uri(uri: &str) -> Vec<String> {
    with_uri_and_ssl_mode(uri, "")
}

fn with_uri_and_ssl_mode(uri: &str, mode: &str) -> Vec<String> {
    let mut references = references();
    references.database = Some(data(&[("uri", uri)]));
    let sale = sale(&format!(
        "{{database: {{secretRef: {{name: shop-db, key: uri}}}}, \
         app: {{podTemplate: {{env: [{{name: PGSSLMODE, value: '{mode}'}}]}}}}}}"
    ));
    warnings(&validate(&sale, references, &images()).unwrap())
}

#[test]
fn each_risk_is_named_with_its_field() {
    assert_eq!(of(""), Vec::<String>::new(), "the fixture has none");
    let cases = [
        ("{redis: {nodes: 1}}", "redis.nodes: 1: no purchase is possible while the node is away"),
        ("{app: {replicas: 1}}", "app.replicas: 1: "),
        (
            "{hibernation: {mode: AfterEnd, delay: 599s}}",
            "hibernation.delay: below holdFor (10m unless it is set)",
        ),
        (
            "{auth: {secretRef: {name: keys}}, limitBy: {claim: person_id}}",
            "limitBy: accounts that buyers sign up for here have no claim person_id",
        ),
        ("{lock: {leaseTime: 999ms}}", "lock.leaseTime: below 1s, a slow commit"),
        (
            "{products: [{id: a, stock: 1, lock: {leaseTime: 500ms}}]}",
            "products[id=a].lock.leaseTime: below 1s",
        ),
        (
            "{app: {autoscaling: {maxReplicas: 9, targetCpuPercent: 70}}}",
            "app.autoscaling: utilization is relative to the operator's request of 100m",
        ),
    ];
    for (changes, message) in cases {
        let found = of(changes);
        assert_eq!(found.len(), 1, "{changes}: {found:?}");
        assert!(found[0].starts_with(message), "{changes}: {found:?}");
    }
    let all = of("{redis: {nodes: 1}, app: {replicas: 1}, lock: {leaseTime: 900ms}}");
    assert_eq!(all.len(), 3);
    // One node is what this strategy is made of, and it sells without the lock.
    assert_eq!(of("{strategy: Atomic, redis: {nodes: 1}, lock: {leaseTime: 900ms}}").len(), 0);
    for hibernation in [
        "{hibernation: {mode: AfterEnd}}",
        "{hibernation: {mode: AfterEnd, delay: 10m}}",
        "{holdFor: 5s, hibernation: {mode: AfterEnd, delay: 5s}}",
        "{strategy: Atomic, redis: {nodes: 1}, hibernation: {mode: AfterEnd, delay: 0s}}",
        "{hibernation: {mode: Now}}",
    ] {
        assert_eq!(of(hibernation), Vec::<String>::new(), "{hibernation}");
    }
    let cpu = "{app: {autoscaling: {maxReplicas: 9, targetCpuPercent: 70}, resources: {limits: {cpu: '1'}}}}";
    assert_eq!(of(cpu).len(), 0);
    let claim =
        "{auth: {secretRef: {name: keys}}, limitBy: {claim: person_id}, app: {signUp: Closed}}";
    assert_eq!(of(claim).len(), 0);
}

#[test]
fn an_external_database_without_tls_is_named_and_its_password_is_not() {
    for uri in ["postgres://u:hunter2@db/shop", "postgres://u:hunter2@db/shop?sslmode=prefer\n"] {
        let found = with_uri(uri);
        assert_eq!(found.len(), 1, "{uri}: {found:?}");
        assert!(found[0].starts_with("database.secretRef: the URI in Secret shop-db, key uri,"));
        assert!(!found[0].contains("hunter2"));
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let uri = format!("postgres://u:p@db/shop?application_name=x&sslmode={mode}\n");
        assert_eq!(with_uri(&uri), Vec::<String>::new());
    }
}

/// The Secret of another operator, such as `CloudNativePG`, has a URI that users cannot change.
#[test]
fn the_environment_of_the_app_can_require_tls_where_the_uri_says_nothing() {
    let plain = "postgresql://app:hunter2@orders-rw.shop:5432/app";
    assert_eq!(with_uri_and_ssl_mode(plain, "verify-full"), Vec::<String>::new());
    let found = with_uri_and_ssl_mode(plain, "prefer");
    assert!(found[0].contains("set PGSSLMODE in app.podTemplate.env"), "{found:?}");
    let uri = "postgres://u:p@db/shop?sslmode=disable";
    assert_eq!(with_uri_and_ssl_mode(uri, "verify-full").len(), 1, "the URI is stronger");
}

#[test]
fn the_condition_comes_and_goes_with_the_risks_and_hinders_nothing() {
    let configuration = vec!["redis.nodes: 1: a".to_owned(), "app.replicas: 1: b".to_owned()];
    let risky = Outcome::Applied {
        resources: applied(5, 1, 3),
        seed: Seed::Done,
        observed: Box::new(Observed { configuration, ..Observed::default() }),
        refusals: Vec::new(),
    };
    let status = after(None, &risky, NOON);
    let (holds, reason, message) = condition(&status, "ConfigurationWarning");
    assert_eq!((holds.as_str(), reason.as_str()), ("True", "Risky"));
    assert_eq!(message, "redis.nodes: 1: a; app.replicas: 1: b");
    assert_eq!(condition(&status, "Ready").0, "True");
    let status = after(Some(status), &outcome(5, 1, 3, Seed::Done), NOON);
    assert!(status.conditions.iter().all(|it| it.type_ != "ConfigurationWarning"));
}
