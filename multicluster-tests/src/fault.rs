//! Faults on command. Each is a call that returns a [`Fault`]; it lasts until
//! that is dropped, also by a panic, and `lab down` takes away what a killed
//! run left.

pub mod address;
pub mod clock;
pub mod dns;
pub mod network;
pub mod path;
pub mod programs;
pub mod resources;

use anyhow::Result;

/// A fault that lasts until this is dropped.
#[must_use = "the fault ends when this is dropped"]
pub struct Fault {
    what: String,
    undo: Option<Undo>,
}

type Undo = Box<dyn FnOnce() -> Result<()> + Send>;

impl Fault {
    pub(crate) fn new(
        what: impl Into<String>,
        undo: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self {
            what: what.into(),
            undo: Some(Box::new(undo)),
        }
    }

    /// What is broken, for people.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Ends the fault.
    ///
    /// # Errors
    /// If it cannot be ended: says why.
    pub fn undo(mut self) -> Result<()> {
        self.undo.take().map_or(Ok(()), |undo| undo())
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take()
            && let Err(error) = undo()
        {
            eprintln!("this fault stays ({}): {error:#}", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn counted() -> (Fault, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let undone = count.clone();
        let fault = Fault::new("a test", move || {
            undone.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        (fault, count)
    }

    #[test]
    fn a_fault_ends_once_by_call_by_drop_and_by_panic() {
        let (fault, count) = counted();
        fault.undo().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);

        let (fault, count) = counted();
        drop(fault);
        assert_eq!(count.load(Ordering::Relaxed), 1);

        let (fault, count) = counted();
        let panicked = std::thread::spawn(move || {
            let _fault = fault;
            panic!("as a test does");
        });
        assert!(panicked.join().is_err());
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
