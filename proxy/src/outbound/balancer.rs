//! The endpoints of one backend: which are usable, and which is next.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_core::{
    balance::{PeakEwma, pick_two},
    destination::Endpoint,
};

/// How long an endpoint that cannot be reached is left alone, first and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// An endpoint, and what is known of it.
pub(crate) struct EndpointState {
    endpoint: Endpoint,
    pending: AtomicU32,
    health: Mutex<Health>,
}

struct Health {
    latency: PeakEwma,
    failures: u32,
    down_until: Option<Instant>,
}

impl EndpointState {
    pub(crate) const fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self {
            endpoint,
            pending: AtomicU32::new(0),
            health: Mutex::new(Health {
                latency: PeakEwma::new(now),
                failures: 0,
                down_until: None,
            }),
        }
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// It could not be reached: others are preferred for a while, longer with
    /// every further failure.
    pub(crate) fn failed(&self, now: Instant) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = SHORTEST.saturating_mul(2_u32.saturating_pow(health.failures));
        health.failures = health.failures.saturating_add(1);
        health.down_until = now.checked_add(pause.min(LONGEST));
    }

    /// It answered.
    pub(crate) fn answered(&self, latency: Duration, now: Instant) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.latency.observe(latency, now);
        health.failures = 0;
        health.down_until = None;
    }

    /// Counts a request as under way for as long as the guard lives.
    pub(crate) fn pending(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(self.clone())
    }

    fn is_usable(&self, now: Instant) -> bool {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.down_until.is_none_or(|until| until <= now)
    }

    fn load(&self, now: Instant) -> f64 {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health
            .latency
            .load(self.pending.load(Ordering::Relaxed), now)
    }
}

/// A request under way.
pub(crate) struct Pending(Arc<EndpointState>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The endpoints of one backend.
pub(crate) struct Balancer(Vec<Arc<EndpointState>>);

impl Balancer {
    pub(crate) const fn new(endpoints: Vec<Arc<EndpointState>>) -> Self {
        Self(endpoints)
    }

    /// The endpoints, whatever their state.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter().map(|state| state.endpoint())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.0.iter().any(|endpoint| endpoint.is_usable(now))
    }

    /// The better of two random endpoints among those that are usable, or
    /// among all if none is.
    pub(crate) fn pick(&self, now: Instant) -> Option<Arc<EndpointState>> {
        let mut candidates: Vec<_> = self.0.iter().filter(|e| e.is_usable(now)).collect();
        if candidates.is_empty() {
            candidates = self.0.iter().collect();
        }
        let load = |at: usize| candidates.get(at).map_or(f64::MAX, |e| e.load(now));
        let dice: (u32, u32) = rand::random();
        let dice = (dice.0 as usize, dice.1 as usize);
        let chosen = pick_two(candidates.len(), dice, load)?;
        candidates.get(chosen).map(|endpoint| (*endpoint).clone())
    }
}
