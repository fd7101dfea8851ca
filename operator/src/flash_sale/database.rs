//! Whether the database is still the one that the stock was put into. A database without the sale's
//! orders must never be sold from, nor get the whole stock once more, unless a person says so.

use super::app_client::DatabaseReport;
use super::seed::Seed;
use crate::crd::DatabaseStatus;

/// Annotation of a sale: the id of the database whose loss is accepted.
pub const ACCEPT_LOSS: &str = "flashsale.dev/accept-data-loss";

/// What is known of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseIdentity {
    /// The one that was seeded; `None`: that is yet to be known.
    Known(Option<DatabaseStatus>),
    /// Another than was seeded, at the same address.
    Lost {
        /// The one that was seeded.
        seeded: Option<DatabaseStatus>,
        /// The id of the other; absent: it has no tables.
        found: Option<String>,
    },
}

/// What decides on it.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What was known until now.
    pub previous: Option<&'a DatabaseStatus>,
    /// Hash of the address that the Secret has now.
    pub address: &'a str,
    /// The value of [`ACCEPT_LOSS`].
    pub accepted: Option<&'a str>,
    /// Whether the stock is in place.
    pub seed: &'a Seed,
    /// Whether all replicas that answer use this address.
    pub rolled_out: bool,
    /// What the app says, if it could be asked and is of a version that does.
    pub report: Option<&'a DatabaseReport>,
}

/// The database by what was seen of it.
#[must_use]
pub fn identify(inputs: Inputs<'_>) -> DatabaseIdentity {
    let previous = inputs.previous.cloned();
    let Some(report) = inputs.report.filter(|_| inputs.rolled_out) else {
        return DatabaseIdentity::Known(previous);
    };
    if let Some(seeded) = expected(inputs.previous, inputs.address, inputs.accepted) {
        return if report.id.as_ref() == Some(&seeded.id) {
            DatabaseIdentity::Known(previous)
        } else {
            DatabaseIdentity::Lost { seeded: previous, found: report.id.clone() }
        };
    }
    match &report.id {
        _ if *inputs.seed != Seed::Done => DatabaseIdentity::Known(previous),
        None => DatabaseIdentity::Lost { seeded: None, found: None },
        Some(id) => {
            let address = inputs.address.to_owned();
            DatabaseIdentity::Known(Some(DatabaseStatus { address, id: id.clone() }))
        }
    }
}

/// The database that must be there: the one that was seeded, as long as the Secret has its address
/// and its loss is not accepted.
#[must_use]
pub fn expected<'a>(
    seeded: Option<&'a DatabaseStatus>,
    address: &str,
    accepted: Option<&str>,
) -> Option<&'a DatabaseStatus> {
    seeded.filter(|seeded| seeded.address == address && accepted != Some(seeded.id.as_str()))
}
