//! How many connections anybody has at one time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_core::identity::SpiffeId;

/// Whose connections they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Somebody who has shown it.
    Identity(SpiffeId),
    /// Whoever is there, and shows no identity.
    Address(IpAddr),
}

/// The connections of all. Clones share them.
#[derive(Clone, Debug)]
pub struct Crowd {
    counts: Arc<Mutex<HashMap<Who, usize>>>,
    most: usize,
}

impl Crowd {
    /// Of which nobody has more than `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            counts: Arc::default(),
            most,
        }
    }

    /// A place for one more, until it is dropped; none if that would be too many.
    #[must_use]
    pub fn admit(&self, who: Who) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.entry(who.clone()).or_default();
        // (One that is refused has others, so that no empty entry stays behind.)
        if *count >= self.most {
            return None;
        }
        *count += 1;
        let crowd = self.clone();
        Some(Place { crowd, who })
    }

    fn leave(&self, who: &Who) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(who);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    who: Who,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.leave(&self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Who {
        Who::Address(text.parse().unwrap())
    }

    #[test]
    fn one_cannot_have_more_than_its_share_and_others_have_theirs() {
        for most in [1, 3] {
            let crowd = Crowd::new(most);
            let mut places: Vec<_> = (0..most)
                .map(|_| crowd.admit(address("10.0.0.1")).unwrap())
                .collect();
            assert!(crowd.admit(address("10.0.0.1")).is_none());
            let other = crowd.clone().admit(address("10.0.0.2"));
            let id = "spiffe://west/ns/shop/sa/web".parse().unwrap();
            let named = crowd.admit(Who::Identity(id));
            assert!(other.is_some() && named.is_some());
            places.pop();
            assert!(crowd.admit(address("10.0.0.1")).is_some());
        }
    }

    #[test]
    fn nothing_is_kept_of_those_who_are_gone() {
        let crowd = Crowd::new(1);
        let place = crowd.admit(address("10.0.0.1"));
        assert!(crowd.admit(address("10.0.0.1")).is_none());
        drop(place);
        assert!(crowd.lock().is_empty());
    }
}
