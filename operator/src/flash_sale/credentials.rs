//! A Secret of the sale's namespace, and whether it has what the pods need.

use std::time::Duration;

use super::dereference::SecretData;
use super::not_ready::NotReady;

/// A missing or incomplete Secret is polled as well as watched: the operator may lack the right to watch.
pub(super) const SECRET_RETRY: Duration = Duration::from_secs(5);

/// A Secret that the pods use.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The Secret.
    pub secret: String,
    /// The Secret's data; absent: it is generated.
    pub data: Option<SecretData>,
}

impl Credentials {
    /// Whether the Secret has this optional key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.data.as_ref().is_some_and(|data| data.contains_key(key))
    }

    /// Checks that the Secret has `keys`, and exists if it `must_exist`.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn check(&self, must_exist: bool, keys: &[&str]) -> Result<(), NotReady> {
        let secret = &self.secret;
        let Some(data) = &self.data else {
            return if must_exist {
                Err(NotReady {
                    reason: "SecretMissing",
                    message: format!(
                        "Secret {secret} does not exist; create it with {}",
                        keys.join(", ")
                    ),
                    requeue_after: Some(SECRET_RETRY),
                })
            } else {
                Ok(())
            };
        };
        let missing =
            keys.iter().find(|key| data.get(**key).is_none_or(|value| value.0.is_empty()));
        match missing {
            Some(key) => Err(NotReady {
                reason: "SecretIncomplete",
                message: format!("Secret {secret} has no value for {key}"),
                requeue_after: Some(SECRET_RETRY),
            }),
            None => Ok(()),
        }
    }
}
