//! Kubernetes' own types inside the spec, read strictly. The schema in the CRD leaves most of their fields open, so
//! that it stays small. A misspelled field would otherwise be ignored.

use std::ops::Deref;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A `T` in which every declared field has an effect. Others cannot be read, so the sale is `Unreadable` with the name
/// of the field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Strict<T>(T);

impl<T> Deref for Strict<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: DeserializeOwned + Serialize> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let declared = Value::deserialize(deserializer)?;
        let read: T = serde_path_to_error::deserialize(&declared)
            .map_err(|error| D::Error::custom(format!("{}: {}", error.path(), error.inner())))?;
        let known = serde_json::to_value(&read).map_err(D::Error::custom)?;
        match without_effect(&declared, &known) {
            Some((field, why)) => Err(D::Error::custom(format!("{field}: {why}"))),
            None => Ok(Self(read)),
        }
    }
}

/// The first field of `declared` that `known` lacks, with the reason.
fn without_effect(declared: &Value, known: &Value) -> Option<(String, &'static str)> {
    match (declared, known) {
        (Value::Object(declared), known) => declared.iter().find_map(|(name, value)| {
            if value.is_null() {
                return Some((name.clone(), "null has no effect: leave the field out"));
            }
            let Some(known) = known.get(name) else {
                return Some((name.clone(), "unknown field"));
            };
            without_effect(value, known).map(|(below, why)| (format!("{name}.{below}"), why))
        }),
        (Value::Array(declared), known) => declared.iter().enumerate().find_map(|(at, value)| {
            let (below, why) = without_effect(value, known.get(at)?)?;
            Some((format!("[{at}].{below}"), why))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Affinity, PodSecurityContext, Volume};
    use serde_json::json;

    use super::*;

    fn error<T: DeserializeOwned + Serialize + std::fmt::Debug>(value: Value) -> String {
        serde_json::from_value::<Strict<T>>(value).unwrap_err().to_string()
    }

    #[test]
    fn every_declared_field_has_an_effect_or_is_named() {
        let taken = json!({
            "name": "ca",
            "projected": { "sources": [{ "secret": { "name": "ca", "items": [] } }] },
        });
        let volume: Strict<Volume> = serde_json::from_value(taken.clone()).unwrap();
        assert_eq!(serde_json::to_value(&volume).unwrap(), taken);
        let misspelled = json!({ "name": "ca", "projected": { "sources": [{ "secrets": {} }] } });
        assert_eq!(error::<Volume>(misspelled), "projected.sources.[0].secrets: unknown field");
        let number = error::<PodSecurityContext>(json!({ "runAsUser": "root" }));
        assert!(number.starts_with("runAsUser: invalid type: string"), "{number}");
        let null = error::<PodSecurityContext>(json!({ "runAsUser": null }));
        assert_eq!(null, "runAsUser: null has no effect: leave the field out");
        let list = error::<Affinity>(json!([1]));
        assert!(list.contains("invalid type"), "{list}");
    }
}
