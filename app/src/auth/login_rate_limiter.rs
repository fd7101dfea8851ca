//! Limits how often a password can be tried, so that none is guessed, and how many accounts one
//! address can create.
//!
//! Every budget is a token bucket. A log-in takes one attempt from each of these, and is refused if
//! any of them is empty:
//!
//! - **id and address** together: 5 attempts, refilled by one every 30 s;
//! - **address**, all ids: 300 attempts, refilled by one every second, because a proxy or an office
//!   with many simultaneous log-ins may share an address;
//! - **id**, all addresses: 50 attempts, refilled by one every 10 s. It is not charged at an address
//!   where this id logged in before: an attack on an account from a thousand addresses locks out
//!   those and all new addresses, but never the ones that its owner uses.
//!
//! A sign-up takes one attempt from the budget of its **address**: 30, refilled by one every second.
//! That is less than the queue for hashing holds ([`Passwords`](super::Passwords)), so one address
//! never fills the queue. A sign-up is charged whether or not it creates an account.
//!
//! An attempt is charged before the password is checked, or many parallel guesses would be free, and
//! is refunded if the password was right. An unknown id is charged like a known one.
//!
//! All replicas share the budgets ([`SharedBudgets`]), and each replica has them once more in its memory. An attempt must be
//! within both; while the shared ones are away, the replica's own decide, and `n` replicas allow `n` times as many
//! attempts. The budget of an id is the exception: where the shared one decides, an empty own one refuses nobody, because
//! this replica does not know at which addresses the id has logged in elsewhere.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::budget::{
    Budget, PER_ADDRESS, PER_ID, PER_ID_AND_ADDRESS, SIGN_UPS_PER_ADDRESS, TooManyAttempts,
};
use super::shared_budgets::{Charged, Charges, SharedBudgets};
use crate::client_address::network;
use crate::metrics::ClientMetrics;

/// Entries of each [`DeadlineMap`], of about 16 bytes.
const CAPACITY: usize = 1 << 16;

/// Limits attempts to log in and to sign up.
#[derive(Debug, Default)]
pub struct LoginRateLimiter {
    hasher: RandomState,
    state: Mutex<State>,
    shared: Option<Arc<SharedBudgets>>,
}

#[derive(Debug, Default)]
struct State {
    by_id_and_address: DeadlineMap,
    by_address: DeadlineMap,
    by_id: DeadlineMap,
    /// Last successful log-in of an id at an address.
    last_success: DeadlineMap,
    sign_ups_by_address: DeadlineMap,
}

/// A charged log-in. Dropping it keeps the charge: the password was wrong.
#[derive(Debug)]
#[must_use]
pub struct LoginAttempt {
    limiter: Arc<LoginRateLimiter>,
    keys: Keys,
    /// What was charged at the shared budgets.
    shared: Option<Charges>,
}

/// A charged sign-up. Dropping it keeps the charge.
#[derive(Debug)]
#[must_use]
pub struct SignUpAttempt {
    limiter: Arc<LoginRateLimiter>,
    address: u64,
    /// What was charged at the shared budget.
    shared: Option<Charges>,
}

#[derive(Debug, Clone, Copy)]
struct Keys {
    id_and_address: u64,
    address: u64,
    id: u64,
}

impl LoginRateLimiter {
    /// With budgets that all replicas share, in the first of these nodes, under hashes that need `key`. The connection is
    /// kept until `shutdown`.
    #[must_use]
    pub fn start(
        nodes: &redlock::Config,
        key: &str,
        metrics: &Arc<ClientMetrics>,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let shared = SharedBudgets::start(nodes, key, metrics, shutdown);
        Arc::new(Self { shared, ..Self::default() })
    }

    /// Charges a log-in.
    ///
    /// # Errors
    /// [`TooManyAttempts`]: a budget is empty, and none was charged.
    pub async fn charge_log_in(
        self: &Arc<Self>,
        id: &str,
        address: IpAddr,
    ) -> Result<LoginAttempt, TooManyAttempts> {
        let keys = self.keys(id, address);
        let shared = self.charge_shared(|shared| shared.log_in(id, network(address))).await?;
        let charged = self.state().charge(keys, Instant::now(), shared.is_none());
        if let Err(refused) = charged {
            self.settle(shared.as_ref(), false).await;
            return Err(refused);
        }
        Ok(LoginAttempt { limiter: Arc::clone(self), keys, shared })
    }

    /// Charges a sign-up.
    ///
    /// # Errors
    /// [`TooManyAttempts`]: the budget is empty, and was not charged.
    pub async fn charge_sign_up(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<SignUpAttempt, TooManyAttempts> {
        let network = network(address);
        let shared = self.charge_shared(|shared| shared.sign_up(network)).await?;
        let (address, now) = (self.hasher.hash_one(network), Instant::now());
        let charged = self.state().sign_ups_by_address.charge(SIGN_UPS_PER_ADDRESS, address, now);
        if let Err(refused) = charged {
            self.settle(shared.as_ref(), false).await;
            return Err(refused);
        }
        Ok(SignUpAttempt { limiter: Arc::clone(self), address, shared })
    }

    /// What was charged at the shared budgets; `None`: they are away.
    async fn charge_shared(
        &self,
        charges: impl FnOnce(&SharedBudgets) -> Charges,
    ) -> Result<Option<Charges>, TooManyAttempts> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let charges = charges(shared);
        match shared.charge(&charges).await {
            Charged::Yes => Ok(Some(charges)),
            Charged::No(refused) => Err(refused),
            Charged::Unknown => Ok(None),
        }
    }

    /// Gives back what was charged at the shared budgets.
    async fn settle(&self, charges: Option<&Charges>, succeeded: bool) {
        if let (Some(shared), Some(charges)) = (&self.shared, charges) {
            shared.settle(charges, succeeded).await;
        }
    }

    fn keys(&self, id: &str, address: IpAddr) -> Keys {
        let address = network(address);
        Keys {
            id_and_address: self.hasher.hash_one((id, address)),
            address: self.hasher.hash_one(address),
            id: self.hasher.hash_one(id),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoginAttempt {
    /// The password was right: refunds the charge and remembers the address for this id.
    pub async fn succeeded(self) {
        self.limiter.state().succeed(self.keys, Instant::now());
        self.limiter.settle(self.shared.as_ref(), true).await;
    }

    /// The password was not checked: refunds the charge.
    pub async fn refund(self) {
        self.limiter.state().refund(self.keys);
        self.limiter.settle(self.shared.as_ref(), false).await;
    }
}

impl SignUpAttempt {
    /// No password was hashed: refunds the charge.
    pub async fn refund(self) {
        self.limiter.state().sign_ups_by_address.refund(SIGN_UPS_PER_ADDRESS, self.address);
        self.limiter.settle(self.shared.as_ref(), false).await;
    }
}

impl State {
    /// `limits_id`: whether an empty budget of the id refuses the attempt.
    fn charge(&mut self, keys: Keys, now: Instant, limits_id: bool) -> Result<(), TooManyAttempts> {
        let known = self.last_success.0.contains_key(&keys.id_and_address);
        let id_and_address =
            self.by_id_and_address.after_charge(PER_ID_AND_ADDRESS, keys.id_and_address, now)?;
        let address = self.by_address.after_charge(PER_ADDRESS, keys.address, now)?;
        if !known {
            let charged = self.by_id.charge(PER_ID, keys.id, now);
            if limits_id {
                charged?;
            }
        }
        self.by_id_and_address.insert(keys.id_and_address, id_and_address);
        self.by_address.insert(keys.address, address);
        Ok(())
    }

    fn succeed(&mut self, keys: Keys, now: Instant) {
        self.refund(keys);
        self.by_id_and_address.0.remove(&keys.id_and_address);
        self.last_success.insert(keys.id_and_address, now);
    }

    fn refund(&mut self, keys: Keys) {
        let known = self.last_success.0.contains_key(&keys.id_and_address);
        self.by_id_and_address.refund(PER_ID_AND_ADDRESS, keys.id_and_address);
        self.by_address.refund(PER_ADDRESS, keys.address);
        if !known {
            self.by_id.refund(PER_ID, keys.id);
        }
    }
}

/// Times by hashed key, at most [`CAPACITY`]. For a budget: when it will be full again.
#[derive(Debug, Default)]
struct DeadlineMap(HashMap<u64, Instant>);

impl DeadlineMap {
    fn charge(&mut self, budget: Budget, key: u64, now: Instant) -> Result<(), TooManyAttempts> {
        let full_at = self.after_charge(budget, key, now)?;
        self.insert(key, full_at);
        Ok(())
    }

    /// When the budget will be full again if one more attempt is charged now.
    fn after_charge(
        &self,
        budget: Budget,
        key: u64,
        now: Instant,
    ) -> Result<Instant, TooManyAttempts> {
        let full_at = self.0.get(&key).map_or(now, |&full_at| full_at.max(now)) + budget.refill;
        let refill_all = budget.refill * budget.attempts;
        match (full_at - now).checked_sub(refill_all) {
            None | Some(Duration::ZERO) => Ok(full_at),
            Some(retry_after) => Err(TooManyAttempts { retry_after }),
        }
    }

    fn refund(&mut self, budget: Budget, key: u64) {
        if let Some(full_at) = self.0.get_mut(&key)
            && let Some(earlier) = full_at.checked_sub(budget.refill)
        {
            *full_at = earlier;
        }
    }

    fn insert(&mut self, key: u64, deadline: Instant) {
        if self.0.len() >= CAPACITY && !self.0.contains_key(&key) {
            // Evict the earliest quarter: the fullest budgets, or the oldest successes.
            let mut deadlines: Vec<Instant> = self.0.values().copied().collect();
            let (_, &mut limit, _) = deadlines.select_nth_unstable(CAPACITY / 4);
            self.0.retain(|_, deadline| *deadline > limit);
        }
        self.0.insert(key, deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: &str = "192.0.2.66";
    const HOME: &str = "192.0.2.1";

    struct World {
        limiter: Arc<LoginRateLimiter>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { limiter: Arc::default(), now: Instant::now() }
        }

        fn keys(&self, id: &str, address: &str) -> Keys {
            self.limiter.keys(id, address.parse().unwrap())
        }

        fn charge(&self, id: &str, address: &str) -> Result<(), TooManyAttempts> {
            self.limiter.state().charge(self.keys(id, address), self.now, true)
        }

        fn succeed(&self, id: &str, address: &str) {
            self.charge(id, address).unwrap();
            self.limiter.state().succeed(self.keys(id, address), self.now);
        }

        /// Attempts until one is refused.
        fn spend(&self, id: &str, address: &str) -> usize {
            (0..1000).find(|_| self.charge(id, address).is_err()).unwrap()
        }
    }

    #[test]
    fn an_id_at_an_address_has_five_attempts_and_one_more_every_30_s() {
        let mut world = World::new();
        assert_eq!(world.spend("ann", ATTACKER), 5);
        let refused = world.charge("ann", ATTACKER).unwrap_err();
        assert_eq!(refused.retry_after, PER_ID_AND_ADDRESS.refill);
        world.now += PER_ID_AND_ADDRESS.refill;
        assert_eq!(world.spend("ann", ATTACKER), 1);
        // The budgets of other ids and addresses are untouched.
        assert_eq!(world.spend("bob", ATTACKER), 5);
        assert_eq!(world.spend("ann", HOME), 5);
        world.now += PER_ID_AND_ADDRESS.refill * 100;
        assert_eq!(world.spend("ann", ATTACKER), 5);
    }

    #[test]
    fn an_address_has_three_hundred_attempts_for_all_ids() {
        let world = World::new();
        let refused = (0..1000).find(|n| world.charge(&format!("user{n}"), ATTACKER).is_err());
        assert_eq!(refused, Some(300));
        assert!(world.charge("ann", HOME).is_ok());
    }

    #[test]
    fn a_thousand_addresses_get_fifty_and_never_lock_out_the_owners_address() {
        let mut world = World::new();
        world.succeed("ann", HOME);
        for _ in 0..3 {
            let from = |n: u32| format!("198.51.{}.{}", n / 200, n % 200);
            let accepted = (0..1000).filter(|&n| world.charge("ann", &from(n)).is_ok()).count();
            assert_eq!(accepted, 50);
            assert!(world.charge("ann", "203.0.113.1").is_err(), "a new address");
            world.succeed("ann", HOME);
            // The owner's address still has its own five.
            assert_eq!(world.spend("ann", HOME), 5);
            world.now += PER_ID.refill * PER_ID.attempts;
        }
    }

    #[test]
    fn a_right_or_unchecked_password_costs_nothing() {
        let world = World::new();
        for _ in 0..200 {
            world.succeed("ann", HOME);
            world.charge("bob", HOME).unwrap();
            world.limiter.state().refund(world.keys("bob", HOME));
        }
        assert_eq!(world.spend("bob", HOME), 5);
    }

    #[tokio::test]
    async fn an_address_has_thirty_sign_ups_and_one_more_every_second() {
        let world = World::new();
        let address: IpAddr = ATTACKER.parse().unwrap();
        let mut charged = Vec::new();
        let refused = loop {
            match world.limiter.charge_sign_up(address).await {
                Ok(attempt) => charged.push(attempt),
                Err(refused) => break refused,
            }
        };
        assert!((30..=31).contains(&charged.len()), "{}", charged.len());
        assert!(refused.retry_after <= SIGN_UPS_PER_ADDRESS.refill);
        // Other addresses and log-ins have budgets of their own. Unhashed passwords are refunded.
        assert!(world.limiter.charge_sign_up(HOME.parse().unwrap()).await.is_ok());
        assert!(world.charge("ann", ATTACKER).is_ok());
        for attempt in charged {
            attempt.refund().await;
        }
        assert!(world.limiter.charge_sign_up(address).await.is_ok());
    }

    #[test]
    fn memory_is_bounded_and_spent_budgets_stay_spent() {
        let world = World::new();
        let refused = world.spend("ann", ATTACKER);
        assert_eq!(refused, 5);
        let mut deadlines = DeadlineMap::default();
        deadlines.insert(0, world.now + PER_ID_AND_ADDRESS.refill * 5);
        for key in 1..3 * CAPACITY as u64 {
            deadlines.insert(key, world.now + PER_ID_AND_ADDRESS.refill);
            assert!(deadlines.0.len() <= CAPACITY);
        }
        assert!(deadlines.after_charge(PER_ID_AND_ADDRESS, 0, world.now).is_err());
    }
}
