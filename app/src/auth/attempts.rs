//! Bounds how often a password can be tried, so that none is guessed, and how many accounts one
//! address can make.
//!
//! Budgets, each refilled one by one. Of a log-in's three the first that is spent refuses it:
//!
//! - of an **id and an address** together: 5 attempts, and one more each 30 s;
//! - of an **address**, for all ids: 300 attempts, and one more each second: a proxy or an office may
//!   be behind it, with many who log in at once;
//! - of an **id**, from all addresses: 50 attempts, and one more each 10 s. It does not count where
//!   this id was used with success before: whoever attacks an account from a thousand addresses
//!   locks out the thousand and every new one, but never the addresses its owner is known at.
//!
//! A sign-up has one: of an **address**: 30, and one more each second. The 30 are fewer than may wait
//! to be hashed ([`Passwords`](super::Passwords)), so one address never fills that queue. Unlike a
//! log-in it costs what it costs, whether or not an account is made.
//!
//! An attempt is paid for before the password is looked at, or many at once would all be free, and
//! paid back when the password was right. An unknown id costs the same as a known one. All of it is
//! this replica's own and is forgotten with it: with `n` replicas an attacker has `n` times as much.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client_address::network;

/// Of each budget, and of the addresses that are known: 16 bytes each.
const CAPACITY: usize = 1 << 16;

/// What is refilled one by one.
#[derive(Debug, Clone, Copy)]
struct Budget {
    attempts: u32,
    refill: Duration,
}

const OF_PAIR: Budget = Budget { attempts: 5, refill: Duration::from_secs(30) };
const OF_ADDRESS: Budget = Budget { attempts: 300, refill: Duration::from_secs(1) };
const OF_ID: Budget = Budget { attempts: 50, refill: Duration::from_secs(10) };
const SIGN_UPS: Budget = Budget { attempts: 30, refill: Duration::from_secs(1) };

/// Counts attempts.
#[derive(Debug, Default)]
pub struct Attempts {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pairs: Moments,
    addresses: Moments,
    ids: Moments,
    /// When an id was last used with success at an address.
    known: Moments,
    /// Of an address.
    sign_ups: Moments,
}

/// An attempt that is paid for; dropped, it was a failure.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    attempts: Arc<Attempts>,
    keys: Keys,
}

/// A sign-up that is paid for.
#[derive(Debug)]
#[must_use]
pub struct SignUpAttempt {
    attempts: Arc<Attempts>,
    address: u64,
}

#[derive(Debug, Clone, Copy)]
struct Keys {
    pair: u64,
    address: u64,
    id: u64,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts")]
pub struct TooManyAttempts {
    /// When there is one again.
    pub retry_after: Duration,
}

impl Attempts {
    /// Pays for a log-in.
    ///
    /// # Errors
    /// [`TooManyAttempts`]; then nothing was paid.
    pub fn pay(self: &Arc<Self>, id: &str, address: IpAddr) -> Result<Attempt, TooManyAttempts> {
        let keys = self.keys(id, address);
        self.state().pay(keys, Instant::now())?;
        Ok(Attempt { attempts: Arc::clone(self), keys })
    }

    /// Pays for a sign-up.
    ///
    /// # Errors
    /// [`TooManyAttempts`]; then nothing was paid.
    pub fn pay_sign_up(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<SignUpAttempt, TooManyAttempts> {
        let address = self.hasher.hash_one(network(address));
        self.state().sign_ups.pay(SIGN_UPS, address, Instant::now())?;
        Ok(SignUpAttempt { attempts: Arc::clone(self), address })
    }

    fn keys(&self, id: &str, address: IpAddr) -> Keys {
        let address = network(address);
        Keys {
            pair: self.hasher.hash_one((id, address)),
            address: self.hasher.hash_one(address),
            id: self.hasher.hash_one(id),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The password was right: paid back, and the id is known at this address from now on.
    pub fn succeeded(self) {
        let mut state = self.attempts.state();
        state.pay_back(self.keys);
        state.pairs.0.remove(&self.keys.pair);
        state.known.put(self.keys.pair, Instant::now());
    }

    /// Nobody looked at the password: paid back.
    pub fn unused(self) {
        self.attempts.state().pay_back(self.keys);
    }
}

impl SignUpAttempt {
    /// No password was hashed: paid back.
    pub fn unused(self) {
        self.attempts.state().sign_ups.one_less(SIGN_UPS, self.address);
    }
}

impl State {
    fn pay(&mut self, keys: Keys, now: Instant) -> Result<(), TooManyAttempts> {
        let known = self.known.0.contains_key(&keys.pair);
        let pair = self.pairs.after_one_more(OF_PAIR, keys.pair, now)?;
        let address = self.addresses.after_one_more(OF_ADDRESS, keys.address, now)?;
        if !known {
            self.ids.pay(OF_ID, keys.id, now)?;
        }
        self.pairs.put(keys.pair, pair);
        self.addresses.put(keys.address, address);
        Ok(())
    }

    fn pay_back(&mut self, keys: Keys) {
        let known = self.known.0.contains_key(&keys.pair);
        self.pairs.one_less(OF_PAIR, keys.pair);
        self.addresses.one_less(OF_ADDRESS, keys.address);
        if !known {
            self.ids.one_less(OF_ID, keys.id);
        }
    }
}

/// Moments by key, at most [`CAPACITY`]; of a budget: when it is full again.
#[derive(Debug, Default)]
struct Moments(HashMap<u64, Instant>);

impl Moments {
    fn pay(&mut self, budget: Budget, key: u64, now: Instant) -> Result<(), TooManyAttempts> {
        let full_at = self.after_one_more(budget, key, now)?;
        self.put(key, full_at);
        Ok(())
    }

    fn after_one_more(
        &self,
        budget: Budget,
        key: u64,
        now: Instant,
    ) -> Result<Instant, TooManyAttempts> {
        let full_at = self.0.get(&key).map_or(now, |&full_at| full_at.max(now)) + budget.refill;
        let most = budget.refill * budget.attempts;
        match (full_at - now).checked_sub(most) {
            None | Some(Duration::ZERO) => Ok(full_at),
            Some(retry_after) => Err(TooManyAttempts { retry_after }),
        }
    }

    fn one_less(&mut self, budget: Budget, key: u64) {
        if let Some(full_at) = self.0.get_mut(&key)
            && let Some(before) = full_at.checked_sub(budget.refill)
        {
            *full_at = before;
        }
    }

    fn put(&mut self, key: u64, moment: Instant) {
        if self.0.len() >= CAPACITY && !self.0.contains_key(&key) {
            // The quarter that matters least: nearly full, or known for longest.
            let mut moments: Vec<Instant> = self.0.values().copied().collect();
            let (_, &mut limit, _) = moments.select_nth_unstable(CAPACITY / 4);
            self.0.retain(|_, moment| *moment > limit);
        }
        self.0.insert(key, moment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: &str = "192.0.2.66";
    const HOME: &str = "192.0.2.1";

    struct World {
        attempts: Arc<Attempts>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { attempts: Arc::default(), now: Instant::now() }
        }

        fn keys(&self, id: &str, address: &str) -> Keys {
            self.attempts.keys(id, address.parse().unwrap())
        }

        fn pay(&self, id: &str, address: &str) -> Result<(), TooManyAttempts> {
            self.attempts.state().pay(self.keys(id, address), self.now)
        }

        fn succeed(&self, id: &str, address: &str) {
            self.pay(id, address).unwrap();
            let keys = self.keys(id, address);
            Attempt { attempts: Arc::clone(&self.attempts), keys }.succeeded();
        }

        /// Attempts until one is refused.
        fn spend(&self, id: &str, address: &str) -> usize {
            (0..1000).find(|_| self.pay(id, address).is_err()).unwrap()
        }
    }

    #[test]
    fn an_id_at_an_address_has_five_attempts_and_one_more_each_half_minute() {
        let mut world = World::new();
        assert_eq!(world.spend("ann", ATTACKER), 5);
        let refused = world.pay("ann", ATTACKER).unwrap_err();
        assert_eq!(refused.retry_after, OF_PAIR.refill);
        world.now += OF_PAIR.refill;
        assert_eq!(world.spend("ann", ATTACKER), 1);
        // Neither another id nor another address pays for it.
        assert_eq!(world.spend("bob", ATTACKER), 5);
        assert_eq!(world.spend("ann", HOME), 5);
        world.now += OF_PAIR.refill * 100;
        assert_eq!(world.spend("ann", ATTACKER), 5);
    }

    #[test]
    fn an_address_has_three_hundred_for_all_ids() {
        let world = World::new();
        let refused = (0..1000).find(|n| world.pay(&format!("user{n}"), ATTACKER).is_err());
        assert_eq!(refused, Some(300));
        assert!(world.pay("ann", HOME).is_ok());
    }

    #[test]
    fn a_thousand_addresses_get_fifty_and_never_lock_out_where_the_owner_is_known() {
        let mut world = World::new();
        world.succeed("ann", HOME);
        for _ in 0..3 {
            let from = |n: u32| format!("198.51.{}.{}", n / 200, n % 200);
            let accepted = (0..1000).filter(|&n| world.pay("ann", &from(n)).is_ok()).count();
            assert_eq!(accepted, 50);
            assert!(world.pay("ann", "203.0.113.1").is_err(), "a new address");
            world.succeed("ann", HOME);
            // The owner has five of their own, as everybody.
            assert_eq!(world.spend("ann", HOME), 5);
            world.now += OF_ID.refill * OF_ID.attempts;
        }
    }

    #[test]
    fn what_was_right_or_not_looked_at_costs_nothing() {
        let world = World::new();
        for _ in 0..200 {
            world.succeed("ann", HOME);
            world.pay("bob", HOME).unwrap();
            let keys = world.keys("bob", HOME);
            Attempt { attempts: Arc::clone(&world.attempts), keys }.unused();
        }
        assert_eq!(world.spend("bob", HOME), 5);
    }

    #[test]
    fn an_address_has_thirty_sign_ups_and_one_more_each_second() {
        let world = World::new();
        let address: IpAddr = ATTACKER.parse().unwrap();
        let paid: Vec<_> =
            std::iter::from_fn(|| world.attempts.pay_sign_up(address).ok()).collect();
        assert!((30..=31).contains(&paid.len()), "{}", paid.len());
        let refused = world.attempts.pay_sign_up(address).unwrap_err();
        assert!(refused.retry_after <= SIGN_UPS.refill);
        // Neither another address nor a log-in pays for it, and what was not hashed is free.
        assert!(world.attempts.pay_sign_up(HOME.parse().unwrap()).is_ok());
        assert!(world.pay("ann", ATTACKER).is_ok());
        paid.into_iter().for_each(SignUpAttempt::unused);
        assert!(world.attempts.pay_sign_up(address).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_what_was_spent_stays_known() {
        let world = World::new();
        let refused = world.spend("ann", ATTACKER);
        assert_eq!(refused, 5);
        let mut moments = Moments::default();
        moments.put(0, world.now + OF_PAIR.refill * 5);
        for key in 1..3 * CAPACITY as u64 {
            moments.put(key, world.now + OF_PAIR.refill);
            assert!(moments.0.len() <= CAPACITY);
        }
        assert!(moments.after_one_more(OF_PAIR, 0, world.now).is_err());
    }
}
