//! Passwords: argon2id, a bounded number at a time and a bounded number waiting, so that a storm of
//! log-ins cannot starve the purchases.
//!
//! Log-ins go first. They wait in a queue of their own for the processors' slots, and only a few
//! sign-ups at a time are let into it: a storm of sign-ups delays a log-in by those few, and a storm
//! of log-ins leaves the sign-ups a ninth of the slots. One address has half of the log-ins' places, so
//! it does not keep the others out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::metrics::ClientMetrics;
use crate::places::Places;

/// How many log-ins may wait for each password at work, and how many sign-ups: about a second's
/// worth.
const WAITING: usize = 32;
/// How many sign-ups for each slot are at work or in the log-ins' queue.
const SIGN_UPS_IN_LINE: usize = 4;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    /// Places for log-ins at work and waiting.
    log_ins: Arc<Semaphore>,
    /// Places for sign-ups at work and waiting.
    sign_ups: Arc<Semaphore>,
    /// Of the log-ins' places, those of each address.
    shares: Arc<Places>,
    /// Sign-ups that may wait among the log-ins.
    in_line: Arc<Semaphore>,
    /// The hash of no password: checked for an unknown account, so that it takes as long.
    nobody: Arc<str>,
    metrics: Option<Arc<ClientMetrics>>,
}

/// Why there is no answer about a password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting.
    #[error("too many passwords are waiting to be checked")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Our fault.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

const OVERLOADED: PasswordError = PasswordError::Overloaded { retry_after: Duration::from_secs(2) };

/// A place in the queue, then at work.
struct Turn {
    _place: OwnedSemaphorePermit,
    _in_line: Option<OwnedSemaphorePermit>,
    _slot: OwnedSemaphorePermit,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    LogIn,
    SignUp,
}

impl Passwords {
    /// Uses half of the cores, at least one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let random = rand::random::<u128>().to_string();
        let nobody = Argon2::default()
            .hash_password(random.as_bytes())
            .map_err(|error| anyhow!("cannot hash a password: {error}"))?;
        let slots = (cores / 2).max(1);
        let places = slots * (1 + WAITING);
        Ok(Self {
            slots: Arc::new(Semaphore::new(slots)),
            log_ins: Arc::new(Semaphore::new(places)),
            shares: Places::new(places, places / 2),
            sign_ups: Arc::new(Semaphore::new(places)),
            in_line: Arc::new(Semaphore::new(slots * SIGN_UPS_IN_LINE)),
            nobody: nobody.to_string().into(),
            metrics: None,
        })
    }

    /// Says there how long the hashes take.
    #[must_use]
    pub fn observed(self, metrics: Arc<ClientMetrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Hashes the password of a sign-up, with a salt of its own, in PHC format.
    ///
    /// # Errors
    /// When too many are waiting, or the system has no random numbers.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.work(Queue::SignUp, "hashing a password", move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
                .map_err(|error| anyhow!("cannot hash a password: {error}"))
        })
        .await
    }

    /// The same as [`verify`](Self::verify), for a client at this address, which has its share of the
    /// places.
    ///
    /// # Errors
    /// When too many are waiting, of all or from this address, or the stored hash cannot be read.
    pub async fn verify_from(
        &self,
        address: IpAddr,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let _share = self.shares.take(address).map_err(|_full| OVERLOADED)?;
        self.verify(password, hash).await
    }

    /// Checks a log-in's password against the account's hash, or against nothing for as long.
    ///
    /// # Errors
    /// When too many are waiting, or the stored hash cannot be read.
    pub async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let matches = self
            .work(Queue::LogIn, "checking a password", move || {
                let hash =
                    PasswordHash::new(&hash).map_err(|error| anyhow!("stored hash: {error}"))?;
                Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(matches && known)
    }

    async fn work<T: Send + 'static>(
        &self,
        queue: Queue,
        what: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = self.turn(queue).await?;
        let metrics = self.metrics.clone();
        let done = spawn_blocking(move || {
            // Held by the work, which goes on when the client has gone.
            let _turn = turn;
            let started = Instant::now();
            let done = work();
            if let Some(metrics) = metrics {
                metrics.hashed(started.elapsed());
            }
            done
        });
        Ok(done.await.context(what)??)
    }

    /// Waits, if there is a place to wait. A client that goes away leaves its place.
    async fn turn(&self, queue: Queue) -> Result<Turn, PasswordError> {
        let places = match queue {
            Queue::LogIn => &self.log_ins,
            Queue::SignUp => &self.sign_ups,
        };
        let place = Arc::clone(places).try_acquire_owned();
        let place = place.map_err(|_full| OVERLOADED)?;
        let in_line = match queue {
            Queue::LogIn => None,
            Queue::SignUp => Some(permit(&self.in_line).await?),
        };
        Ok(Turn { _place: place, _in_line: in_line, _slot: permit(&self.slots).await? })
    }
}

/// The next permit; those who wait get them in their order.
async fn permit(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.context("the queue is closed")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn stays_within_its_bound_when_callers_go_away() {
        let passwords = Passwords::new().unwrap();
        let slots = passwords.slots.available_permits();
        for _ in 0..20 {
            let hash = tokio::spawn({
                let passwords = passwords.clone();
                async move { passwords.hash("open sesame".to_owned()).await }
            });
            tokio::task::yield_now().await;
            hash.abort();
        }
        assert_eq!(passwords.slots.available_permits(), 0, "the first still hash");
        let _all = passwords.slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn refuses_at_once_when_too_many_wait() {
        let passwords = Passwords::new().unwrap();
        let places = passwords.sign_ups.available_permits();
        let slots = passwords.slots.available_permits();
        // Nothing is at work, so that all are waiting.
        let busy = passwords.slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let hashes = (0..places + 3).map(|_| passwords.hash("open sesame".to_owned()));
        // The second starts when all of the first have asked.
        let (all, ()) = tokio::join!(join_all(hashes), async { drop(busy) });
        let refused = all.into_iter().filter(|hash| {
            matches!(hash, Err(PasswordError::Overloaded { retry_after }) if !retry_after.is_zero())
        });
        assert_eq!(refused.count(), 3);
        assert_eq!(passwords.sign_ups.available_permits(), places, "all places are free again");
    }

    #[tokio::test]
    async fn sign_ups_neither_fill_the_queue_of_log_ins_nor_go_before_them() {
        let passwords = Passwords::new().unwrap();
        let slots = passwords.slots.available_permits();
        let busy = passwords.slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let done = AtomicUsize::new(0);
        let sign_ups = (0..slots * (1 + WAITING)).map(async |_| {
            passwords.hash("open sesame".to_owned()).await.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
        let log_in = async {
            drop(busy);
            passwords.verify("open sesame".to_owned(), None).await.unwrap();
            done.load(Ordering::Relaxed)
        };
        // All sign-ups have asked before the log-in does.
        let (_, before) = tokio::join!(join_all(sign_ups), log_in);
        // Some more may have been done before this task ran again.
        assert!(before <= slots * (SIGN_UPS_IN_LINE + 2), "{before} sign-ups went first");
    }

    #[tokio::test]
    async fn one_address_leaves_half_of_the_places_to_others() {
        let passwords = Passwords::new().unwrap();
        let places = passwords.log_ins.available_permits();
        let slots = passwords.slots.available_permits();
        // Nothing is at work, so that all are waiting.
        let busy = passwords.slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let verify = |address: [u8; 4]| {
            passwords.verify_from(address.into(), "open sesame".to_owned(), None)
        };
        let storm = (0..places).map(|_| verify([192, 0, 2, 66]));
        let others = (0..places / 2).map(|_| verify([192, 0, 2, 1]));
        // All have asked before the first is at work.
        let (storm, others, ()) =
            tokio::join!(join_all(storm), join_all(others), async { drop(busy) });
        let refused = |all: Vec<Result<bool, PasswordError>>| {
            all.iter().filter(|it| matches!(it, Err(PasswordError::Overloaded { .. }))).count()
        };
        assert_eq!((refused(storm), refused(others)), (places - places / 2, 0));
    }

    #[tokio::test]
    async fn tells_right_from_wrong_and_unknown() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("open sesame".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("open sesame".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("open barley".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("open sesame".to_owned(), None).await.unwrap());
    }
}
