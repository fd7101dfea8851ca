//! Whose the objects are that have the names of a sale's parts. Takes no client and no clock.
//!
//! A part is the sale's if the sale controls it, by uid. Any other object of that name was made by
//! somebody else: it is neither changed, nor deleted with the sale.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::names;
use super::not_ready::NotReady;
use crate::crd::FlashSale;

/// The condition's reason where a part's name belongs to another object.
pub const NAME_TAKEN: &str = "NameTaken";
/// Objects of others are not watched, so a taken name is looked for.
const TAKEN_RETRY: Duration = Duration::from_secs(10);
/// How long the garbage collector usually takes.
const LEFTOVER_RETRY: Duration = Duration::from_secs(1);

/// The owner of an object, as this sale sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The sale itself.
    ThisSale,
    /// A sale of the same name that was deleted: the garbage collector has yet to remove the object.
    EarlierSale,
    /// Kind and name of another controller; absent: the object has none.
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

/// An object that has the name of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingPart {
    kind: Cow<'static, str>,
    name: String,
    uid: String,
    owner: Owner,
}

impl ExistingPart {
    /// An object, and whose it is.
    pub fn new<K: Resource<DynamicType = ()>>(sale: &FlashSale, object: &K) -> Self {
        Self {
            kind: K::kind(&()),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            owner: Owner::of(sale, object.meta()),
        }
    }

    /// A volume that a `StatefulSet` of the sale would take over. The `StatefulSet` is its owner, and
    /// may be away (deleted with `--cascade=orphan`); the labels stay.
    #[must_use]
    pub fn volume(sale: &FlashSale, metadata: &ObjectMeta) -> Self {
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let is_ours = label("app.kubernetes.io/managed-by")
            .is_some_and(|it| it == names::MANAGED_BY)
            && label("app.kubernetes.io/instance") == sale.metadata.name.as_ref();
        let owner = match metadata.deletion_timestamp {
            _ if !is_ours => Owner::Other(None),
            Some(_) => Owner::EarlierSale,
            None => Owner::ThisSale,
        };
        Self {
            kind: PersistentVolumeClaim::kind(&()),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            owner,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// The objects that have the names of a sale's parts.
#[derive(Clone, Debug, Default)]
pub struct ExistingParts(pub Vec<ExistingPart>);

impl ExistingParts {
    /// The uid of a part that exists; absent: there is no such object.
    #[must_use]
    pub fn uid<K: Resource<DynamicType = ()>>(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|found| found.kind == K::kind(&()) && found.name == name);
        found.map(|found| found.uid.as_str())
    }

    /// Whether every object is the sale's own.
    ///
    /// # Errors
    /// [`NotReady`] when one belongs to somebody else, or to an earlier sale of this name.
    pub fn check(&self) -> Result<(), NotReady> {
        let others = self.0.iter().filter(|found| matches!(found.owner, Owner::Other(_)));
        let others: Vec<&ExistingPart> = others.collect();
        if !others.is_empty() {
            return Err(name_taken(&others));
        }
        // Its volumes and passwords must not become those of the new sale.
        match self.0.iter().find(|found| found.owner == Owner::EarlierSale) {
            Some(ExistingPart { kind, name, .. }) => Err(NotReady {
                reason: "EarlierSaleLeaving",
                message: format!(
                    "{kind} {name} of an earlier sale of this name is yet to be removed"
                ),
                requeue_after: Some(LEFTOVER_RETRY),
            }),
            None => Ok(()),
        }
    }
}

/// Why a sale can't have its parts: objects of others have their names.
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
            "the sale needs a name that another object has: {objects}; it was left as it is. \
             Delete it, or give the sale another name"
        ),
        requeue_after: Some(TAKEN_RETRY),
    }
}
