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
//! is refunded if the password was right. An unknown id is charged like a known one. The budgets live
//! in this replica's memory: `n` replicas allow `n` times as many attempts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client_address::network;

/// Entries of each [`DeadlineMap`], of about 16 bytes.
const CAPACITY: usize = 1 << 16;

/// A token bucket's size and speed.
#[derive(Debug, Clone, Copy)]
struct Budget {
    attempts: u32,
    /// Time until one attempt is refilled.
    refill: Duration,
}

const PER_ID_AND_ADDRESS: Budget = Budget { attempts: 5, refill: Duration::from_secs(30) };
const PER_ADDRESS: Budget = Budget { attempts: 300, refill: Duration::from_secs(1) };
const PER_ID: Budget = Budget { attempts: 50, refill: Duration::from_secs(10) };
const SIGN_UPS_PER_ADDRESS: Budget = Budget { attempts: 30, refill: Duration::from_secs(1) };

/// Limits attempts to log in and to sign up.
#[derive(Debug, Default)]
pub struct LoginRateLimiter {
    hasher: RandomState,
    state: Mutex<State>,
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
}

/// A charged sign-up. Dropping it keeps the charge.
#[derive(Debug)]
#[must_use]
pub struct SignUpAttempt {
    limiter: Arc<LoginRateLimiter>,
    address: u64,
}

#[derive(Debug, Clone, Copy)]
struct Keys {
    id_and_address: u64,
    address: u64,
    id: u64,
}

/// The budget is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct TooManyAttempts {
    /// Time until the next attempt is refilled.
    pub retry_after: Duration,
}

impl LoginRateLimiter {
    /// Charges a log-in.
    ///
    /// # Errors
    /// [`TooManyAttempts`]: a budget is empty, and none was charged.
    pub fn charge_log_in(
        self: &Arc<Self>,
        id: &str,
        address: IpAddr,
    ) -> Result<LoginAttempt, TooManyAttempts> {
        let keys = self.keys(id, address);
        self.state().charge(keys, Instant::now())?;
        Ok(LoginAttempt { limiter: Arc::clone(self), keys })
    }

    /// Charges a sign-up.
    ///
    /// # Errors
    /// [`TooManyAttempts`]: the budget is empty, and was not charged.
    pub fn charge_sign_up(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<SignUpAttempt, TooManyAttempts> {
        let address = self.hasher.hash_one(network(address));
        let now = Instant::now();
        self.state().sign_ups_by_address.charge(SIGN_UPS_PER_ADDRESS, address, now)?;
        Ok(SignUpAttempt { limiter: Arc::clone(self), address })
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
    pub fn succeeded(self) {
        let mut state = self.limiter.state();
        state.refund(self.keys);
        state.by_id_and_address.0.remove(&self.keys.id_and_address);
        state.last_success.insert(self.keys.id_and_address, Instant::now());
    }

    /// The password was not checked: refunds the charge.
    pub fn refund(self) {
        self.limiter.state().refund(self.keys);
    }
}

impl SignUpAttempt {
    /// No password was hashed: refunds the charge.
    pub fn refund(self) {
        self.limiter.state().sign_ups_by_address.refund(SIGN_UPS_PER_ADDRESS, self.address);
    }
}

impl State {
    fn charge(&mut self, keys: Keys, now: Instant) -> Result<(), TooManyAttempts> {
        let known = self.last_success.0.contains_key(&keys.id_and_address);
        let id_and_address =
            self.by_id_and_address.after_charge(PER_ID_AND_ADDRESS, keys.id_and_address, now)?;
        let address = self.by_address.after_charge(PER_ADDRESS, keys.address, now)?;
        if !known {
            self.by_id.charge(PER_ID, keys.id, now)?;
        }
        self.by_id_and_address.insert(keys.id_and_address, id_and_address);
        self.by_address.insert(keys.address, address);
        Ok(())
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
            self.limiter.state().charge(self.keys(id, address), self.now)
        }

        fn succeed(&self, id: &str, address: &str) {
            self.charge(id, address).unwrap();
            let keys = self.keys(id, address);
            LoginAttempt { limiter: Arc::clone(&self.limiter), keys }.succeeded();
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
            let keys = world.keys("bob", HOME);
            LoginAttempt { limiter: Arc::clone(&world.limiter), keys }.refund();
        }
        assert_eq!(world.spend("bob", HOME), 5);
    }

    #[test]
    fn an_address_has_thirty_sign_ups_and_one_more_every_second() {
        let world = World::new();
        let address: IpAddr = ATTACKER.parse().unwrap();
        let charged: Vec<_> =
            std::iter::from_fn(|| world.limiter.charge_sign_up(address).ok()).collect();
        assert!((30..=31).contains(&charged.len()), "{}", charged.len());
        let refused = world.limiter.charge_sign_up(address).unwrap_err();
        assert!(refused.retry_after <= SIGN_UPS_PER_ADDRESS.refill);
        // Other addresses and log-ins have budgets of their own. Unhashed passwords are refunded.
        assert!(world.limiter.charge_sign_up(HOME.parse().unwrap()).is_ok());
        assert!(world.charge("ann", ATTACKER).is_ok());
        charged.into_iter().for_each(SignUpAttempt::refund);
        assert!(world.limiter.charge_sign_up(address).is_ok());
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
