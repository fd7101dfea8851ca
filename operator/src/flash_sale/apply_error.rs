//! Why an object could not be applied.

use kube::core::Status;
use thiserror::Error;

use super::child::Child;
use super::ownership::ExistingPart;

/// An object could not be applied.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server refuses the object. An immediate retry is useless.
    #[error("{object} was refused: {message}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Message of the API server.
        message: String,
    },
    /// Another owner's object has the name.
    #[error("the name is taken")]
    NameTaken(ExistingPart),
    /// A request to the API server failed.
    #[error("cannot apply {object}")]
    Api {
        /// Kind and name.
        object: String,
        /// The client error.
        source: kube::Error,
    },
}

/// Invalid, forbidden and bad requests (immutable field, quota, policy) are refusals; other failures are transient.
pub(super) fn api_error<K: Child>(name: &str, source: kube::Error) -> Error {
    let object = part::<K>(name);
    match source {
        kube::Error::Api(status)
            if (status.is_invalid() && !uid_differs(&status))
                || status.is_forbidden()
                || status.code == 400 =>
        {
            Error::Refused { object, message: status.message.clone() }
        }
        source => Error::Api { object, source },
    }
}

/// Kind and name.
pub(super) fn part<K: Child>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

/// Whether the object was replaced in the meantime. The API server reports a change of the immutable uid then.
fn uid_differs(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.unwrap_or_default().iter().any(|cause| cause.field == "metadata.uid")
}
