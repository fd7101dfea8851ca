//! The images of Redis nodes and of the sale's own database are the sale's, not the operator's: a sale keeps what it runs,
//! whatever the operator's defaults are later. Takes no client and no clock.
//!
//! The status has them. A status of an earlier operator does not; then the existing `StatefulSet` counts. Retained data
//! have no `StatefulSet`: the Secret of the database has its image and version.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::{
    DATABASE_CONTAINER, DATABASE_IMAGE, DATABASE_VERSION, END_OF_LOG, REDIS_CONTAINER,
};
use crate::crd::FlashSale;

/// What a sale keeps. Absent fields: the parts were never ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedImages {
    /// Image of the Redis nodes.
    pub redis: Option<String>,
    /// Image of the sale's own database.
    pub database: Option<String>,
    /// Major version of `PostgreSQL` on the volume of the sale's own database.
    pub database_version: Option<i32>,
}

impl PinnedImages {
    /// What `sale` keeps, given its existing `StatefulSets` and the metadata of its database's Secret.
    #[must_use]
    pub fn of(sale: &FlashSale, sets: &[StatefulSet], secret: Option<&ObjectMeta>) -> Self {
        let status = sale.status.as_ref().and_then(|status| status.images.clone());
        let status = status.unwrap_or_default();
        let was_seeded = sale.status.as_ref().is_some_and(|status| status.database.is_some());
        let running = |name| {
            let found = sets.iter().find_map(|set| Some((set, container(set, name)?)));
            let found = found.filter(|(set, _)| was_seeded || is_ready(set));
            found.and_then(|(_, container)| container.image.clone())
        };
        let annotation = |key| secret.and_then(|secret| secret.annotations.as_ref()?.get(key));
        let database = status
            .database
            .or_else(|| running(DATABASE_CONTAINER))
            .or_else(|| annotation(DATABASE_IMAGE).cloned());
        let database_version = status
            .database_version
            .or_else(|| annotation(DATABASE_VERSION)?.parse().ok())
            .or_else(|| database.as_deref().and_then(major_version));
        let redis = status.redis.or_else(|| running(REDIS_CONTAINER));
        Self { redis, database, database_version }
    }

    /// Why a declared image of the database is not used. An image whose name does not state its version is used: the
    /// server itself refuses the data of another version, and changes nothing.
    #[must_use]
    pub fn refusal_of(&self, declared: Option<&str>) -> Option<String> {
        let (declared, running) = (declared?, self.database.as_ref()?);
        let (version, wanted) = (self.database_version?, major_version(declared)?);
        (wanted != version).then(|| {
            format!(
                "spec.database.image: {declared} is PostgreSQL {wanted}, but the database's volume has the data of \
                 PostgreSQL {version}, which no other major version can read; the database keeps {running}. Set an \
                 image of PostgreSQL {version}, or move the orders to a new database (docs/VERSIONS.md)"
            )
        })
    }
}

/// The container of this name in the pods of a `StatefulSet`.
#[must_use]
pub fn container<'a>(set: &'a StatefulSet, name: &str) -> Option<&'a Container> {
    let pods = set.spec.as_ref()?.template.spec.as_ref()?;
    pods.containers.iter().find(|container| container.name == name)
}

fn is_ready(set: &StatefulSet) -> bool {
    let ready = set.status.as_ref().and_then(|status| status.ready_replicas);
    ready.is_some_and(|ready| ready > 0)
}

/// Whether a container's termination message is the end of its log. Pods that an earlier operator made get this when
/// their image changes, because an upgrade of the operator must not restart them.
#[must_use]
pub fn reports_its_end(sets: &[StatefulSet], name: &str, image: &str) -> bool {
    sets.iter().find_map(|set| container(set, name)).is_none_or(|found| {
        found.image.as_deref() != Some(image)
            || found.termination_message_policy.as_deref() == Some(END_OF_LOG)
    })
}

/// The major version of `PostgreSQL` that an image's name states: the tag of an image called `postgres`, `postgresql`
/// or `postgis`, or a part of any tag that begins with `pg`. `None`: it states none.
#[must_use]
pub fn major_version(image: &str) -> Option<i32> {
    let name = image.split('@').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let (name, tag) = name.split_once(':')?;
    let own = matches!(name, "postgres" | "postgresql" | "postgis").then_some(tag);
    let parts = tag.split(['-', '_']).filter_map(|part| part.strip_prefix("pg"));
    let number = |text: &str| {
        let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse().ok().filter(|version| (9..100).contains(version))
    };
    own.into_iter().chain(parts).find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_its_major_version_or_nothing() {
        for (image, version) in [
            ("postgres:18", Some(18)),
            ("postgres:16.4-alpine", Some(16)),
            ("registry.test:5000/shop/postgres:15@sha256:0123", Some(15)),
            ("ghcr.io/company/postgresql:17.2-3", Some(17)),
            ("postgres:18beta1", Some(18)),
            ("postgis/postgis:16-3.4", Some(16)),
            ("pgvector/pgvector:pg17", Some(17)),
            ("timescale/timescaledb:2.17.2-pg16", Some(16)),
            ("postgres", None),
            ("postgres:latest", None),
            ("postgres@sha256:18", None),
            ("registry.test:5000/postgres", None),
            ("company/database:18", None),
            ("company/postgres:2026", None),
            ("company/postgres:3", None),
        ] {
            assert_eq!(major_version(image), version, "{image}");
        }
    }
}
