//! Warnings about a sale that is accepted, but risky. Each names its field and the remedy. Takes no client and no clock.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::hibernation;
use super::validate::ValidatedSale;
use crate::crd::{App, Product, SignUp, Strategy};

/// A shorter lease can end before the database has committed. A commit takes milliseconds, but a slow disk or a
/// checkpoint takes hundreds of them.
const SHORT_LEASE: Duration = Duration::from_secs(1);
/// How long the app holds the units of an unpaid order, unless `holdFor` is set.
const HOLD: Duration = Duration::from_mins(10);
/// Values of `sslmode` with which a connection without TLS fails.
const TLS_MODES: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// The warnings about `sale`, in the order of its fields.
#[must_use]
pub fn warnings(sale: &ValidatedSale) -> Vec<String> {
    let checks = [
        short_leases(sale),
        short_delay(sale),
        own_accounts(sale),
        single_node(sale),
        single_replica(&sale.spec.app),
        unknown_utilization(&sale.spec.app),
        unknown_utilization_of_others(&sale.spec.app),
        plain_database(sale),
    ];
    checks.into_iter().flatten().collect()
}

fn short_leases(sale: &ValidatedSale) -> Option<String> {
    if sale.spec.strategy == Strategy::Atomic {
        // The lock serializes repairs there, no purchases.
        return None;
    }
    let is_short = |lease: kube::core::Duration| Duration::from(lease) < SHORT_LEASE;
    let of_sale = is_short(sale.spec.lock.lease_time).then(|| "lock.leaseTime".to_owned());
    let products = sale.spec.products.iter().filter_map(|product| {
        let lease = product.lock.as_ref()?.lease_time?;
        is_short(lease).then(|| format!("products[id={}].lock.leaseTime", product.id))
    });
    let fields: Vec<String> = of_sale.into_iter().chain(products).collect();
    (!fields.is_empty()).then(|| {
        format!(
            "{}: below 1s, a slow commit of the database outlasts the lease, and its buyers get \
             database_unavailable",
            fields.join(", ")
        )
    })
}

/// A hold of the app's default that lasts longer than the pods. The definition itself refuses a declared one.
fn short_delay(sale: &ValidatedSale) -> Option<String> {
    let spec = &sale.spec;
    if spec.strategy == Strategy::Atomic || hibernation::due_at(spec).is_none() {
        return None;
    }
    let of_product = |product: &Product| product.hold_for.or(spec.hold_for);
    let default = spec.products.iter().any(|product| of_product(product).is_none());
    (default && hibernation::delay(spec) < HOLD).then(|| {
        "hibernation.delay: below holdFor (10m unless it is set), pods of an earlier version, which does not report its \
         holds, end while unpaid orders are held, and nobody can pay them"
            .to_owned()
    })
}

fn own_accounts(sale: &ValidatedSale) -> Option<String> {
    let claim = &sale.spec.limit_by.as_ref()?.claim;
    (sale.spec.app.sign_up != Some(SignUp::Closed)).then(|| {
        format!(
            "limitBy: accounts that buyers sign up for here have no claim {claim}, so they buy no product with \
             maxPerBuyer; set app.signUp: Closed"
        )
    })
}

fn single_node(sale: &ValidatedSale) -> Option<String> {
    // `Atomic` has one node by design.
    let risky = sale.spec.redis.nodes == 1 && sale.spec.strategy == Strategy::Locked;
    risky.then(|| {
        "redis.nodes: 1: no purchase is possible while the node is away; with 5, any two can fail"
            .to_owned()
    })
}

fn single_replica(app: &App) -> Option<String> {
    (app.replicas == 1).then(|| {
        "app.replicas: 1: no purchase is possible while the replica restarts; use 2 or more"
            .to_owned()
    })
}

fn unknown_utilization(app: &App) -> Option<String> {
    let amounts = app.resources.iter().flat_map(|it| [&it.requests, &it.limits]);
    let declares_cpu = amounts.flatten().any(|amounts| amounts.cpu.is_some());
    (app.autoscaling.is_some() && !declares_cpu).then(|| {
        "app.autoscaling: utilization is relative to the operator's request of 100m; set \
         app.resources.requests.cpu to what a replica needs"
            .to_owned()
    })
}

/// Further containers without a CPU request: Kubernetes computes no utilization of their pods.
fn unknown_utilization_of_others(app: &App) -> Option<String> {
    app.autoscaling.as_ref()?;
    let template = app.pod_template.as_ref()?;
    let requests_cpu = |container: &Container| {
        let resources = container.resources.as_ref();
        let amounts = resources.map(|it| [&it.requests, &it.limits]).into_iter().flatten();
        amounts.flatten().any(|amounts| amounts.contains_key("cpu"))
    };
    let sidecars = template.init_containers.iter().filter(|it| it.restart_policy.is_some());
    let mut others = template.containers.iter().chain(sidecars);
    let unknown = others.find(|container| !requests_cpu(container))?;
    Some(format!(
        "app.podTemplate: container {} has no CPU request, so app.autoscaling has no utilization to act on; set its \
         resources.requests.cpu",
        unknown.name
    ))
}

/// An external database to which neither the URI nor the app's environment requires TLS.
fn plain_database(sale: &ValidatedSale) -> Option<String> {
    let key = &sale.spec.database.secret_ref.as_ref()?.key;
    let uri = sale.database.data.as_ref()?.get(key)?;
    let uri = String::from_utf8_lossy(&uri.0);
    let parameters = uri.trim_end().split_once('?').map_or("", |(_, parameters)| parameters);
    let mode = parameters.split('&').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        ["sslmode", "ssl-mode"].contains(&name).then_some(value)
    });
    let mode = mode.or_else(|| ssl_mode(&sale.spec.app));
    (!mode.is_some_and(|mode| TLS_MODES.contains(&mode))).then(|| {
        format!(
            "database.secretRef: the URI in Secret {}, key {key}, does not require TLS; add \
             sslmode=verify-full, or sslmode=require; if the URI cannot be changed, set PGSSLMODE in \
             app.podTemplate.env and seed.podTemplate.env",
            sale.database.secret
        )
    })
}

/// The default of `sslmode` that the app's pod template sets, for a URI without it.
fn ssl_mode(app: &App) -> Option<&str> {
    let env = &app.pod_template.as_ref()?.env;
    env.iter().find(|variable| variable.name == "PGSSLMODE")?.value.as_deref()
}
