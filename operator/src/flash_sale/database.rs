//! Whether the database is still the seeded one. A database without the sale's orders must neither serve the sale nor
//! be seeded again, unless a user accepts the loss.

use super::app_client::DatabaseReport;
use super::seed::Seed;
use crate::crd::DatabaseStatus;

/// Annotation of a sale: id of the database whose loss is accepted.
pub const ACCEPT_LOSS: &str = "flashsale.dev/accept-data-loss";

/// Identity of the current database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseIdentity {
    /// The seeded database; `None`: not known yet.
    Known(Option<DatabaseStatus>),
    /// A different database at the same address.
    Lost {
        /// The seeded database.
        seeded: Option<DatabaseStatus>,
        /// Id of the current database; absent: it has no tables.
        found: Option<String>,
    },
}

/// Inputs of [`identify`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The seeded database according to the status.
    pub previous: Option<&'a DatabaseStatus>,
    /// Hash of the current address in the Secret.
    pub address: &'a str,
    /// The value of [`ACCEPT_LOSS`].
    pub accepted: Option<&'a str>,
    /// State of the seed Job.
    pub seed: &'a Seed,
    /// Whether all serving replicas use this address.
    pub rolled_out: bool,
    /// The app's report; absent without a response, or if the version of the app does not report it.
    pub report: Option<&'a DatabaseReport>,
}

/// Compares the reported database with the seeded one.
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

/// The required database: the seeded one, unless the address in the Secret has changed or the loss is accepted.
#[must_use]
pub fn expected<'a>(
    seeded: Option<&'a DatabaseStatus>,
    address: &str,
    accepted: Option<&str>,
) -> Option<&'a DatabaseStatus> {
    seeded.filter(|seeded| seeded.address == address && accepted != Some(seeded.id.as_str()))
}

/// What a user reads when the seeded database is lost: its id, if it is known, and that of the current one.
#[must_use]
pub fn lost_message(seeded: Option<&str>, found: Option<&str>) -> String {
    let found =
        found.map_or("has no tables".to_owned(), |id| format!("has tables created at {id}"));
    match seeded {
        None => format!("the stock was seeded, but the database {found} now"),
        Some(seeded) => format!(
            "the stock was seeded in a database with tables created at {seeded}, but the current database \
             {found}: the orders are missing. Restore them from a backup. To sell the whole stock again \
             instead, annotate the sale with {ACCEPT_LOSS}={seeded}"
        ),
    }
}
