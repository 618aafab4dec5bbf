//! Caps on connections that have not shown an identity yet.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_core::limits::Limit;

/// The unfinished handshakes, together and by client address. Clones share
/// them.
#[derive(Clone)]
pub(crate) struct Unfinished {
    counts: Arc<Mutex<Counts>>,
    most: usize,
    most_per_address: usize,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Of all.
    All,
    /// From this address.
    Address,
}

impl TooMany {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::All => "too_many",
            Self::Address => "too_many_from_address",
        }
    }

    /// What has struck.
    pub(crate) const fn limit(self) -> Limit {
        match self {
            Self::All => Limit::Handshakes,
            Self::Address => Limit::HandshakesPerAddress,
        }
    }
}

impl Unfinished {
    /// At most `most` at one time, and `most_per_address` of them from one
    /// address. Many honest clients may share an address behind a NAT, so the
    /// second is no small number.
    pub(crate) fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            counts: Arc::default(),
            most,
            most_per_address,
        }
    }

    /// A place for one more, kept until the guard is dropped.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Place, TooMany> {
        let origin = origin(address);
        let mut counts = self.lock();
        if counts.all >= self.most {
            return Err(TooMany::All);
        }
        let from_here = counts.by_address.entry(origin).or_default();
        if *from_here >= self.most_per_address {
            return Err(TooMany::Address);
        }
        *from_here += 1;
        counts.all += 1;
        Ok(Place {
            unfinished: self.clone(),
            origin,
        })
    }

    fn release(&self, origin: IpAddr) {
        let mut counts = self.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(from_there) = counts.by_address.get_mut(&origin) {
            *from_there = from_there.saturating_sub(1);
            if *from_there == 0 {
                counts.by_address.remove(&origin);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one unfinished handshake.
pub(crate) struct Place {
    unfinished: Unfinished,
    origin: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unfinished.release(self.origin);
    }
}

/// One client may have a whole IPv6 /64 to itself.
fn origin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn g10_one_address_cannot_take_all_places() {
        let unfinished = Unfinished::new(3, 2);
        let _kept = [
            unfinished.admit(ip("192.0.2.1")).ok().unwrap(),
            unfinished.admit(ip("192.0.2.1")).ok().unwrap(),
        ];
        assert_eq!(
            unfinished.admit(ip("192.0.2.1")).err(),
            Some(TooMany::Address)
        );
        let other = unfinished.admit(ip("192.0.2.2"));
        assert_eq!(unfinished.admit(ip("192.0.2.3")).err(), Some(TooMany::All));
        drop(other);
        assert!(unfinished.admit(ip("192.0.2.3")).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let unfinished = Unfinished::new(10, 1);
        let _kept = unfinished.admit(ip("2001:db8::1")).ok().unwrap();
        assert!(unfinished.admit(ip("2001:db8::2")).is_err());
        assert!(unfinished.admit(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_those_who_are_gone() {
        let unfinished = Unfinished::new(10, 10);
        drop(unfinished.admit(ip("192.0.2.1")));
        assert!(unfinished.lock().by_address.is_empty());
        assert_eq!(unfinished.lock().all, 0);
    }
}
