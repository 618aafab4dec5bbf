//! The endpoints of one backend: which are usable, and which is next.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_core::{
    balance::{Load, PeakEwma, pick_two},
    destination::Endpoint,
};

use super::way::Ways;

/// How long an endpoint that cannot be reached is left alone, first and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// So many endpoints refused by their gateway at one time are all out of date,
/// it seems: the others are not asked one by one.
const MANY_REFUSED: usize = 3;

/// Says whether an endpoint can be reached at all, as far as others than the
/// endpoint itself know: one behind a link only while the link is good.
pub(crate) type Reach = Arc<dyn Fn(&Endpoint, Instant) -> bool + Send + Sync>;

/// An endpoint, and what is known of it.
pub(crate) struct EndpointState {
    endpoint: Endpoint,
    reach: Option<Reach>,
    pending: AtomicU32,
    health: Mutex<Health>,
    /// To its sidecar.
    pub(super) ways: Ways,
}

struct Health {
    latency: PeakEwma,
    failures: u32,
    down_until: Option<Instant>,
    /// Its gateway says that there is no such endpoint.
    refused: bool,
}

impl EndpointState {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            reach: None,
            pending: AtomicU32::new(0),
            health: Mutex::new(Health {
                latency: PeakEwma::default(),
                failures: 0,
                down_until: None,
                refused: false,
            }),
            ways: Ways::default(),
        }
    }

    /// The same, usable only while it is in reach.
    pub(crate) fn within(self, reach: Option<Reach>) -> Self {
        Self { reach, ..self }
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

    /// Its gateway says that there is no such endpoint. It may not know of it
    /// yet, so it is asked again some time.
    pub(crate) fn refused(&self, now: Instant) {
        self.failed(now);
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.refused = true;
    }

    /// It answered.
    pub(crate) fn answered(&self, latency: Duration, now: Instant) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.latency.observe(latency, now);
        health.failures = 0;
        health.down_until = None;
        health.refused = false;
    }

    /// Requests that are under way.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Counts a request as under way for as long as the guard lives.
    pub(crate) fn pending(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(self.clone())
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.is_down(now) && self.reach.as_ref().is_none_or(|is| is(&self.endpoint, now))
    }

    fn is_down(&self, now: Instant) -> bool {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.down_until.is_some_and(|until| until > now)
    }

    fn is_refused(&self, now: Instant) -> bool {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.refused && health.down_until.is_some_and(|until| until > now)
    }

    fn load(&self, now: Instant) -> Load {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health
            .latency
            .load(self.pending.load(Ordering::Relaxed), now)
    }
}

/// Endpoints that one request or connection has been to in vain.
#[derive(Default)]
pub(crate) struct Tried(Vec<Arc<EndpointState>>);

impl Tried {
    pub(crate) fn add(&mut self, endpoint: Arc<EndpointState>) {
        self.0.push(endpoint);
    }

    fn has(&self, endpoint: &Arc<EndpointState>) -> bool {
        self.0.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }
}

/// Which endpoints are good enough, the choosiest first. One that has failed
/// this very request may be usable again by the next attempt, and still is not
/// the one to try next: a pod that swallows everything fails slowly, and looks
/// idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choosy {
    /// Usable, and not tried yet.
    Fresh,
    Usable,
    /// Not tried yet. All are down: the least bad is better than giving up.
    Untried,
    Any,
}

impl Choosy {
    pub(crate) const ALL: [Self; 4] = [Self::Fresh, Self::Usable, Self::Untried, Self::Any];

    fn takes(self, endpoint: &Arc<EndpointState>, tried: &Tried, now: Instant) -> bool {
        match self {
            Self::Fresh => endpoint.is_usable(now) && !tried.has(endpoint),
            Self::Usable => endpoint.is_usable(now),
            Self::Untried => !tried.has(endpoint),
            Self::Any => true,
        }
    }

    const fn wants_usable(self) -> bool {
        matches!(self, Self::Fresh | Self::Usable)
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
pub(crate) struct Balancer {
    endpoints: Vec<Arc<EndpointState>>,
    fallback: Option<Fallback>,
}

/// What stands for all endpoints of an export: the gateway picks one of them.
pub(crate) struct Fallback {
    pub(crate) endpoint: Arc<EndpointState>,
    /// Whether the endpoints are those that a silent peer named last. If they
    /// are not, and there is none, there is none behind the gateway either.
    pub(crate) is_stale: bool,
}

impl Balancer {
    pub(crate) const fn new(
        endpoints: Vec<Arc<EndpointState>>,
        fallback: Option<Fallback>,
    ) -> Self {
        Self {
            endpoints,
            fallback,
        }
    }

    /// The endpoints, whatever their state.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().map(|state| state.endpoint())
    }

    /// Whether there is an endpoint that is good enough.
    pub(crate) fn has(&self, choosy: Choosy, tried: &Tried, now: Instant) -> bool {
        let takes = |endpoint: &Arc<EndpointState>| choosy.takes(endpoint, tried, now);
        self.endpoints.iter().any(takes) || self.fallback(now).is_some_and(takes)
    }

    /// The next endpoint, as good as there is; what stands for all of them
    /// first, if it is its turn and usable.
    pub(crate) fn pick(&self, tried: &Tried, now: Instant) -> Option<Arc<EndpointState>> {
        let mut levels = Choosy::ALL.into_iter();
        levels.find_map(|choosy| self.pick_at(choosy, tried, now))
    }

    /// The better of two random endpoints among those that are good enough.
    fn pick_at(&self, choosy: Choosy, tried: &Tried, now: Instant) -> Option<Arc<EndpointState>> {
        let takes = |endpoint: &&Arc<EndpointState>| choosy.takes(endpoint, tried, now);
        let fallback = self.fallback(now).filter(takes);
        if let Some(fallback) = fallback
            && choosy.wants_usable()
        {
            return Some(fallback.clone());
        }
        let candidates = self.endpoints.iter().filter(takes);
        let candidates: Vec<_> = candidates.chain(fallback).collect();
        let load = |at: usize| candidates.get(at).map(|endpoint| endpoint.load(now));
        let is_lighter = |second, first| {
            let both = load(second).zip(load(first));
            both.is_some_and(|(second, first)| second.is_lighter_than(&first))
        };
        let dice: (u32, u32) = rand::random();
        let dice = (dice.0 as usize, dice.1 as usize);
        let chosen = pick_two(candidates.len(), dice, is_lighter)?;
        candidates.get(chosen).map(|endpoint| (*endpoint).clone())
    }

    /// What stands for all endpoints, if it is its turn: the gateway knows none
    /// of those that we know, or none of them can be reached.
    fn fallback(&self, now: Instant) -> Option<&Arc<EndpointState>> {
        let fallback = self.fallback.as_ref()?;
        let refused = self.endpoints.iter().filter(|e| e.is_refused(now)).count();
        let all_refused = refused > 0 && refused == self.endpoints.len();
        let out_of_date = all_refused || refused >= MANY_REFUSED;
        // That we are told nothing new shows late: whoever tells us may be gone.
        let may_be_elsewhere = fallback.is_stale || !self.endpoints.is_empty();
        let unreachable = || !self.endpoints.iter().any(|e| e.is_usable(now));
        let its_turn = out_of_date || (may_be_elsewhere && unreachable());
        its_turn.then_some(&fallback.endpoint)
    }
}

#[cfg(test)]
mod tests;
