//! Connections shared out among workers, each a thread with a runtime of its own.
//!
//! One runtime accepts and hands over. Listeners of the workers' own
//! (`SO_REUSEPORT`) would leave the choice to a hash of addresses: of few
//! connections that live long, as those between sidecars are, it gives several to
//! one worker and none to another, for as long as they live. Who accepts all of
//! them knows what each worker has. That costs two system calls and a wake-up for
//! a connection that goes to another thread, and nothing for a request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{net::TcpStream, runtime::Handle};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::accept::Accepted;

/// Who has dialled. The connections of each kind are shared out evenly by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialler {
    /// Nobody knows how long such a connection lives, and what it carries.
    Client,
    /// Another sidecar or gateway: one of few connections, for long, with many
    /// streams.
    Peer,
}

/// Gives connections to workers. Clones know of each other's.
#[derive(Clone, Debug)]
pub struct Spread {
    workers: Arc<[Handle]>,
    loads: Arc<Mutex<Loads>>,
}

impl Spread {
    /// Over these workers, of which the first is the one that accepts. With one or
    /// none all connections stay where they are accepted.
    #[must_use]
    pub fn over(workers: &[Handle]) -> Self {
        Self {
            workers: workers.into(),
            loads: Arc::new(Mutex::new(Loads::of(workers.len()))),
        }
    }

    /// Spawns what `carry` makes of a worker's number and the connection, on that
    /// worker, as one of `tasks`. The worker is the one with the fewest connections
    /// of such diallers, then of all; those that have as many take turns.
    pub fn spawn<Life>(
        &self,
        tasks: &TaskTracker,
        accepted: Accepted,
        dialler: impl FnOnce(&TcpStream) -> Dialler,
        carry: impl FnOnce(usize, Accepted) -> Life + Send + 'static,
    ) where
        Life: Future<Output = ()> + Send + 'static,
    {
        if self.workers.len() <= 1 {
            tasks.spawn(carry(0, accepted));
            return;
        }
        let share = self.share(dialler(&accepted.stream));
        let worker = share.worker;
        let accepted = accepted.counted(share);
        if worker == 0 {
            tasks.spawn(carry(0, accepted));
            return;
        }
        let moving = match accepted.leave() {
            Ok(moving) => moving,
            Err(error) => return debug!(%error, "connection gone before it was handed over"),
        };
        let moved = async move {
            match moving.arrive() {
                Ok(accepted) => carry(worker, accepted).await,
                Err(error) => debug!(%error, "connection gone while it was handed over"),
            }
        };
        tasks.spawn_on(moved, &self.workers[worker]);
    }

    /// How many connections each worker has; none are counted if there is but one
    /// worker.
    #[must_use]
    pub fn connections(&self) -> Vec<usize> {
        let loads = self.lock();
        loads.workers.iter().map(Load::all).collect()
    }

    fn share(&self, dialler: Dialler) -> Share {
        Share {
            worker: self.lock().take(dialler),
            dialler,
            spread: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those of its worker, free again when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    worker: usize,
    dialler: Dialler,
    spread: Spread,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.spread.lock().give_back(self.worker, self.dialler);
    }
}

/// What the workers carry.
#[derive(Debug)]
struct Loads {
    workers: Vec<Load>,
    /// Whose turn it is among those that have as much.
    next: usize,
}

/// How many connections one has.
#[derive(Clone, Debug, Default)]
struct Load {
    clients: usize,
    peers: usize,
}

impl Loads {
    fn of(workers: usize) -> Self {
        Self {
            workers: vec![Load::default(); workers],
            next: 0,
        }
    }

    /// Counts one more connection as that worker's which has the least.
    fn take(&mut self, dialler: Dialler) -> usize {
        let count = self.workers.len();
        let in_turn = (self.next..count).chain(0..self.next);
        let least = in_turn.min_by_key(|at| {
            let load = &self.workers[*at];
            (load.of(dialler), load.all())
        });
        let Some(chosen) = least else { return 0 };
        *self.workers[chosen].of_mut(dialler) += 1;
        self.next = (chosen + 1) % count;
        chosen
    }

    fn give_back(&mut self, worker: usize, dialler: Dialler) {
        *self.workers[worker].of_mut(dialler) -= 1;
    }
}

impl Load {
    const fn of(&self, dialler: Dialler) -> usize {
        match dialler {
            Dialler::Client => self.clients,
            Dialler::Peer => self.peers,
        }
    }

    const fn of_mut(&mut self, dialler: Dialler) -> &mut usize {
        match dialler {
            Dialler::Client => &mut self.clients,
            Dialler::Peer => &mut self.peers,
        }
    }

    const fn all(&self) -> usize {
        self.clients + self.peers
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        runtime,
        sync::oneshot,
        time::timeout,
    };

    use super::*;
    use crate::{accept::Acceptor, listen::listen};

    /// Which workers so many connections of one kind go to.
    fn taken<const N: usize>(loads: &mut Loads, dialler: Dialler) -> [usize; N] {
        std::array::from_fn(|_| loads.take(dialler))
    }

    #[test]
    fn those_that_stay_are_shared_out_evenly() {
        let mut loads = Loads::of(3);
        assert_eq!(taken(&mut loads, Dialler::Peer), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn those_that_come_and_go_take_turns() {
        let mut loads = Loads::of(2);
        let come_and_go = |loads: &mut Loads| {
            let worker = loads.take(Dialler::Client);
            loads.give_back(worker, Dialler::Client);
            worker
        };
        let workers: [usize; 4] = std::array::from_fn(|_| come_and_go(&mut loads));
        assert_eq!(workers, [0, 1, 0, 1]);
    }

    #[test]
    fn those_that_come_and_go_do_not_bring_peers_together() {
        let mut loads = Loads::of(2);
        let first = loads.take(Dialler::Peer);
        // A probe, which by turns alone would have taken the other's place.
        let probe = loads.take(Dialler::Client);
        loads.give_back(probe, Dialler::Client);
        assert_eq!([first, loads.take(Dialler::Peer)], [0, 1]);
    }

    #[test]
    fn what_has_ended_is_made_up_for() {
        let mut loads = Loads::of(2);
        let _: [usize; 6] = taken(&mut loads, Dialler::Client);
        for _ in 0..3 {
            loads.give_back(1, Dialler::Client);
        }
        assert_eq!(taken(&mut loads, Dialler::Client), [1, 1, 1, 0]);
    }

    #[test]
    fn kinds_make_way_for_each_other_where_that_costs_nothing() {
        let mut loads = Loads::of(2);
        assert_eq!(loads.take(Dialler::Client), 0);
        loads.next = 0;
        assert_eq!(loads.take(Dialler::Peer), 1);
        // But four clients of one worker do not outweigh a peer of another.
        loads.workers[0].clients += 3;
        assert_eq!(loads.take(Dialler::Peer), 0);
    }

    /// A runtime on a thread of its own, which ends when the sender is dropped.
    fn worker() -> (Handle, oneshot::Sender<()>) {
        let (say, handle) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            let mut builder = runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            say.send(runtime.handle().clone()).unwrap();
            let _ = runtime.block_on(ended);
        });
        (handle.recv().unwrap(), end)
    }

    /// Says which worker it is on whenever it is spoken to.
    async fn tell(worker: usize, mut accepted: Accepted) {
        let mut byte = [0];
        while accepted.stream.read_exact(&mut byte).await.is_ok() {
            let name = thread::current().id();
            let answer = format!("{worker} {name:?}\n");
            accepted.stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn ask(client: &mut TcpStream) -> String {
        client.write_all(b"?").await.unwrap();
        let mut said = String::new();
        while !said.ends_with('\n') {
            said.push(char::from(client.read_u8().await.unwrap()));
        }
        said.trim_end().to_owned()
    }

    #[tokio::test]
    async fn connections_are_carried_by_the_workers_they_are_given_to() {
        let (other, _end) = worker();
        let spread = Spread::over(&[Handle::current(), other]);
        let acceptor = Acceptor::new(listen(([127, 0, 0, 1], 0).into()).unwrap(), 2);
        let address = acceptor.local_addr().unwrap();
        let (tasks, mut clients) = (TaskTracker::new(), Vec::new());
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
            spread.spawn(&tasks, acceptor.accept().await, |_| Dialler::Client, tell);
        }
        let here = format!("0 {:?}", thread::current().id());
        let asked = async { [ask(&mut clients[0]).await, ask(&mut clients[1]).await] };
        let [first, second] = timeout(LONG, asked).await.unwrap();
        assert_eq!(first, here);
        assert!(
            second.starts_with("1 ") && second[2..] != here[2..],
            "{second}"
        );
        assert_eq!(spread.connections(), [1, 1]);
        // Both are waited for, and their places are free again.
        drop(clients);
        tasks.close();
        timeout(LONG, tasks.wait()).await.unwrap();
        assert_eq!(spread.connections(), [0, 0]);
        let _third = TcpStream::connect(address).await.unwrap();
        timeout(LONG, acceptor.accept()).await.unwrap();
    }

    const LONG: Duration = Duration::from_secs(20);
}
