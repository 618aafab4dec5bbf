//! A thread in a namespace that starts programs there. A program that wants to
//! end with its parent ends with the thread that has started it: so that thread
//! stays.

use std::{
    process::{Child, Command},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{Handle, pin};

/// It ends, and with it what it has started, when it is dropped.
pub(super) struct Starter {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    command: Command,
    /// Where the program is to be; on any if empty.
    cores: Vec<usize>,
    started: SyncSender<Result<Child>>,
}

impl Starter {
    /// Starts the thread in a namespace.
    pub(super) fn new(namespace: Handle) -> Result<Self> {
        let (orders, taken) = sync_channel(0);
        let (entered, is_there) = sync_channel(1);
        let thread = thread::spawn(move || {
            let inside = namespace.join().and_then(|()| all_cores());
            match inside {
                Ok(all) => {
                    let _ = entered.send(Ok(()));
                    serve(&taken, &all);
                }
                Err(error) => {
                    let _ = entered.send(Err(error));
                }
            }
        });
        let starter = Self {
            orders: Some(orders),
            thread: Some(thread),
        };
        is_there.recv().context("the thread has ended")??;
        Ok(starter)
    }

    pub(super) fn start(&self, cores: &[usize], command: Command) -> Result<Child> {
        let (started, outcome) = sync_channel(1);
        let order = Order {
            command,
            cores: cores.to_vec(),
            started,
        };
        let orders = self.orders.as_ref().context("the thread has ended")?;
        orders.send(order).ok().context("the thread has ended")?;
        outcome.recv().context("the thread has ended")?
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Those that this thread may run on.
fn all_cores() -> Result<CpuSet> {
    Ok(sched_getaffinity(Pid::from_raw(0))?)
}

fn serve(orders: &Receiver<Order>, all: &CpuSet) {
    for mut order in orders {
        let started = place(&order.cores, all).and_then(|()| Ok(order.command.spawn()?));
        // Whoever asked waits for it.
        let _ = order.started.send(started);
    }
}

/// A program runs where the thread is that starts it.
fn place(cores: &[usize], all: &CpuSet) -> Result<()> {
    if cores.is_empty() {
        Ok(sched_setaffinity(Pid::from_raw(0), all)?)
    } else {
        pin(cores)
    }
}
