//! Whether a program can do its work.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Says whether `/ready` answers yes. Starts as no; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Answer>);

#[derive(Debug, Default)]
struct Answer {
    ready: AtomicBool,
    withheld: Mutex<Option<&'static str>>,
}

impl Readiness {
    /// Not ready yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the answer.
    pub fn set(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Release);
    }

    /// Says no for this reason, whatever else was set; `None` takes it back.
    pub fn withhold(&self, reason: Option<&'static str>) {
        let withheld = self.0.withheld.lock();
        *withheld.unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why the answer is no, if there is a reason beside that of the start.
    #[must_use]
    pub fn withheld(&self) -> Option<&'static str> {
        let withheld = self.0.withheld.lock();
        *withheld.unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire) && self.withheld().is_none()
    }
}
