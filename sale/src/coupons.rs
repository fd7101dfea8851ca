//! Coupons: a limited quantity, one for each buyer, under the lock `coupon:issue:<id>`.
//!
//! The holder of the lock issues to all waiting buyers in one transaction. The remaining quantity
//! comes with the notice of each release. Coupons never come back, so an exhausted coupon needs no
//! lock any more.

mod holders;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use ledger::coupons::{Coupon, Issuance, Issue, Issued};
use ledger::{Applicant, Ledger, LedgerError};
use redlock::{
    Batch, Combiner, CombinerConfig, Domain, Entry, Lease, Policy, Redlock, SubmitError,
};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use self::holders::Holders;
use crate::batch_recorder::{BatchRecorder, Marked};
use crate::batch_report::{BatchKind, StepKind};
use crate::error::PurchaseError;
use crate::observer::Observer;

const PREFIX: &str = "coupon:issue";
/// Callers of this replica that may read coupons from the database at the same time.
const READERS: usize = 4;

/// Issues coupons.
#[derive(Debug)]
pub struct Coupons {
    ledger: Ledger,
    redlock: Redlock,
    domain: Domain,
    combiner: Combiner<CouponBatch>,
    observer: Arc<dyn Observer>,
    /// Coupons by id. Only the remaining quantity changes, so each is read once.
    known: RwLock<HashMap<String, Coupon>>,
    holders: Holders,
    /// Limits the reads of coupons that are not known yet: thousands of callers may need the same one.
    readers: Semaphore,
}

/// A coupon that a buyer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueReceipt {
    /// The committed issue.
    pub issue: Issue,
    /// True: the buyer already had it, and nothing was issued.
    pub replayed: bool,
}

/// Why a coupon was not made or issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouponError {
    /// A failure of the lock or the database, as for a purchase.
    #[error(transparent)]
    Lock(#[from] PurchaseError),
    /// There is no such coupon.
    #[error("there is no coupon {0:?}")]
    Unknown(String),
    /// Another coupon has this id.
    #[error("the coupon {0:?} exists already")]
    Exists(String),
    /// All have been issued.
    #[error("all coupons have been issued")]
    Exhausted,
    /// It is too early.
    #[error("the coupon is available from {0} on")]
    NotStarted(Timestamp),
    /// It is too late.
    #[error("the coupon was available until {0}")]
    Ended(Timestamp),
}

impl CouponError {
    /// Codes beside those of [`PurchaseError`].
    pub const CODES: [&'static str; 4] =
        ["unknown_coupon", "coupon_exists", "coupon_exhausted", "coupon_not_open"];

    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Lock(error) => error.code(),
            Self::Unknown(_) => "unknown_coupon",
            Self::Exists(_) => "coupon_exists",
            Self::Exhausted => "coupon_exhausted",
            Self::NotStarted(_) | Self::Ended(_) => "coupon_not_open",
        }
    }
}

impl From<LedgerError> for CouponError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::UnknownProduct(id) => Self::Unknown(id),
            error => Self::Lock(error.into()),
        }
    }
}

impl From<SubmitError> for CouponError {
    fn from(error: SubmitError) -> Self {
        Self::Lock(error.into())
    }
}

impl Coupons {
    /// Issues the ledger's coupons under locks with this policy.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        redlock: Redlock,
        policy: Policy,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let domain = Domain::new(PREFIX)
            .wait_timeout(policy.wait_timeout)
            .lease_time(policy.lease_time)
            .discipline(policy.discipline);
        let batch = CouponBatch {
            ledger: ledger.clone(),
            redlock: redlock.clone(),
            domain: domain.clone(),
            observer: Arc::clone(&observer),
        };
        let combiner = Combiner::new(redlock.clone(), batch, CombinerConfig::default());
        let (known, holders) = (RwLock::default(), Holders::new(ledger.clone()));
        let readers = Semaphore::new(READERS);
        Self { ledger, redlock, domain, combiner, observer, known, holders, readers }
    }

    /// Makes a coupon, for the administrator `actor`.
    ///
    /// # Errors
    /// [`CouponError::Exists`], or when the database fails.
    pub async fn create(&self, coupon: &Coupon, actor: &str) -> Result<(), CouponError> {
        if self.ledger.create_coupon(coupon, Some(actor)).await? {
            return Ok(());
        }
        Err(CouponError::Exists(coupon.id.clone()))
    }

    /// The coupon as the database has it.
    ///
    /// # Errors
    /// [`CouponError::Unknown`], or when the database fails.
    pub async fn coupon(&self, id: &str) -> Result<Coupon, CouponError> {
        let coupon = self.ledger.coupon(id).await?;
        coupon.ok_or_else(|| CouponError::Unknown(id.to_owned()))
    }

    /// Issues a coupon to a buyer. A buyer who has it already gets the same issue again. `missing`: the claim by which
    /// the sale limits buyers, if the buyer's token lacks it.
    ///
    /// # Errors
    /// See [`CouponError`].
    pub async fn issue(
        &self,
        id: &str,
        applicant: Applicant,
        missing: Option<String>,
    ) -> Result<IssueReceipt, CouponError> {
        let result = self.try_issue(id, applicant, missing).await;
        self.observer.coupon(match &result {
            Ok(IssueReceipt { replayed: false, .. }) => "issued",
            Ok(IssueReceipt { replayed: true, .. }) => "replayed",
            Err(error) => error.code(),
        });
        result
    }

    async fn try_issue(
        &self,
        id: &str,
        applicant: Applicant,
        missing: Option<String>,
    ) -> Result<IssueReceipt, CouponError> {
        let coupon = self.known(id).await?;
        let missing = missing.map(|claim| PurchaseError::LimitClaimMissing(claim).into());
        let refusal = window(&coupon, Timestamp::now()).err().or(missing);
        let buyer = &applicant.buyer;
        let found = if self.is_exhausted(id) {
            self.holders.holder_of_exhausted(&coupon, buyer).await?.ok_or(CouponError::Exhausted)
        } else if let Some(refusal) = refusal {
            self.holders.look_up(id, buyer).await?.ok_or(refusal)
        } else {
            let applicant = Marked { item: applicant, origin: self.observer.origin() };
            return self.combiner.submit(&self.domain.resource(id), applicant).await?;
        };
        let issue = Issue { id: found?, coupon_id: id.to_owned(), buyer: applicant.buyer };
        Ok(IssueReceipt { issue, replayed: true })
    }

    /// Forgets who has which coupon: buyers have other names by now.
    pub fn forget_holders(&self) {
        self.holders.forget();
    }

    async fn known(&self, id: &str) -> Result<Coupon, CouponError> {
        let known = || self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(coupon) = known() {
            return Ok(coupon);
        }
        let _reader = self.readers.acquire().await;
        if let Some(coupon) = known() {
            return Ok(coupon);
        }
        let coupon = self.coupon(id).await?;
        let (token, left) = (coupon.fence, coupon.quantity - coupon.issued);
        let token = u64::try_from(token).unwrap_or(0);
        self.redlock.observe_value(&self.domain.resource(id), token, &left.to_string());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.to_owned(), coupon.clone());
        Ok(coupon)
    }

    /// Whether the newest notice at this replica says that none is left.
    fn is_exhausted(&self, id: &str) -> bool {
        let published = self.redlock.published(&self.domain.resource(id));
        published.borrow().value.as_deref() == Some("0")
    }
}

fn window(coupon: &Coupon, now: Timestamp) -> Result<(), CouponError> {
    let time = |millis: i64| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    match (coupon.starts_at_ms.map(time), coupon.ends_at_ms.map(time)) {
        (Some(starts_at), _) if now < starts_at => Err(CouponError::NotStarted(starts_at)),
        (_, Some(ends_at)) if now >= ends_at => Err(CouponError::Ended(ends_at)),
        _ => Ok(()),
    }
}

type QueuedApplicant = Entry<Marked<Applicant>, Result<IssueReceipt, CouponError>>;

/// Issues to a batch of buyers under the coupon's lock.
#[derive(Debug)]
struct CouponBatch {
    ledger: Ledger,
    redlock: Redlock,
    domain: Domain,
    observer: Arc<dyn Observer>,
}

impl Batch for CouponBatch {
    type Item = Marked<Applicant>;
    type Output = Result<IssueReceipt, CouponError>;

    fn policy(&self, resource: &str, _applicant: &Marked<Applicant>) -> Policy {
        self.domain.policy(key(resource))
    }

    async fn execute(
        &self,
        resource: &str,
        lease: Lease,
        entries: Vec<QueuedApplicant>,
    ) -> Vec<QueuedApplicant> {
        let mut recorder = BatchRecorder::new(entries.iter().map(|entry| &entry.item.origin));
        recorder.acquired(&lease);
        let started = recorder.started();
        let issued = self.issue(resource, &lease, &entries).await;
        recorder.ended(StepKind::Database, started);
        let origins = entries.iter().map(|entry| &entry.item.origin);
        let failure = issued.as_ref().err().map(Failure::code);
        recorder.report(&*self.observer, BatchKind::Coupons, origins, failure);
        match issued {
            Ok(Issuance { outcomes, remaining }) => {
                lease.release_in_background(&[(resource, remaining.to_string())]);
                for (entry, outcome) in entries.into_iter().zip(outcomes) {
                    entry.reply(receipt(outcome));
                }
                Vec::new()
            }
            Err(Failure::StaleToken(seen)) => {
                warn!(resource, token = lease.token(), seen, "late holder refused, trying again");
                self.redlock.observe_token(resource, seen);
                lease.release_in_background(&[]);
                entries
            }
            Err(Failure::Refused(error)) => {
                lease.release_in_background(&[]);
                for entry in entries {
                    entry.reply(Err(error.clone()));
                }
                Vec::new()
            }
        }
    }
}

enum Failure {
    StaleToken(u64),
    Refused(CouponError),
}

impl Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::StaleToken(_) => "stale_token",
            Self::Refused(error) => error.code(),
        }
    }
}

impl CouponBatch {
    async fn issue(
        &self,
        resource: &str,
        lease: &Lease,
        entries: &[QueuedApplicant],
    ) -> Result<Issuance, Failure> {
        let unavailable = || Failure::Refused(PurchaseError::DatabaseUnavailable.into());
        let applicants: Vec<&Applicant> = entries.iter().map(|entry| &entry.item.item).collect();
        let Ok(token) = i64::try_from(lease.token()) else {
            error!(resource, token = lease.token(), "fencing tokens are used up");
            return Err(unavailable());
        };
        match lease.while_held(self.ledger.issue(key(resource), token, &applicants)).await {
            Some(Ok(issuance)) => Ok(issuance),
            Some(Err(LedgerError::StaleToken { seen, .. })) => {
                Err(Failure::StaleToken(u64::try_from(seen).unwrap_or(0)))
            }
            Some(Err(error)) => Err(Failure::Refused(error.into())),
            None => {
                self.observer.lease_lost();
                error!(resource, "the database did not answer within the lease");
                Err(unavailable())
            }
        }
    }
}

/// The id of a lock's coupon.
fn key(resource: &str) -> &str {
    resource.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(':')).unwrap_or(resource)
}

fn receipt(outcome: Issued) -> Result<IssueReceipt, CouponError> {
    match outcome {
        Issued::Now(issue) => Ok(IssueReceipt { issue, replayed: false }),
        Issued::Before(issue) => Ok(IssueReceipt { issue, replayed: true }),
        Issued::Exhausted => Err(CouponError::Exhausted),
        Issued::LimitReached => Err(PurchaseError::LimitReached.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed() {
        let (now, id) = (Timestamp::UNIX_EPOCH, String::new);
        let errors = [
            CouponError::Unknown(id()),
            CouponError::Exists(id()),
            CouponError::Exhausted,
            CouponError::NotStarted(now),
            CouponError::Ended(now),
        ];
        let mut codes: Vec<_> = errors.iter().map(CouponError::code).collect();
        codes.dedup();
        assert_eq!(codes, CouponError::CODES);
        assert_eq!(CouponError::Lock(PurchaseError::SoldOut).code(), "sold_out");
    }

    #[test]
    fn the_window_includes_its_start_and_not_its_end() {
        let coupon = Coupon {
            id: "c".to_owned(),
            quantity: 1,
            issued: 0,
            starts_at_ms: Some(10),
            ends_at_ms: Some(20),
            fence: 0,
        };
        let [before, start, end] =
            [9, 10, 20].map(|millis| Timestamp::from_millisecond(millis).unwrap());
        assert_eq!(window(&coupon, before), Err(CouponError::NotStarted(start)));
        assert_eq!(window(&coupon, start), Ok(()));
        assert_eq!(window(&coupon, end), Err(CouponError::Ended(end)));
    }
}
