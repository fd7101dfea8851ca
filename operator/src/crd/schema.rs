//! The parts of the `FlashSale` schema that Rust types cannot express: CEL rules, patterns, bounds. The cases
//! of `bounds.yaml` test them against the API server, and test the app and the seed against the same bounds.
//!
//! Knows JSON schema only. Every message names the field and the rule, because `kubectl apply` prints it.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A DNS subdomain, as the names of Secrets and storage classes are.
pub(super) const OBJECT_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// `x-kubernetes-validations` from (rule, message, field below this one).
pub(super) fn rules(rules: &[(&str, &str, Option<&str>)]) -> Value {
    let rule = |&(rule, message, field): &(&str, &str, Option<&str>)| {
        let mut entry = json!({ "rule": rule, "message": message });
        if let Some(field) = field {
            entry["fieldPath"] = json!(field);
        }
        entry
    };
    rules.iter().map(rule).collect()
}

pub(super) fn sale_rules() -> Value {
    rules(&[
        (
            "!has(self.startsAt) || !has(self.endsAt) || timestamp(self.endsAt) > timestamp(self.startsAt)",
            "endsAt must be after startsAt",
            Some(".endsAt"),
        ),
        (
            "self.products.all(p, !has(p.lock) || !has(p.lock.leaseTime) || \
             duration(p.lock.leaseTime) > duration(self.lock.nodeTimeout) + duration(self.lock.nodeTimeout))",
            "products[].lock.leaseTime must be more than twice lock.nodeTimeout (50ms unless it is set)",
            Some(".products"),
        ),
        (
            "!has(self.app.prewarm) || has(self.startsAt)",
            "app.prewarm needs startsAt: replicas are started before that time",
            Some(".app.prewarm"),
        ),
        (
            "self.strategy != 'Atomic' || self.redis.nodes == 1",
            "strategy Atomic needs redis.nodes: 1, the one node that decides",
            Some(".strategy"),
        ),
        (
            "!has(self.hibernation) || self.hibernation.mode != 'AfterEnd' || has(self.endsAt)",
            "hibernation.mode AfterEnd needs endsAt; to end the pods at once, use mode: Now",
            Some(".hibernation"),
        ),
        (
            "!has(self.retentionDays) || has(self.endsAt)",
            "retentionDays needs endsAt: the days count from the end of the sale",
            Some(".retentionDays"),
        ),
        (
            "!has(self.retentionDays) || !has(self.hibernation) || self.hibernation.mode != 'AfterEnd'",
            "retentionDays can't be with hibernation.mode AfterEnd: a hibernated sale has no replica that replaces buyers",
            Some(".retentionDays"),
        ),
        (
            "!has(self.hibernation) || self.hibernation.mode != 'AfterEnd' || self.strategy == 'Atomic' || \
             ((!has(self.holdFor) || duration(self.holdFor) <= \
             duration(has(self.hibernation.delay) ? self.hibernation.delay : '1h')) && \
             self.products.all(p, !has(p.holdFor) || duration(p.holdFor) <= \
             duration(has(self.hibernation.delay) ? self.hibernation.delay : '1h')))",
            "hibernation.delay (1h unless it is set) must be at least the longest holdFor: a hibernated sale takes no payment \
             of an order that is still held",
            Some(".hibernation"),
        ),
        (
            "!has(self.database.adopt) || !has(self.database.secretRef) || self.strategy == 'Atomic'",
            "database.adopt is for a sale's own database; an external one is used again under the same sale name",
            Some(".database"),
        ),
        (
            "!has(self.limitBy) || has(self.auth)",
            "limitBy needs auth.secretRef, with the keys of the provider that signs tokens with that claim: accounts of the sale \
             itself have none",
            Some(".limitBy"),
        ),
        (
            "self.strategy == oldSelf.strategy",
            "strategy can't be changed: the stores may not have the same orders yet",
            Some(".strategy"),
        ),
    ])
}

pub(super) fn limit_claim_rules() -> Value {
    rules(&[(
        "!(self in ['aud', 'exp', 'iat', 'iss', 'jti', 'nbf', 'role', 'sub'])",
        "limitBy.claim can't be aud, exp, iat, iss, jti, nbf, role or sub: they say nothing about a person beyond the account",
        None,
    )])
}

pub(super) fn product_list_rules() -> Value {
    rules(&[(
        "oldSelf.all(o, self.exists(p, p.id == o.id))",
        "products can't be removed from a sale: their orders refer to them",
        None,
    )])
}

pub(super) fn product_rules() -> Value {
    rules(&[(
        "self.stock >= oldSelf.stock",
        "stock can only be raised: announced units may already be sold",
        Some(".stock"),
    )])
}

pub(super) fn lock_rules() -> Value {
    rules(&[(
        "duration(self.leaseTime) > duration(self.nodeTimeout) + duration(self.nodeTimeout)",
        "lock.leaseTime (5s unless it is set) must be more than twice lock.nodeTimeout (50ms unless it is set): \
         a vote and the release after a lost vote can each take that long",
        Some(".leaseTime"),
    )])
}

pub(super) fn database_rules() -> Value {
    rules(&[
        (
            "!has(self.secretRef) || (!has(self.image) && !has(self.resources) && !has(self.storage) && !has(self.probes) && \
             !has(self.podTemplate) && !has(self.backup))",
            "database.secretRef names an external database: image, resources, storage, probes, podTemplate and backup must be \
             absent",
            None,
        ),
        (
            "has(self.secretRef) == has(oldSelf.secretRef)",
            "database.secretRef can't be added or removed: the orders stay in the first database",
            None,
        ),
    ])
}

pub(super) fn hibernation_rules() -> Value {
    rules(&[(
        "!has(self.delay) || self.mode == 'AfterEnd'",
        "hibernation.delay needs hibernation.mode: AfterEnd",
        Some(".delay"),
    )])
}

/// A delay such as `30m` or `24h`, at most 30 days.
pub(super) fn hibernation_delay(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "pattern": "^([0-9]+(s|m|h))+$",
        "x-kubernetes-validations": rules(&[(
            "duration(self) <= duration('720h')",
            "delay must be from 0s to 720h, such as 30m or 24h",
            None,
        )]),
    })
}

pub(super) fn app_rules() -> Value {
    rules(&[
        (
            "!has(self.autoscaling) || self.autoscaling.maxReplicas >= self.replicas",
            "app.autoscaling.maxReplicas must be at least app.replicas",
            Some(".autoscaling"),
        ),
        (
            "!has(self.autoscaling) || !has(self.prewarm) || \
             self.autoscaling.maxReplicas >= self.prewarm.replicas",
            "app.autoscaling.maxReplicas must be at least app.prewarm.replicas",
            Some(".autoscaling"),
        ),
        // Beside the drain: 3s before the signal (`preStop`), and 10s for requests under way.
        (
            "!has(self.drainTime) || duration(self.drainTime).getSeconds() + 13 <= \
             (has(self.podTemplate) && has(self.podTemplate.terminationGracePeriodSeconds) ? \
             self.podTemplate.terminationGracePeriodSeconds : 30)",
            "app.drainTime must be at least 13s shorter than app.podTemplate.terminationGracePeriodSeconds (30 unless it \
             is set)",
            Some(".drainTime"),
        ),
    ])
}

/// A duration such as `2s` or `500ms`: at least 1ms, which is the app's minimum, and at most `max`.
fn bounded_duration(field: &str, max: &str) -> Schema {
    duration_between(field, "1ms", max)
}

fn duration_between(field: &str, min: &str, max: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        // Whole nanoseconds: Go and Rust round what is finer in different ways.
        "pattern": r"^([0-9]+(\.[0-9]{1,6})?ms|[0-9]+(\.[0-9]{1,9})?(s|m))+$",
        "x-kubernetes-validations": rules(&[(
            &format!("duration(self) >= duration('{min}') && duration(self) <= duration('{max}')"),
            &format!("{field} must be from {min} to {max}, such as 2s or 500ms"),
            None,
        )]),
    })
}

pub(super) fn wait_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("waitTimeout", "60s")
}

pub(super) fn lease_time(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("leaseTime", "60s")
}

pub(super) fn node_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("nodeTimeout", "5s")
}

pub(super) fn compare_every(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("compareEvery", "60m")
}

pub(super) fn load_every(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("loadEvery", "60m")
}

pub(super) fn event_keep_alive(_: &mut SchemaGenerator) -> Schema {
    duration_between("eventKeepAlive", "1s", "60m")
}

pub(super) fn idle_timeout(_: &mut SchemaGenerator) -> Schema {
    duration_between("idleTimeout", "1s", "60m")
}

/// Whole seconds, so that a rule can add them to the seconds of a grace period.
pub(super) fn drain_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "pattern": r"^([0-9]+(s|m))+$",
        "x-kubernetes-validations": rules(&[(
            "duration(self) <= duration('60s')",
            "drainTime must be from 0s to 60s, such as 10s",
            None,
        )]),
    })
}

/// A time of `app.prewarm`, such as `10m`. Pods take seconds to start, and idle ones cost money.
fn prewarm_time(field: &str, min: &str) -> Schema {
    up_to_a_day(&format!("app.prewarm.{field}"), min)
}

/// Whole seconds, such as `10m`: at least `min`.
fn up_to_a_day(field: &str, min: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "pattern": r"^([0-9]+(s|m|h))+$",
        "x-kubernetes-validations": rules(&[(
            &format!("duration(self) >= duration('{min}') && duration(self) <= duration('24h')"),
            &format!("{field} must be from {min} to 24h, such as 10m"),
            None,
        )]),
    })
}

pub(super) fn hold_for(_: &mut SchemaGenerator) -> Schema {
    up_to_a_day("holdFor", "5s")
}

pub(super) fn prewarm_before(_: &mut SchemaGenerator) -> Schema {
    prewarm_time("before", "30s")
}

pub(super) fn prewarm_after(_: &mut SchemaGenerator) -> Schema {
    prewarm_time("after", "0s")
}

/// An RFC 3339 time within the range of the operator and the app. Without `format: date-time`, which would hide
/// the text from the rules.
fn timestamp(field: &str) -> Schema {
    const RFC_3339: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
    json_schema!({
        "type": "string",
        "maxLength": 35,
        "pattern": RFC_3339,
        "x-kubernetes-validations": rules(&[
            (
                &format!("self.matches(r'{RFC_3339}')"),
                &format!(
                    "{field} must be an RFC 3339 time such as 2026-11-28T00:00:00Z, with an offset below 24:00 \
                     and at most 9 fractional digits"
                ),
                None,
            ),
            (
                // CEL itself has no time before the year 1.
                "timestamp(self) <= timestamp('9999-12-30T22:00:00Z')",
                &format!(
                    "{field} must be from 0001-01-01T00:00:00Z to 9999-12-30T22:00:00Z; leave it out for \
                     no limit"
                ),
                None,
            ),
        ]),
    })
}

pub(super) fn starts_at(_: &mut SchemaGenerator) -> Schema {
    timestamp("startsAt")
}

pub(super) fn ends_at(_: &mut SchemaGenerator) -> Schema {
    timestamp("endsAt")
}

/// A product name: one line, with at least one visible character.
pub(super) fn product_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "x-kubernetes-validations": rules(&[(
            r"self.matches(r'^[^\p{Cc}]*[^\p{Cc}\p{Z}][^\p{Cc}]*$')",
            "name must have 1 to 128 characters, at least one of them visible, and no control characters \
             such as tabs and line ends",
            None,
        )]),
    })
}

/// All quantities that Kubernetes accepts, except zero.
const QUANTITY: &str = r"^\+?(0*[1-9][0-9]*(\.[0-9]*)?|0*\.0*[1-9][0-9]*)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$";

/// CPU or memory. Kubernetes accepts fractional numbers (`cpu: 0.5`), which `int-or-string` does not, so
/// the schema has no type and a rule per type. CEL rules cannot read a value without a type.
pub(super) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-preserve-unknown-fields": true,
        "pattern": QUANTITY,
        "maxLength": 32,
        "minimum": 0,
        "exclusiveMinimum": true,
        // Excludes the other types.
        "not": { "enum": [true, false] },
        "minItems": 1,
        "maxItems": 0,
        "minProperties": 1,
        "maxProperties": 0,
    })
}

/// Size of a volume. It has a type, because rules compare it with its previous value.
pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": QUANTITY,
        "maxLength": 32,
        "minimum": 1,
    })
}

/// `metav1.Condition` without the long descriptions of the Rust type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        // The API server estimates the cost of rules from these bounds.
        "maxItems": 32,
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string" },
                "message": { "type": "string" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64" },
            },
        },
    })
}
