//! The names of erased buyers at this replica, and the work that erasures leave: a purchase that was
//! under way may still bring a name back.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::anyhow;
use ledger::erasure::{Begun, ErasedNames, Erasure, Replaced};
use ledger::{Ledger, LedgerError};
use sale::{Coupons, ErasureError, Sale};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::http::problem::ApiError;

/// How often a replica reads the names of erased buyers.
const READ_EVERY: Duration = Duration::from_secs(1);
/// From the beginning of an erasure until every replica that reaches the database refuses the buyer.
const REFUSED_EVERYWHERE: Duration = Duration::from_millis(2_500);
/// How often an erasure is repeated until it is finished.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// How long purchases that were under way may bring a name back: longer than any wait for a lock, and
/// than the database is usually away.
const SETTLED: Duration = Duration::from_mins(5);

/// Who was erased.
#[derive(Debug)]
pub struct Erasures {
    ledger: Ledger,
    sale: Arc<Sale>,
    coupons: Arc<Coupons>,
    names: RwLock<Arc<ErasedNames>>,
}

/// What became of a request to erase a buyer.
#[derive(Debug)]
pub(crate) enum Erased {
    /// The pseudonym, and what has it.
    Done(String, Replaced),
    /// There is no such buyer.
    UnknownBuyer,
    /// The name is an administrator's.
    Administrator,
}

impl Erasures {
    /// Nobody is known to be erased yet.
    #[must_use]
    pub fn new(ledger: Ledger, sale: Arc<Sale>, coupons: Arc<Coupons>) -> Self {
        Self { ledger, sale, coupons, names: RwLock::default() }
    }

    /// Whether the buyer was erased, as far as this replica knows.
    #[must_use]
    pub fn contains(&self, buyer: &str) -> bool {
        self.names.read().unwrap_or_else(PoisonError::into_inner).contains(buyer)
    }

    /// Erases a buyer, for the administrator `actor`. It takes some seconds, so that the buyer cannot buy
    /// under the old name once its orders have the new one.
    pub(crate) async fn erase(
        self: Arc<Self>,
        buyer: String,
        actor: String,
    ) -> Result<Erased, ApiError> {
        // Runs to its end even when the client disconnects.
        let erased = tokio::spawn(async move { self.try_erase(&buyer, &actor).await });
        erased.await.map_err(anyhow::Error::from)?
    }

    async fn try_erase(&self, buyer: &str, actor: &str) -> Result<Erased, ApiError> {
        // What Redis sold a moment ago is not in the database yet.
        self.sale.all_recorded().await;
        let erasure = match self.ledger.begin_erasure(buyer, actor).await? {
            Begun::Erasure(erasure) => erasure,
            Begun::UnknownBuyer => return Ok(Erased::UnknownBuyer),
            Begun::Administrator => return Ok(Erased::Administrator),
        };
        self.read().await?;
        sleep(REFUSED_EVERYWHERE).await;
        let (replaced, _) = self.sale.erase(&erasure).await?;
        self.coupons.forget_holders();
        info!(pseudonym = erasure.pseudonym, "a buyer was erased");
        Ok(Erased::Done(erasure.pseudonym, replaced))
    }

    /// Reads the names.
    pub(crate) async fn read(&self) -> Result<(), LedgerError> {
        let names = self.ledger.erased_names().await?;
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
        Ok(())
    }

    /// Reads the names of erased buyers again and again, and repeats erasures until they are finished.
    pub(crate) async fn keep(&self) {
        let mut tick = interval(READ_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failing, mut repeat_at) = (false, Instant::now());
        loop {
            tick.tick().await;
            match self.refresh(&mut repeat_at).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        warn!(%error, "cannot read or finish erasures; it is tried again");
                    }
                    failing = true;
                }
            }
        }
    }

    async fn refresh(&self, repeat_at: &mut Instant) -> Result<(), ErasureError> {
        let (all, pending) = self.ledger.erasure_counts().await?;
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner).len();
        if usize::try_from(all).is_ok_and(|all| all != known) {
            self.read().await?;
            self.coupons.forget_holders();
        }
        if pending > 0 && Instant::now() >= *repeat_at {
            self.repeat().await?;
            *repeat_at = Instant::now() + REPEAT_EVERY;
        }
        Ok(())
    }

    /// Every replica does this. An erasure that another process began is left to it for a while.
    async fn repeat(&self) -> Result<(), ErasureError> {
        for erasure in self.ledger.pending_erasures().await? {
            let age = age(&erasure);
            if age < REFUSED_EVERYWHERE {
                continue;
            }
            let (_, complete) = self.sale.erase(&erasure).await?;
            self.coupons.forget_holders();
            if complete && age >= SETTLED {
                self.ledger.finish_erasure(&erasure.buyer).await?;
            }
        }
        Ok(())
    }
}

fn age(erasure: &Erasure) -> Duration {
    Duration::from_millis(erasure.age_ms.try_into().unwrap_or(0))
}

/// `flashsale-app erase`: erases a buyer in the database. Replicas refuse the buyer within seconds, and
/// erase it in Redis.
///
/// # Errors
/// When there is no such buyer, the tables are those of a later version, or the database fails.
pub async fn erase_in_database(ledger: &Ledger, buyer: &str) -> anyhow::Result<String> {
    ledger.migrate_unless_newer().await?;
    let erasure = match ledger.begin_erasure(buyer, COMMAND).await? {
        Begun::Erasure(erasure) => erasure,
        Begun::UnknownBuyer => return Err(anyhow!("nothing is known about a buyer {buyer:?}")),
        Begun::Administrator => {
            return Err(anyhow!("{buyer:?} is an administrator; only buyers can be erased"));
        }
    };
    sleep(REFUSED_EVERYWHERE).await;
    // Idempotency keys are left to the replicas, which remove them from Redis first.
    let Replaced { order_lines, coupons } = ledger.replace_buyer(&erasure).await?;
    let pseudonym = erasure.pseudonym;
    Ok(format!(
        "erased: {order_lines} lines of orders and {coupons} coupons have the buyer {pseudonym}\n\
         not finished: the orders have their idempotency keys until a replica of the sale runs, and \
         the table erasures has the name until one runs in five minutes or later"
    ))
}

/// The actor of a command in the audit log.
const COMMAND: &str = "flashsale-app";
