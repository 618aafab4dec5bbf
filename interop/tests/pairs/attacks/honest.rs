//! What a client that means no harm waits, beside others and beside nobody.
//!
//! All of it is measured in turns, so that what this machine does meanwhile concerns
//! everything alike.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mesh_pair::wait;
use tokio::runtime;

use super::DEADLINE;
use crate::{place::Place, wire::Wire};

/// Between two requests: it is no attacker.
const PAUSE: Duration = Duration::from_millis(2);
/// Requests of one turn beside nobody.
const SOME: usize = 70;

/// Whom it waits beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    Nobody,
    /// Others like it, which ask as much as they can.
    Clients,
    Resets,
    Floods,
}

/// What each request has waited.
pub(super) struct Waits(Vec<(Beside, Duration)>);

impl Waits {
    /// The 99th percentile.
    pub(super) fn late(&self, beside: Beside) -> Result<Duration> {
        let of_those = self.0.iter().filter(|(other, _)| *other == beside);
        let mut waits: Vec<Duration> = of_those.map(|(_, took)| *took).collect();
        ensure!(waits.len() >= 100, "{} requests {beside:?}", waits.len());
        waits.sort_unstable();
        Ok(waits[waits.len() * 99 / 100])
    }
}

/// A client on one connection.
#[derive(Default)]
pub(super) struct Honest {
    /// Whom each turn is beside: between two of them nothing counts.
    turns: Mutex<Vec<Option<Beside>>>,
    answered: AtomicUsize,
    is_over: AtomicBool,
}

impl Honest {
    /// What it waits while that is done, which says whom it is beside.
    pub(super) fn waits(
        place: &Place,
        to: SocketAddr,
        act: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Waits> {
        let honest = Self::default();
        thread::scope(|scope| {
            let client = scope.spawn(|| honest.asks(place, to));
            let acted = act(&honest);
            honest.is_over.store(true, Ordering::SeqCst);
            let waits = client
                .join()
                .ok()
                .context("the honest client has panicked")?;
            // What has gone wrong with the client is why nothing could be done.
            let waits = waits?;
            acted.map(|()| waits)
        })
    }

    /// A turn beside nobody.
    pub(super) fn alone(&self) -> Result<()> {
        let enough = self.answered.load(Ordering::SeqCst) + SOME;
        self.beside(Beside::Nobody, || {
            wait::until("the honest client is served", DEADLINE, || {
                Ok(self.answered.load(Ordering::SeqCst) >= enough)
            })
        })?;
        Ok(())
    }

    /// A turn as long as this takes.
    pub(super) fn beside<T>(&self, whom: Beside, act: impl FnOnce() -> T) -> T {
        let next = |turn| self.turns.lock().unwrap().push(turn);
        next(Some(whom));
        let done = act();
        next(None);
        done
    }

    fn asks(&self, place: &Place, to: SocketAddr) -> Result<Waits> {
        let turn = || {
            let turns = self.turns.lock().unwrap();
            (turns.len(), turns.last().copied().flatten())
        };
        // One runtime: a connection belongs to it.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let socket = place.connect_to(to)?;
        let mut wire = runtime.block_on(async { Wire::client(socket) })?;
        let mut waits = Vec::new();
        while !self.is_over.load(Ordering::SeqCst) {
            let (begun, start) = (turn(), Instant::now());
            runtime.block_on(async {
                wire.send("GET /bytes/100 HTTP/1.1\r\nhost: web\r\n\r\n")
                    .await?;
                wire.answer("GET").await
            })?;
            let took = start.elapsed();
            if let (_, Some(whom)) = begun
                && begun == turn()
            {
                waits.push((whom, took));
            }
            self.answered.fetch_add(1, Ordering::SeqCst);
            thread::sleep(PAUSE);
        }
        Ok(Waits(waits))
    }
}
