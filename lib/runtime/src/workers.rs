//! Threads that share a program's work.

use std::{
    io,
    num::NonZeroUsize,
    str::FromStr,
    thread::{self, JoinHandle, available_parallelism},
    time::Duration,
};

use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::Shutdown;

/// How many workers a program has: one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCount(NonZeroUsize);

/// Why a setting is no number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number from 1 to {MOST}, or 0 for one worker for each processor")]
pub struct InvalidWorkerCount;

/// More workers would have more to tell each other than to do.
const MOST: usize = 128;

impl WorkerCount {
    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0.get()
    }
}

/// 0 stands for as many as there are processors that the process may use: of its
/// affinity, and no more than its control group's quota, so that it means a
/// container's CPU limit where there is one.
impl FromStr for WorkerCount {
    type Err = InvalidWorkerCount;

    fn from_str(text: &str) -> Result<Self, InvalidWorkerCount> {
        let wanted = text.parse().map_err(|_| InvalidWorkerCount)?;
        count(wanted, || {
            available_parallelism().map_or(1, NonZeroUsize::get)
        })
    }
}

fn count(
    wanted: usize,
    processors: impl FnOnce() -> usize,
) -> Result<WorkerCount, InvalidWorkerCount> {
    let count = match wanted {
        0 => processors().clamp(1, MOST),
        1..=MOST => wanted,
        _ => return Err(InvalidWorkerCount),
    };
    NonZeroUsize::new(count)
        .map(WorkerCount)
        .ok_or(InvalidWorkerCount)
}

/// A program's workers. The first one is the runtime that the program lives on, so
/// that one worker means one thread; each of the others is a thread with a
/// current-thread runtime of its own. Dropping it ends the others, with what runs
/// on them.
#[derive(Debug)]
pub struct Workers {
    runtimes: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: Shutdown,
    /// Each of the other workers says its number when it has ended.
    ended: mpsc::Receiver<usize>,
    tell: mpsc::Sender<usize>,
}

/// A worker has ended though nobody told it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} has ended before the program")]
pub struct WorkerEnded(pub usize);

impl Workers {
    /// Starts the others; the first one is the runtime that this is called on.
    ///
    /// # Errors
    /// If the system has no thread or no runtime for one.
    pub async fn start(count: WorkerCount) -> io::Result<Self> {
        let mut workers = Self::alone();
        for _ in 1..count.get() {
            let stop = workers.stop.clone();
            workers.add(async move { stop.signalled().await }).await?;
        }
        Ok(workers)
    }

    fn alone() -> Self {
        let (tell, ended) = mpsc::channel(MOST);
        Self {
            runtimes: vec![Handle::current()],
            threads: Vec::new(),
            stop: Shutdown::new(),
            ended,
            tell,
        }
    }

    /// One more, for as long as `life` lasts.
    async fn add(&mut self, life: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let number = self.runtimes.len();
        let end = End(number, self.tell.clone());
        let (started, start) = oneshot::channel();
        let name = format!("worker-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Last of all, also when something panics.
            let _end = end;
            work(life, started);
        })?;
        self.threads.push(thread);
        let gone = |_| io::Error::other("the thread has ended");
        self.runtimes.push(start.await.map_err(gone)??);
        Ok(())
    }

    /// The runtimes of all, one at least. The first is the program's own.
    #[must_use]
    pub fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// What `make` makes for each, with its runtime as the current one: tasks that
    /// it spawns are there.
    pub fn each<T>(&self, mut make: impl FnMut() -> T) -> Vec<T> {
        let made = self.runtimes.iter().map(|runtime| {
            let _entered = runtime.enter();
            make()
        });
        made.collect()
    }

    /// Waits until one has ended, which it does only if it panics. A program cannot
    /// go on then: its connections there are gone, and others would go there still.
    /// May be dropped and called again until it has returned.
    pub async fn failed(&mut self) -> WorkerEnded {
        match self.ended.recv().await {
            Some(number) => WorkerEnded(number),
            // We have a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Ends all but the first, and drops what still runs on them. Says whether they
    /// have ended within `deadline`.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.stop.trigger();
        let all_ended = async {
            for _ in &self.threads {
                self.ended.recv().await;
            }
        };
        if timeout(deadline, all_ended).await.is_err() {
            return false;
        }
        for thread in self.threads.drain(..) {
            // It has said that it ends. That it panicked was told by itself.
            let _ = thread.join();
        }
        true
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

/// Tells that a worker has ended.
struct End(usize, mpsc::Sender<usize>);

impl Drop for End {
    fn drop(&mut self) {
        // There is room for all workers.
        let _ = self.1.try_send(self.0);
    }
}

fn work(life: impl Future<Output = ()>, started: oneshot::Sender<io::Result<Handle>>) {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody waits for it any more if the program ends already.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(runtime.handle().clone()));
    runtime.block_on(life);
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread::ThreadId};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn workers(text: &str) -> Result<usize, InvalidWorkerCount> {
        text.parse().map(WorkerCount::get)
    }

    #[test]
    fn a_number_of_workers_is_one_to_a_bound() {
        assert_eq!(workers("1"), Ok(1));
        assert_eq!(workers("128"), Ok(128));
        for wrong in ["129", "-1", "two", "1.5", "", "99999999999999999999"] {
            assert_eq!(workers(wrong), Err(InvalidWorkerCount), "{wrong}");
        }
        let said = InvalidWorkerCount.to_string();
        assert!(said.contains("from 1 to 128, or 0 for"), "{said}");
    }

    #[test]
    fn none_means_as_many_as_there_are_processors() {
        let of = |processors| count(0, || processors).map(WorkerCount::get);
        assert_eq!([of(0), of(1), of(8)], [Ok(1), Ok(1), Ok(8)]);
        assert_eq!(of(1000), Ok(MOST));
        let here = available_parallelism().unwrap().get();
        assert_eq!(workers("0"), Ok(here.min(MOST)));
    }

    async fn started(count: &str) -> Workers {
        Workers::start(count.parse().unwrap()).await.unwrap()
    }

    /// On which threads tasks run that are spawned for each worker.
    async fn threads(workers: &Workers) -> Vec<ThreadId> {
        let mut threads = Vec::new();
        for task in workers.each(|| tokio::spawn(async { thread::current().id() })) {
            threads.push(timeout(LONG, task).await.unwrap().unwrap());
        }
        threads
    }

    #[tokio::test]
    async fn one_worker_is_the_program_itself() {
        let mut workers = started("1").await;
        assert_eq!(threads(&workers).await, [thread::current().id()]);
        let failed = timeout(Duration::ZERO, workers.failed()).await;
        assert!(failed.is_err(), "{failed:?}");
        assert!(workers.stop(LONG).await);
    }

    #[tokio::test]
    async fn each_worker_has_a_thread_and_the_first_is_the_programs() {
        let workers = started("3").await;
        let threads = threads(&workers).await;
        assert_eq!(threads[0], thread::current().id());
        assert_eq!(threads.iter().collect::<HashSet<_>>().len(), 3);
        assert!(workers.stop(LONG).await);
    }

    #[tokio::test]
    async fn what_still_runs_on_a_worker_is_dropped_when_it_is_stopped() {
        let workers = started("2").await;
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        workers.runtimes()[1].spawn(async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        assert!(workers.stop(LONG).await);
        assert_eq!(
            receiver.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        );
    }

    #[tokio::test]
    async fn a_worker_that_does_not_end_keeps_nobody_waiting() {
        let workers = started("2").await;
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (say, busy) = oneshot::channel();
        workers.runtimes()[1].spawn(async move {
            say.send(()).unwrap();
            // As one that is stuck would be.
            let _ = ended.recv();
        });
        busy.await.unwrap();
        assert!(!workers.stop(Duration::from_millis(1)).await);
        drop(end);
    }

    #[tokio::test]
    async fn dropped_workers_end() {
        let workers = started("2").await;
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        workers.runtimes()[1].spawn(async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert_eq!(timeout(LONG, receiver.recv()).await, Ok(None));
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_no_worker() {
        let mut workers = started("2").await;
        let task = workers.runtimes()[1].spawn(async { panic!("on purpose") });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(threads(&workers).await.len(), 2);
        let failed = timeout(Duration::ZERO, workers.failed()).await;
        assert!(failed.is_err(), "{failed:?}");
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_noticed() {
        let mut workers = started("2").await;
        let (panic, told) = oneshot::channel::<()>();
        let life = async move {
            told.await.unwrap();
            panic!("on purpose");
        };
        workers.add(life).await.unwrap();
        assert_eq!(threads(&workers).await.len(), 3);
        panic.send(()).unwrap();
        let failed = timeout(LONG, workers.failed()).await.unwrap();
        assert_eq!(failed, WorkerEnded(2));
        assert_eq!(failed.to_string(), "worker 2 has ended before the program");
    }
}
