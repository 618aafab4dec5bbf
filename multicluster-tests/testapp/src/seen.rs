//! What a server remembers of the requests of loads: how often it saw each.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::id::{RequestId, Run};
use crate::numbers::Numbers;

/// Ids remembered over all runs; the oldest are forgotten first.
const MAX_IDS: usize = 1_000_000;

/// The server's memory, shared by its connections.
#[derive(Debug)]
pub(crate) struct Seen(Mutex<Memory>);

impl Default for Seen {
    fn default() -> Self {
        Self(Mutex::new(Memory::new(MAX_IDS)))
    }
}

impl Seen {
    /// Counts a request, before it is answered.
    pub(crate) fn note(&self, id: &RequestId) {
        self.memory().note(id);
    }

    /// What is known of `run`, named by the pod that knows it.
    pub(crate) fn of(&self, run: &Run, pod: &str) -> Sightings {
        let memory = self.memory();
        let known = memory.runs.get(run);
        Sightings {
            run: run.to_string(),
            pod: pod.to_owned(),
            distinct: known.map_or(0, |known| known.times.len() as u64),
            requests: known.map_or(0, |known| known.times.values().sum()),
            forgotten: known.map_or(0, |known| known.forgotten),
            seen: known.map(Known::numbers).unwrap_or_default(),
            doubled: known.map(Known::doubled).unwrap_or_default(),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().expect("no one panics while counting")
    }
}

/// The answer to `GET /ids?run=RUN`. The sets hold no more than the server
/// remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sightings {
    pub(crate) run: String,
    pub(crate) pod: String,
    /// Ids of the run.
    pub(crate) distinct: u64,
    /// Requests with them.
    pub(crate) requests: u64,
    /// Ids of the run that were forgotten for newer ones; a run that was
    /// forgotten as a whole has none.
    pub(crate) forgotten: u64,
    pub(crate) seen: Numbers,
    /// Those seen more than once.
    pub(crate) doubled: Numbers,
}

#[derive(Debug)]
struct Memory {
    runs: HashMap<Run, Known>,
    /// Each remembered id once, the oldest first.
    order: VecDeque<RequestId>,
    bound: usize,
}

#[derive(Debug, Default)]
struct Known {
    times: HashMap<u64, u64>,
    forgotten: u64,
}

impl Known {
    fn numbers(&self) -> Numbers {
        self.times.keys().copied().collect()
    }

    fn doubled(&self) -> Numbers {
        let more = self.times.iter().filter(|(_, times)| **times > 1);
        more.map(|(&number, _)| number).collect()
    }
}

impl Memory {
    fn new(bound: usize) -> Self {
        Self {
            runs: HashMap::new(),
            order: VecDeque::new(),
            bound,
        }
    }

    fn note(&mut self, id: &RequestId) {
        let known = self.runs.entry(id.run.clone()).or_default();
        let times = known.times.entry(id.number).or_default();
        *times += 1;
        if *times == 1 {
            self.order.push_back(id.clone());
        }
        if self.order.len() > self.bound {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(RequestId { run, number }) = self.order.pop_front() else {
            return;
        };
        let Some(known) = self.runs.get_mut(&run) else {
            return;
        };
        known.times.remove(&number);
        known.forgotten += 1;
        if known.times.is_empty() {
            self.runs.remove(&run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(bound: usize, ids: &[&str]) -> Seen {
        let mut memory = Memory::new(bound);
        ids.iter().for_each(|id| memory.note(&id.parse().unwrap()));
        Seen(Mutex::new(memory))
    }

    fn numbers(text: &str) -> Numbers {
        text.parse().unwrap()
    }

    #[test]
    fn each_run_has_its_own_counts() {
        let seen = noted(10, &["a/0", "b/0", "a/1", "a/1", "a/2"]);
        let want = Sightings {
            run: "a".into(),
            pod: "web-1".into(),
            distinct: 3,
            requests: 4,
            forgotten: 0,
            seen: numbers("0-2"),
            doubled: numbers("1"),
        };
        assert_eq!(seen.of(&"a".parse().unwrap(), "web-1"), want);
        assert_eq!(seen.of(&"c".parse().unwrap(), "").distinct, 0);
    }

    #[test]
    fn the_oldest_ids_are_forgotten_and_runs_with_them() {
        let seen = noted(3, &["a/0", "b/0", "b/0", "b/1", "b/2", "b/3"]);
        let b = seen.of(&"b".parse().unwrap(), "");
        assert_eq!((b.seen, b.forgotten), (numbers("1-3"), 1));
        assert!(!seen.memory().runs.contains_key(&"a".parse().unwrap()));
        assert_eq!(seen.memory().order.len(), 3);
    }
}
