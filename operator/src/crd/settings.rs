//! Settings of the app and the seed that pod templates may give, with the values that they take. `app/src/config` has the same
//! bounds; `bounds.yaml` has cases of each, by which both are tested.

use serde_json::{Value, json};

/// A setting that `podTemplate.env` may give.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Environment variable.
    pub name: &'static str,
    values: Values,
}

#[derive(Clone, Copy, Debug)]
enum Values {
    WholeNumber { least: u32, most: u32 },
    Seconds { least: f64, most: f64 },
    Only(&'static str),
}

/// Bounds of all times that have none of their own.
const TIME: Values = Values::Seconds { least: 0.001, most: 3600.0 };

const DATABASE_MAX_CONNECTIONS: Setting = Setting {
    name: "DATABASE_MAX_CONNECTIONS",
    values: Values::WholeNumber { least: 1, most: 10_000 },
};

/// Of the purchase API.
pub(super) const APP: &[Setting] = &[
    DATABASE_MAX_CONNECTIONS,
    Setting { name: "HTTP_HEADER_TIMEOUT_SECONDS", values: TIME },
    Setting { name: "HTTP_BODY_TIMEOUT_SECONDS", values: TIME },
    Setting { name: "OTEL_EXPORTER_OTLP_PROTOCOL", values: Values::Only("http/protobuf") },
];

/// Of the seed Job.
pub(super) const SEED: &[Setting] =
    &[DATABASE_MAX_CONNECTIONS, Setting { name: "SEED_TIMEOUT_SECONDS", values: TIME }];

impl Setting {
    /// Rule of an entry of `podTemplate.env`. An empty value means to the app that there is none, and what the kubelet puts in the
    /// place of `$(NAME)` no rule knows.
    pub(super) fn rule(&self) -> Value {
        let name = self.name;
        // The patterns take nothing that `int` or `double` cannot read: an error of a rule is raised even when nothing changed.
        let (allowed, bounds) = match self.values {
            Values::WholeNumber { least, most } => (
                format!(
                    "self.value.matches('^[0-9]{{1,9}}$') && int(self.value) >= {least} && int(self.value) <= {most}"
                ),
                format!("a whole number from {least} to {most}"),
            ),
            Values::Seconds { least, most } => (
                format!(
                    "self.value.matches('^[0-9]{{1,9}}([.][0-9]{{1,9}})?$') && double(self.value) >= {least:?} && \
                     double(self.value) <= {most:?}"
                ),
                format!("a number of seconds from {least} to {most}, such as 20 or 0.5"),
            ),
            Values::Only(value) => (format!("self.value == '{value}'"), value.to_owned()),
        };
        json!({
            "rule": format!(
                "self.name != '{name}' || !has(self.value) || self.value == '' || self.value.contains('$(') || ({allowed})"
            ),
            "message": format!("{name} must be {bounds}"),
            "fieldPath": ".value",
        })
    }
}
