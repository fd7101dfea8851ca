//! Passwords: argon2id, with a bounded number of hashes at a time and a bounded queue, so that a
//! storm of log-ins cannot starve the purchases.
//!
//! Log-ins have priority. They queue for the CPU slots, and only a few sign-ups at a time may join
//! that queue: a storm of sign-ups delays a log-in by those few, and a storm of log-ins leaves a
//! ninth of the slots to the sign-ups. One address may use half of the log-ins' queue, so it cannot
//! keep others out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::concurrency_limit::ConcurrencyLimit;
use crate::metrics::ClientMetrics;

/// Queue length per CPU slot, for log-ins and sign-ups each: about a second of work.
const QUEUED_PER_SLOT: usize = 32;
/// Sign-ups per CPU slot that are hashed or queued among the log-ins.
const ADMITTED_SIGN_UPS_PER_SLOT: usize = 4;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Hashes at a time.
    cpu_slots: Arc<Semaphore>,
    /// Log-ins being checked or queued.
    log_ins: Arc<Semaphore>,
    /// Sign-ups being hashed or queued.
    sign_ups: Arc<Semaphore>,
    /// Log-ins being checked or queued from one address.
    log_ins_per_address: Arc<ConcurrencyLimit>,
    /// Sign-ups being hashed or queued among the log-ins.
    admitted_sign_ups: Arc<Semaphore>,
    /// Verified in place of an unknown account's hash, so that both take equally long.
    dummy_hash: Arc<str>,
    metrics: Option<Arc<ClientMetrics>>,
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full.
    #[error("too many passwords are waiting to be checked")]
    Overloaded {
        /// Time until another try is worthwhile.
        retry_after: Duration,
    },
    /// A defect of this service.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

const OVERLOADED: PasswordError = PasswordError::Overloaded { retry_after: Duration::from_secs(2) };

/// Held while a password is hashed.
struct WorkPermit {
    _queue: OwnedSemaphorePermit,
    _admitted: Option<OwnedSemaphorePermit>,
    _cpu_slot: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    LogIn,
    SignUp,
}

impl Passwords {
    /// Hashes on half of the cores, at least one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let random = rand::random::<u128>().to_string();
        let dummy_hash = Argon2::default()
            .hash_password(random.as_bytes())
            .map_err(|error| anyhow!("cannot hash a password: {error}"))?;
        let slots = (cores / 2).max(1);
        let capacity = slots * (1 + QUEUED_PER_SLOT);
        Ok(Self {
            cpu_slots: Arc::new(Semaphore::new(slots)),
            log_ins: Arc::new(Semaphore::new(capacity)),
            log_ins_per_address: ConcurrencyLimit::new(capacity, capacity / 2),
            sign_ups: Arc::new(Semaphore::new(capacity)),
            admitted_sign_ups: Arc::new(Semaphore::new(slots * ADMITTED_SIGN_UPS_PER_SLOT)),
            dummy_hash: dummy_hash.to_string().into(),
            metrics: None,
        })
    }

    /// Records the duration of each hash there.
    #[must_use]
    pub fn observed(self, metrics: Arc<ClientMetrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Hashes the password of a sign-up with a random salt, in PHC format.
    ///
    /// # Errors
    /// When the queue is full, or the system has no random numbers.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.work(Queue::SignUp, "hashing a password", move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
                .map_err(|error| anyhow!("cannot hash a password: {error}"))
        })
        .await
    }

    /// Like [`verify`](Self::verify), for a client at this address, which may use half of the queue.
    ///
    /// # Errors
    /// When the queue or the address's half of it is full, or the stored hash cannot be read.
    pub async fn verify_from(
        &self,
        address: IpAddr,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let _permit = self.log_ins_per_address.try_acquire(address).map_err(|_full| OVERLOADED)?;
        self.verify(password, hash).await
    }

    /// Checks a log-in's password. Without a hash (unknown account) the answer is `false` after the
    /// same time.
    ///
    /// # Errors
    /// When the queue is full, or the stored hash cannot be read.
    pub async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy_hash.to_string());
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
        let permit = self.acquire(queue).await?;
        let metrics = self.metrics.clone();
        let done = spawn_blocking(move || {
            // Moved in here, because the hash goes on after its client has disconnected.
            let _permit = permit;
            let started = Instant::now();
            let done = work();
            if let Some(metrics) = metrics {
                metrics.hashed(started.elapsed());
            }
            done
        });
        Ok(done.await.context(what)??)
    }

    /// Queues for a CPU slot. A client that disconnects leaves the queue.
    async fn acquire(&self, queue: Queue) -> Result<WorkPermit, PasswordError> {
        let semaphore = match queue {
            Queue::LogIn => &self.log_ins,
            Queue::SignUp => &self.sign_ups,
        };
        let queued = Arc::clone(semaphore).try_acquire_owned();
        let queued = queued.map_err(|_full| OVERLOADED)?;
        let admitted = match queue {
            Queue::LogIn => None,
            Queue::SignUp => Some(acquire(&self.admitted_sign_ups).await?),
        };
        let cpu_slot = acquire(&self.cpu_slots).await?;
        Ok(WorkPermit { _queue: queued, _admitted: admitted, _cpu_slot: cpu_slot })
    }
}

/// The next permit, first come, first served.
async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.context("the queue is closed")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn stays_within_its_bound_when_callers_disconnect() {
        let passwords = Passwords::new().unwrap();
        let slots = passwords.cpu_slots.available_permits();
        for _ in 0..20 {
            let hash = tokio::spawn({
                let passwords = passwords.clone();
                async move { passwords.hash("open sesame".to_owned()).await }
            });
            tokio::task::yield_now().await;
            hash.abort();
        }
        assert_eq!(passwords.cpu_slots.available_permits(), 0, "the first ones still hash");
        let _all = passwords.cpu_slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn refuses_at_once_when_the_queue_is_full() {
        let passwords = Passwords::new().unwrap();
        let capacity = passwords.sign_ups.available_permits();
        let slots = passwords.cpu_slots.available_permits();
        // All CPU slots are taken, so every call waits.
        let busy = passwords.cpu_slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let hashes = (0..capacity + 3).map(|_| passwords.hash("open sesame".to_owned()));
        // `join!` polls all hashes before it polls the second future.
        let (all, ()) = tokio::join!(join_all(hashes), async { drop(busy) });
        let refused = all.into_iter().filter(|hash| {
            matches!(hash, Err(PasswordError::Overloaded { retry_after }) if !retry_after.is_zero())
        });
        assert_eq!(refused.count(), 3);
        assert_eq!(passwords.sign_ups.available_permits(), capacity, "the queue is empty again");
    }

    /// How many of as many sign-ups as can wait go before a log-in that comes after them; and the hashes at a time.
    async fn sign_ups_before_a_log_in(passwords: &Passwords) -> (usize, usize) {
        let slots = passwords.cpu_slots.available_permits();
        let busy = passwords.cpu_slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let done = AtomicUsize::new(0);
        let sign_ups = (0..slots * (1 + QUEUED_PER_SLOT)).map(async |_| {
            passwords.hash("open sesame".to_owned()).await.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
        let log_in = async {
            drop(busy);
            passwords.verify("open sesame".to_owned(), None).await.unwrap();
            done.load(Ordering::Relaxed)
        };
        // `join!` polls all sign-ups before it polls the log-in.
        let (_, before) = tokio::join!(join_all(sign_ups), log_in);
        (before, slots)
    }

    #[tokio::test]
    async fn sign_ups_neither_fill_the_queue_of_log_ins_nor_go_before_them() {
        let (before, slots) = sign_ups_before_a_log_in(&Passwords::new().unwrap()).await;
        // A few more may finish before this task runs again.
        assert!(before <= slots * (ADMITTED_SIGN_UPS_PER_SLOT + 2), "{before} sign-ups went first");
    }

    #[tokio::test]
    async fn without_the_admission_most_sign_ups_go_before_a_log_in() {
        let passwords = Passwords::new().unwrap();
        passwords.admitted_sign_ups.add_permits(passwords.sign_ups.available_permits());
        let (before, slots) = sign_ups_before_a_log_in(&passwords).await;
        assert!(before > slots * QUEUED_PER_SLOT / 2, "{before} sign-ups went first");
    }

    #[tokio::test]
    async fn one_address_leaves_half_of_the_queue_to_others() {
        let passwords = Passwords::new().unwrap();
        let capacity = passwords.log_ins.available_permits();
        let slots = passwords.cpu_slots.available_permits();
        // All CPU slots are taken, so every call waits.
        let busy = passwords.cpu_slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
        let verify = |address: [u8; 4]| {
            passwords.verify_from(address.into(), "open sesame".to_owned(), None)
        };
        let storm = (0..capacity).map(|_| verify([192, 0, 2, 66]));
        let others = (0..capacity / 2).map(|_| verify([192, 0, 2, 1]));
        // `join!` polls all of them before it frees the slots.
        let (storm, others, ()) =
            tokio::join!(join_all(storm), join_all(others), async { drop(busy) });
        let refused = |all: Vec<Result<bool, PasswordError>>| {
            all.iter().filter(|it| matches!(it, Err(PasswordError::Overloaded { .. }))).count()
        };
        assert_eq!((refused(storm), refused(others)), (capacity - capacity / 2, 0));
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
