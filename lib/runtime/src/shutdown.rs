//! Orderly ends.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

/// The wish that the program ends. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Nothing but [`Shutdown::trigger`] sets it off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Set off by SIGTERM and SIGINT too. The task that waits for them lives as
    /// long as the runtime.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(trigger_on(shutdown.clone(), terminate, interrupt));
        Ok(shutdown)
    }

    /// One that is set off with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Waits until the end is wished for; at once if it was before. May be
    /// dropped and called again.
    pub async fn signalled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the end is wished for.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Wishes for the end.
    pub fn trigger(&self) {
        self.0.cancel();
    }
}

async fn trigger_on(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "shutting down");
    shutdown.trigger();
}

/// Waits until all tasks of `tasks` have ended, but no longer than `deadline`.
/// Says whether they have; those that have not are still running.
pub async fn drain(tasks: &TaskTracker, deadline: Duration) -> bool {
    tasks.close();
    timeout(deadline, tasks.wait()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn all_clones_see_the_wish() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_signalled());
        shutdown.trigger();
        clone.signalled().await;
    }

    #[tokio::test]
    async fn a_signal_is_a_wish() {
        let shutdown = Shutdown::on_signals().unwrap();
        let kill = Command::new("sh").args(["-c", "kill -TERM $PPID"]).status();
        assert!(kill.unwrap().success());
        shutdown.signalled().await;
    }

    #[tokio::test]
    async fn draining_waits_for_tasks_but_not_for_ever() {
        let tasks = TaskTracker::new();
        let shutdown = Shutdown::new();
        let wish = shutdown.clone();
        tasks.spawn(async move { wish.signalled().await });
        assert!(!drain(&tasks, Duration::from_millis(1)).await);
        shutdown.trigger();
        assert!(drain(&tasks, Duration::from_secs(10)).await);
    }
}
