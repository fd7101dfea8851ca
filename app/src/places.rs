//! How many may do something at a time, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client_address::network;

/// Places, for listeners or for log-ins.
#[derive(Debug)]
pub(crate) struct Places {
    total: usize,
    /// For an address, or an IPv6 network of 64 bits.
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Those with a place.
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Full,
    /// The address has as many as it may.
    FullHere,
}

/// A place until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(crate) fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { total, per_address, taken: Mutex::default() })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().total
    }

    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let address = network(address);
        let mut taken = self.lock();
        if taken.total >= self.total {
            return Err(NoPlace::Full);
        }
        let here = taken.by_address.entry(address).or_default();
        if *here >= self.per_address {
            return Err(NoPlace::FullHere);
        }
        *here += 1;
        taken.total += 1;
        Ok(Place { places: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
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
        let places = Places::new(5, 2);
        let first = places.take(address("2001:db8:1:2::1")).unwrap();
        let _second = places.take(address("2001:db8:1:2:3:4:5:6")).unwrap();
        let same = places.take(address("2001:db8:1:2::9"));
        assert!(matches!(same, Err(NoPlace::FullHere)), "one network of 64 bits");
        let _others = ["192.0.2.1", "192.0.2.2", "2001:db8:1:3::1"]
            .map(|other| places.take(address(other)).unwrap());
        let full = places.take(address("192.0.2.3"));
        assert!(matches!(full, Err(NoPlace::Full)));
        assert_eq!(places.taken(), 5);
        drop(first);
        let _again = places.take(address("2001:db8:1:2::9")).unwrap();
    }

    #[test]
    fn an_address_without_a_place_takes_no_memory() {
        let places = Places::new(1, 0);
        assert!(places.take(address("192.0.2.1")).is_err());
        let places = Places::new(2, 1);
        drop(places.take(address("192.0.2.1")).unwrap());
        assert!(places.lock().by_address.is_empty());
        assert_eq!(places.taken(), 0);
    }
}
