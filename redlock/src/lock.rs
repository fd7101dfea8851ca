//! What a user of the lock calls.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::acquisition::Acquisition;
use crate::board::Published;
use crate::combine::FairLines;
use crate::node::Node;
use crate::observe::Unobserved;
use crate::roster::Roster;
use crate::script::Scripts;
use crate::shared::Shared;
use crate::turn::Turn;
use crate::{AcquireError, Config, Lease, Observer, Order, Policy};

/// Acquires leases from a set of nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redlock {
    pub(crate) shared: Arc<Shared>,
    lines: FairLines,
}

impl Redlock {
    /// Starts connecting to the nodes; those that are away are tried again and again.
    ///
    /// # Errors
    /// [`AcquireError::BadNode`], [`AcquireError::NoNodes`] or [`AcquireError::BadConfig`] for a
    /// configuration that can never work.
    pub fn start(config: &Config) -> Result<Self, AcquireError> {
        Self::start_observed(config, Arc::new(Unobserved))
    }

    /// As [`Redlock::start`], telling `observer` what happens.
    ///
    /// # Errors
    /// As [`Redlock::start`].
    pub fn start_observed(
        config: &Config,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, AcquireError> {
        let scripts = Scripts::new();
        #[cfg(feature = "ablation")]
        let scripts = if config.ablation.owner_check_is_off {
            scripts.without_owner_check()
        } else {
            scripts
        };
        let roster = Roster::start(config, scripts, observer)?;
        Ok(Self::of(Arc::new(Shared::new(roster))))
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared, lines: FairLines::default() }
    }

    /// How many nodes are connected and may vote now, and how many there are.
    #[must_use]
    pub fn connected(&self) -> (usize, usize) {
        self.shared.roster.members().voting()
    }

    /// Whether a majority is connected and may vote now.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.shared.roster.members().majority_of_each(Node::votes)
    }

    /// Follows the value that holders leave behind for a resource, from now on.
    #[must_use]
    pub fn published(&self, resource: &str) -> watch::Receiver<Published> {
        self.shared.roster.board.topic(resource).published()
    }

    /// Makes the next proposal for a resource exceed `token`: what it guards has seen that one.
    pub fn saw_token(&self, resource: &str, token: u64) {
        self.shared.roster.board.topic(resource).saw_token(token);
    }

    /// Takes in a value that the holder of `token` left in what the lock guards.
    pub fn saw_value(&self, resource: &str, token: u64, value: &str) {
        let topic = self.shared.roster.board.topic(resource);
        topic.saw_token(token);
        topic.publish(token, value);
    }

    /// Acquires one resource; in the order of arrival over all clients if the policy says so.
    ///
    /// # Errors
    /// [`AcquireError::Timeout`] or [`AcquireError::QuorumUnavailable`] at the end of the wait; at once
    /// what [can never be had](AcquireError::is_invalid).
    pub async fn acquire(&self, resource: &str, policy: Policy) -> Result<Lease, AcquireError> {
        match policy.order {
            Order::Unordered => self.acquire_all(&[resource], policy).await,
            Order::Fair => self.lines.acquire(&self.shared, resource, policy).await,
        }
    }

    /// Acquires several resources, all or nothing; their order does not matter. Whoever gets a
    /// majority of the nodes comes first, whatever order the policy says.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    pub async fn acquire_all(
        &self,
        resources: &[&str],
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        Acquisition::new(&self.shared, resources, policy).run().await
    }

    /// As [`Redlock::acquire_all`], for a caller that goes on in another way without it: the observer
    /// hears of what it acquires, and not of what it gave up.
    ///
    /// # Errors
    /// As [`Redlock::acquire`].
    pub async fn try_acquire_all(
        &self,
        resources: &[&str],
        policy: Policy,
    ) -> Result<Lease, AcquireError> {
        Acquisition::new(&self.shared, resources, policy).into_try().run().await
    }

    /// Acquires one resource when this client's turn has come, and takes the tickets that it wants.
    /// Whoever has the lock asks for its next turn with the release of that hold.
    pub(crate) fn acquire_in_turn(
        &self,
        resource: &str,
        policy: Policy,
        turn: &Arc<Turn>,
        hold: Option<&Lease>,
    ) -> BoxFuture<'static, Result<Lease, AcquireError>> {
        let acquisition = Acquisition::in_turn(&self.shared, resource, policy, Arc::clone(turn));
        match hold {
            Some(hold) => acquisition.run_with_release_of(hold).boxed(),
            None => acquisition.run().boxed(),
        }
    }
}
