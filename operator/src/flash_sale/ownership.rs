//! Ownership of the objects that have the names of a sale's parts. Takes no client and no clock.
//!
//! The sale owns a part if the part's controller reference has the sale's uid. Any other object with that name is
//! neither changed nor deleted with the sale.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::child::{Child, version};
use super::names;
use super::not_ready::NotReady;
use super::retained::adopted_name;
use crate::crd::FlashSale;

/// Reason of the condition when another object has the name of a part.
pub const NAME_TAKEN: &str = "NameTaken";
/// Foreign objects are not watched, so a taken name is polled.
const TAKEN_RETRY: Duration = Duration::from_secs(10);
/// The usual duration of a garbage collection.
const LEFTOVER_RETRY: Duration = Duration::from_secs(1);

/// The owner of an object from the point of view of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The sale itself.
    ThisSale,
    /// A deleted sale with the same name; the garbage collector has not removed the object yet.
    EarlierSale,
    /// Kind and name of another controller; absent: the object has no controller.
    Other(Option<String>),
}

impl Owner {
    /// The owner of an object with this metadata.
    #[must_use]
    pub fn of(sale: &FlashSale, metadata: &ObjectMeta) -> Self {
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) else {
            return Self::Other(None);
        };
        if Some(&controller.uid) == sale.metadata.uid.as_ref() {
            Self::ThisSale
        } else if is_sale(controller) && controller.name == sale.name_any() {
            Self::EarlierSale
        } else {
            Self::Other(Some(format!("{} {}", controller.kind, controller.name)))
        }
    }
}

fn is_sale(owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _version)| group);
    owner.kind == FlashSale::kind(&()) && group == Some(&*FlashSale::group(&()))
}

/// An existing object with the name of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingPart {
    kind: Cow<'static, str>,
    name: String,
    uid: String,
    version: String,
    owner: Owner,
}

impl ExistingPart {
    /// The object with its owner.
    pub fn new<K: Resource<DynamicType = ()>>(sale: &FlashSale, object: &K) -> Self {
        Self {
            kind: K::kind(&()),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version().unwrap_or_default(),
            owner: Owner::of(sale, object.meta()),
        }
    }

    /// The same, with a version that ignores a status which the operator does not read.
    pub fn of_child<K: Child>(sale: &FlashSale, object: &K) -> Self {
        Self { version: version(object).unwrap_or_default(), ..Self::new(sale, object) }
    }

    /// The volume claim of the sale's backups. One that is being deleted does not stop the sale, even if a pod still uses it.
    #[must_use]
    pub fn backups(sale: &FlashSale, metadata: &ObjectMeta) -> Self {
        Self::volume(sale, &ObjectMeta { deletion_timestamp: None, ..metadata.clone() })
    }

    /// A volume claim that a `StatefulSet` of the sale would adopt, or that of its backups. The owner of the former is the
    /// `StatefulSet`, which may have been deleted with `--cascade=orphan`, so ownership follows the labels.
    #[must_use]
    pub fn volume(sale: &FlashSale, metadata: &ObjectMeta) -> Self {
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let is_ours = label("app.kubernetes.io/managed-by")
            .is_some_and(|it| it == names::MANAGED_BY)
            && label("app.kubernetes.io/instance").is_some_and(|instance| {
                Some(instance) == sale.metadata.name.as_ref() || *instance == adopted_name(sale)
            });
        // Without its `StatefulSet`, an owned claim is about to be deleted.
        let is_owned = metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        let owner = match metadata.deletion_timestamp {
            _ if !is_ours => Owner::Other(None),
            None if !is_owned || Owner::of(sale, metadata) == Owner::ThisSale => Owner::ThisSale,
            _ => Owner::EarlierSale,
        };
        Self {
            kind: PersistentVolumeClaim::kind(&()),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            owner,
        }
    }

    /// The object's uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The object's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The owner of the object.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// Existing objects with the names of a sale's parts.
#[derive(Clone, Debug, Default)]
pub struct ExistingParts(pub Vec<ExistingPart>);

impl ExistingParts {
    /// A part; absent: the object does not exist.
    #[must_use]
    pub fn find<K: Resource<DynamicType = ()>>(&self, name: &str) -> Option<&ExistingPart> {
        self.0.iter().find(|found| found.kind == K::kind(&()) && found.name == name)
    }

    /// The uid of a part; absent: the object does not exist.
    #[must_use]
    pub fn uid<K: Resource<DynamicType = ()>>(&self, name: &str) -> Option<&str> {
        self.find::<K>(name).map(ExistingPart::uid)
    }

    /// The objects of one kind.
    pub fn of_kind<K: Resource<DynamicType = ()>>(&self) -> impl Iterator<Item = &ExistingPart> {
        self.0.iter().filter(|found| found.kind == K::kind(&()))
    }

    /// Checks that the sale owns every object.
    ///
    /// # Errors
    /// [`NotReady`] when an object belongs to another owner, or to an earlier sale with this name.
    pub fn check(&self) -> Result<(), NotReady> {
        let others = self.0.iter().filter(|found| matches!(found.owner, Owner::Other(_)));
        let others: Vec<&ExistingPart> = others.collect();
        if !others.is_empty() {
            return Err(name_taken(&others));
        }
        // The new sale must not reuse its volumes and passwords.
        match self.0.iter().find(|found| found.owner == Owner::EarlierSale) {
            Some(ExistingPart { kind, name, .. }) => Err(NotReady {
                reason: "EarlierSaleLeaving",
                message: format!(
                    "{kind} {name} of an earlier sale with this name is still being deleted"
                ),
                requeue_after: Some(LEFTOVER_RETRY),
            }),
            None => Ok(()),
        }
    }
}

/// The condition of a sale whose part names are taken by other objects.
#[must_use]
pub fn name_taken(others: &[&ExistingPart]) -> NotReady {
    let name = |found: &&ExistingPart| {
        let owner = match &found.owner {
            Owner::Other(Some(controller)) => controller.as_str(),
            _ => "none",
        };
        format!("{} {} (owner: {owner})", found.kind, found.name)
    };
    let objects = others.iter().map(name).collect::<Vec<_>>().join(", ");
    NotReady {
        reason: NAME_TAKEN,
        message: format!(
            "another object has the name of a part of this sale: {objects}; it is left unchanged. \
             Delete it, or rename the sale"
        ),
        requeue_after: Some(TAKEN_RETRY),
    }
}
