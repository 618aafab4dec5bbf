//! Whether a program can do its work.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Says whether `/ready` answers yes. Starts as no; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Answer>);

#[derive(Debug, Default)]
struct Answer {
    ready: AtomicBool,
    withheld: Mutex<Option<&'static str>>,
    lacks: Mutex<Option<&'static str>>,
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
        *lock(&self.0.withheld) = reason;
    }

    /// Says what the program lacks, for as long as the answer is no; `None`
    /// takes it back. The answer stays what it is.
    pub fn lacks(&self, what: Option<&'static str>) {
        *lock(&self.0.lacks) = what;
    }

    /// Why the answer is no, if there is a reason beside that of the start.
    #[must_use]
    pub fn withheld(&self) -> Option<&'static str> {
        *lock(&self.0.withheld)
    }

    /// Why the answer is no, if it is and that is known: what is lacking, which
    /// may be what it is withheld for.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        let why = || lock(&self.0.lacks).or_else(|| self.withheld());
        (!self.is_ready()).then(why).flatten()
    }

    /// The answer now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire) && self.withheld().is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_lacks_is_said_while_it_is_not_ready() {
        let readiness = Readiness::new();
        assert_eq!(readiness.why_not(), None);
        readiness.lacks(Some("a certificate"));
        assert_eq!(readiness.why_not(), Some("a certificate"));
        readiness.set(true);
        assert!(readiness.is_ready());
        assert_eq!(readiness.why_not(), None);
        readiness.withhold(Some("its certificate has ended"));
        assert_eq!(readiness.why_not(), Some("a certificate"));
        readiness.lacks(None);
        assert_eq!(readiness.why_not(), Some("its certificate has ended"));
    }
}
