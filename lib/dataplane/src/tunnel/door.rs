//! What is known of one gateway: its addresses, the connections to them, and
//! whether the link is good enough for traffic.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_core::balance::pick_two;
use tokio::sync::{Notify, watch};

use super::{
    TunnelError,
    damping::Damping,
    outer::{End, Mark, Outer},
    plan::{self, Phase, Step},
    report::LinkReport,
};

/// Addresses of one gateway that are known at one time.
const MOST_ADDRESSES: usize = 8;
/// A gateway that nobody asked about for so long is left, once its last tunnel
/// has ended.
const IDLE: Duration = Duration::from_secs(300);
/// A connection that broke sooner does not speak for its address.
const LASTING: Duration = Duration::from_secs(30);

/// One gateway, shared by those who want tunnels and the task that keeps the
/// connections.
pub(super) struct Door {
    link: Arc<str>,
    state: Mutex<State>,
    /// Told when something is new for those who wait for a connection.
    changed: watch::Sender<()>,
    /// Told when there may be something to do for the keeper.
    pub(super) poked: Notify,
}

struct State {
    ways: Vec<Way>,
    damping: Damping,
    /// Whether its names were resolved, or could not be.
    is_resolved: bool,
    trouble: Option<Trouble>,
    dialled: Option<Instant>,
    used: Instant,
    opened: u64,
    failed: BTreeMap<&'static str, u64>,
}

/// One address of the gateway.
struct Way {
    address: IpAddr,
    contact: Contact,
    failures: u32,
}

enum Contact {
    Idle,
    Dialling,
    Live { outer: Outer, since: Instant },
    Resting(Instant),
}

/// Why there was no connection the last time.
#[derive(Clone)]
struct Trouble {
    said: Arc<str>,
    reason: &'static str,
}

/// What who wants a tunnel gets.
enum Verdict {
    Use(Outer),
    /// Something is going on that may lead to a connection.
    Wait,
    No(Option<Trouble>),
}

impl Door {
    pub(super) fn new(link: Arc<str>, now: Instant) -> Self {
        Self {
            link,
            state: Mutex::new(State {
                ways: Vec::new(),
                damping: Damping::default(),
                is_resolved: false,
                trouble: None,
                dialled: None,
                used: now,
                opened: 0,
                failed: BTreeMap::new(),
            }),
            changed: watch::Sender::default(),
            poked: Notify::new(),
        }
    }

    /// A connection that takes one more stream, as soon as there is one.
    pub(super) async fn connection(&self) -> Result<Outer, TunnelError> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let verdict = self.lock().verdict(Instant::now());
            match verdict {
                Verdict::Use(outer) => return Ok(outer),
                Verdict::No(trouble) => return Err(self.resting(trouble)),
                Verdict::Wait => {
                    // One that has sent us away may be all there is.
                    self.poked.notify_one();
                    // It cannot fail: the sender is ours.
                    let _ = changed.changed().await;
                }
            }
        }
    }

    fn resting(&self, trouble: Option<Trouble>) -> TunnelError {
        let trouble = trouble.unwrap_or_else(|| Trouble {
            said: "it has no address".into(),
            reason: "unreachable",
        });
        TunnelError::Resting {
            link: self.link.clone(),
            said: trouble.said,
            reason: trouble.reason,
        }
    }

    /// Whether traffic that could go elsewhere should come here.
    pub(super) fn is_available(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.used = now;
        state.damping.is_available(now)
    }

    pub(super) fn used(&self, now: Instant) {
        self.lock().used = now;
    }

    pub(super) fn last_use(&self) -> Instant {
        self.lock().used
    }

    /// Whether nobody needs it any more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let state = self.lock();
        let carries = |way: &Way| way.live().is_some_and(|outer| outer.streams() > 0);
        now.saturating_duration_since(state.used) >= IDLE && !state.ways.iter().any(carries)
    }

    /// Lets those go that sent us away, and says which address is to be dialled
    /// now, if any, or when to ask again. The address counts as being dialled.
    pub(super) fn next_dial(&self, now: Instant) -> Result<IpAddr, Option<Instant>> {
        let mut state = self.lock();
        for way in &mut state.ways {
            way.leave_if_closing();
        }
        let phases: Vec<Phase> = state.ways.iter().map(Way::phase).collect();
        match plan::next_step(&phases, state.dialled, now) {
            Step::Dial(at) => match state.ways.get_mut(at) {
                Some(way) => {
                    way.contact = Contact::Dialling;
                    let address = way.address;
                    state.dialled = Some(now);
                    Ok(address)
                }
                None => Err(None),
            },
            Step::Wait(until) => Err(Some(until)),
            Step::Nothing => Err(None),
        }
    }

    /// An address answered.
    pub(super) fn connected(&self, address: IpAddr, outer: Outer, now: Instant) {
        let mut state = self.lock();
        if let Some(way) = state.way(address) {
            way.contact = Contact::Live { outer, since: now };
            state.trouble = None;
            state.damping.found(now);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// An address did not.
    pub(super) fn failed(&self, address: IpAddr, error: &TunnelError, now: Instant) {
        let mut state = self.lock();
        state.trouble = Some(Trouble {
            said: error.to_string().into(),
            reason: error.reason(),
        });
        if let Some(way) = state.way(address) {
            way.rest(now);
        }
        // Others may still answer.
        if state.ways.iter().all(Way::is_hopeless) {
            state.damping.lost(now);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// A connection has ended.
    pub(super) fn ended(&self, mark: &Mark, end: End, now: Instant) {
        let mut state = self.lock();
        let is_it = |way: &&mut Way| way.live().is_some_and(|live| live.has(mark));
        if let Some(way) = state.ways.iter_mut().find(is_it) {
            way.ended(end, now);
            if end == End::Dead && !state.ways.iter().any(Way::is_usable) {
                state.damping.lost(now);
            }
        }
        drop(state);
        self.changed.send_replace(());
        self.poked.notify_one();
    }

    /// The gateway's names lead to these addresses now. Connections to others
    /// take no new stream.
    pub(super) fn resolved(&self, addresses: &[IpAddr]) {
        let mut state = self.lock();
        state.is_resolved = true;
        state.ways.retain(|way| {
            let stays = addresses.contains(&way.address);
            if let (false, Some(outer)) = (stays, way.live()) {
                outer.retire();
            }
            stays
        });
        for address in addresses {
            if state.ways.len() < MOST_ADDRESSES && state.way(*address).is_none() {
                state.ways.push(Way::new(*address));
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// The gateway's names lead nowhere, and never have.
    pub(super) fn unresolved(&self, error: &impl ToString, now: Instant) {
        let mut state = self.lock();
        state.is_resolved = true;
        state.trouble = Some(Trouble {
            said: error.to_string().into(),
            reason: "unresolved",
        });
        state.damping.lost(now);
        drop(state);
        self.changed.send_replace(());
    }

    /// Lets all connections end with their last tunnel.
    pub(super) fn close(&self) {
        self.lock().ways.clear();
    }

    /// Counts a tunnel that was asked for.
    pub(super) fn count(&self, result: Result<(), &TunnelError>) {
        let mut state = self.lock();
        match result {
            Ok(()) => state.opened += 1,
            Err(error) => *state.failed.entry(error.reason()).or_default() += 1,
        }
    }

    pub(super) fn report(&self, now: Instant) -> LinkReport {
        let state = self.lock();
        let mut report = LinkReport {
            link: self.link.clone(),
            is_available: state.damping.is_available(now),
            opened: state.opened,
            failed: state.failed.clone(),
            ..LinkReport::default()
        };
        for way in &state.ways {
            *match way.phase() {
                Phase::Live => &mut report.live,
                Phase::Dialling => &mut report.dialling,
                Phase::Resting(_) => &mut report.resting,
                Phase::Idle => &mut report.idle,
            } += 1;
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn way(&mut self, address: IpAddr) -> Option<&mut Way> {
        self.ways.iter_mut().find(|way| way.address == address)
    }

    /// The less loaded of two live ways, or whether waiting for one makes sense.
    fn verdict(&mut self, now: Instant) -> Verdict {
        self.used = now;
        let usable: Vec<&Outer> = self.ways.iter().filter_map(Way::usable).collect();
        let streams = |at: usize| usable.get(at).map(|outer| outer.streams());
        let is_lighter = |second, first| streams(second) < streams(first);
        let dice: (u32, u32) = rand::random();
        let dice = (dice.0 as usize, dice.1 as usize);
        let chosen = pick_two(usable.len(), dice, is_lighter).and_then(|at| usable.get(at));
        if let Some(outer) = chosen {
            return Verdict::Use((*outer).clone());
        }
        let rests = |way: &Way| matches!(way.contact, Contact::Resting(until) if until > now);
        if self.is_resolved && self.ways.iter().all(rests) {
            Verdict::No(self.trouble.clone())
        } else {
            Verdict::Wait
        }
    }
}

impl Way {
    const fn new(address: IpAddr) -> Self {
        Self {
            address,
            contact: Contact::Idle,
            failures: 0,
        }
    }

    const fn phase(&self) -> Phase {
        match &self.contact {
            Contact::Idle => Phase::Idle,
            Contact::Dialling => Phase::Dialling,
            Contact::Live { .. } => Phase::Live,
            Contact::Resting(until) => Phase::Resting(*until),
        }
    }

    const fn live(&self) -> Option<&Outer> {
        match &self.contact {
            Contact::Live { outer, .. } => Some(outer),
            Contact::Idle | Contact::Dialling | Contact::Resting(_) => None,
        }
    }

    /// A connection that takes one more stream.
    fn usable(&self) -> Option<&Outer> {
        self.live()
            .filter(|outer| !outer.is_closing() && !outer.is_full())
    }

    fn is_usable(&self) -> bool {
        self.live().is_some_and(|outer| !outer.is_closing())
    }

    /// Whether nothing can be expected of it for now.
    const fn is_hopeless(&self) -> bool {
        matches!(self.contact, Contact::Resting(_))
    }

    /// One that takes no more streams is left to those it has, and another is
    /// opened: behind the address there may be another gateway.
    fn leave_if_closing(&mut self) {
        if self.live().is_some() && self.usable().is_none() {
            self.contact = Contact::Idle;
        }
    }

    fn ended(&mut self, end: End, now: Instant) {
        let Contact::Live { since, .. } = self.contact else {
            return;
        };
        let lasted = now.saturating_duration_since(since) >= LASTING;
        if lasted || end == End::Done {
            // Who takes over may be there already.
            self.failures = 0;
            self.contact = Contact::Idle;
        } else {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        let rest = plan::rest(self.failures, rand::random());
        self.failures = self.failures.saturating_add(1);
        self.contact = Contact::Resting(now + rest);
    }
}
