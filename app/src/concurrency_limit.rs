//! Limits how many operations run at a time, in total and for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client_address::network;

/// Limits concurrent listeners or log-ins.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    total: usize,
    /// For one IPv4 address, or one IPv6 network of 64 bits.
    per_address: usize,
    in_use: Mutex<InUse>,
}

#[derive(Debug, Default)]
struct InUse {
    total: usize,
    /// Without addresses that hold no permit.
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitReached {
    Total,
    PerAddress,
}

/// Counts against the limit until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    limit: Arc<ConcurrencyLimit>,
    address: IpAddr,
}

impl ConcurrencyLimit {
    pub(crate) fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, in_use: Mutex::default() })
    }

    /// Number of permits in use.
    pub(crate) fn in_use(&self) -> usize {
        self.lock().total
    }

    /// # Errors
    /// [`LimitReached`]
    pub(crate) fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Result<Permit, LimitReached> {
        let address = network(address);
        let mut in_use = self.lock();
        if in_use.total >= self.total {
            return Err(LimitReached::Total);
        }
        // Checked before an entry is made: a refused address takes no memory.
        let here = in_use.by_address.get(&address).map_or(0, |&here| here);
        if here >= self.per_address {
            return Err(LimitReached::PerAddress);
        }
        in_use.by_address.insert(address, here + 1);
        in_use.total += 1;
        Ok(Permit { limit: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut in_use = self.limit.lock();
        in_use.total -= 1;
        if let Some(here) = in_use.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                in_use.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest() {
        let limit = ConcurrencyLimit::new(5, 2);
        let first = limit.try_acquire(address("2001:db8:1:2::1")).unwrap();
        let _second = limit.try_acquire(address("2001:db8:1:2:3:4:5:6")).unwrap();
        let same = limit.try_acquire(address("2001:db8:1:2::9"));
        assert!(matches!(same, Err(LimitReached::PerAddress)), "one network of 64 bits");
        let _others = ["192.0.2.1", "192.0.2.2", "2001:db8:1:3::1"]
            .map(|other| limit.try_acquire(address(other)).unwrap());
        let full = limit.try_acquire(address("192.0.2.3"));
        assert!(matches!(full, Err(LimitReached::Total)));
        assert_eq!(limit.in_use(), 5);
        drop(first);
        let _again = limit.try_acquire(address("2001:db8:1:2::9")).unwrap();
    }

    #[test]
    fn an_address_without_a_permit_takes_no_memory() {
        let limit = ConcurrencyLimit::new(1, 0);
        assert!(limit.try_acquire(address("192.0.2.1")).is_err());
        assert!(limit.lock().by_address.is_empty());
        let limit = ConcurrencyLimit::new(2, 1);
        drop(limit.try_acquire(address("192.0.2.1")).unwrap());
        assert!(limit.lock().by_address.is_empty());
        assert_eq!(limit.in_use(), 0);
    }
}
