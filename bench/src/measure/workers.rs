//! What a second worker is worth: how many more requests there are a second if
//! load and back end have room. On a machine with two cores they have none
//! beside two workers that take what they can get, so that a worker of each
//! proxy gets no more than a part of a core here, with one worker as with two.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mesh_pair::process::Program;

use super::{HTTP1, Outcome, traffic::rate};
use crate::{
    pair::{Pair, Proxies, Surroundings, Workers},
    share::Share,
    subject::Subject,
};

/// What a worker of A and one of B have of a core together. Two such pairs, load
/// and back end are well below two cores.
const PART: f64 = 0.3;
/// Long enough to see which threads work.
const LOOK: Duration = Duration::from_millis(500);

/// A load with some workers.
struct Run {
    /// Requests a second.
    rate: f64,
    /// How long each thread of A and of B was on a core, in nanoseconds.
    threads: [BTreeMap<u64, u64>; 2],
    /// From before the load until after it.
    length: Duration,
}

pub(super) fn measure(cx: &Surroundings, subject: Subject, length: Duration) -> Result<Outcome> {
    let one = run(cx, subject, 1, length)?;
    let two = run(cx, subject, 2, length)?;
    let mut outcome = Outcome::default();
    outcome.push("workers_one_rate", "requests/s", one.rate);
    outcome.push("workers_two_rate", "requests/s", two.rate);
    outcome.push("workers_balance", "x", two.balance(2));
    outcome.push("workers_growth", "x", two.rate / one.rate);
    Ok(outcome)
}

/// A load with so many workers, each of which had its part of a core, and had
/// enough to do to take it.
fn run(cx: &Surroundings, subject: Subject, workers: usize, length: Duration) -> Result<Run> {
    let anywhere = Workers {
        count: workers,
        cores: &[0, 1],
        load: &[0, 1],
    };
    let mut pair = Pair::start(cx, subject, anywhere)?;
    let free = load(&mut pair, LOOK)?;
    let shares: Vec<Share> = (0..workers)
        .map(|worker| Share::new(&format!("mesh-bench-{subject}-{worker}"), PART))
        .collect::<Result<_>>()?;
    for threads in &free.threads {
        for ((_, worker), share) in busiest(threads).into_iter().zip(&shares) {
            share.add(worker)?;
        }
    }
    let run = load(&mut pair, length)?;
    ensure!(run.balance(workers) > 0.0, "a worker had nothing to do");
    let part = run.part(workers);
    ensure!(
        (0.7..1.1).contains(&(part / PART)),
        "workers took {part:.2} of a core, not {PART}: the rate says nothing of them"
    );
    Ok(run)
}

fn load(pair: &mut Pair, length: Duration) -> Result<Run> {
    let times = |pair: &Pair| -> Result<[BTreeMap<u64, u64>; 2]> {
        let Proxies { a, b } = pair.proxies.as_ref().context("there are no proxies")?;
        Ok([thread_times(a)?, thread_times(b)?])
    };
    let (before, began) = (times(pair)?, Instant::now());
    let done = HTTP1.run(pair, length)?;
    let (mut threads, length) = (times(pair)?, began.elapsed());
    for (after, before) in threads.iter_mut().zip(&before) {
        for (thread, time) in after {
            *time = time.saturating_sub(before.get(thread).copied().unwrap_or_default());
        }
    }
    Ok(Run {
        rate: rate(&done),
        threads,
        length,
    })
}

impl Run {
    /// How evenly the workers of a proxy shared the work, of that where they did
    /// less so: 1 if all did the same.
    fn balance(&self, workers: usize) -> f64 {
        let each = self.threads.iter().map(|threads| {
            let spent = busiest(threads).into_iter().map(|(time, _)| time);
            balance(spent.collect(), workers)
        });
        each.fold(1.0, f64::min)
    }

    /// What a worker of A and one of B took of a core together.
    fn part(&self, workers: usize) -> f64 {
        let spent = self.threads.iter().flatten().map(|(_, time)| time);
        let spent: u64 = spent.sum();
        spent as f64 / (self.length.as_nanos() as f64 * workers as f64)
    }
}

/// Threads and their times, the busiest first.
fn busiest(times: &BTreeMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut threads: Vec<_> = times
        .iter()
        .map(|(thread, time)| (*time, *thread))
        .collect();
    threads.sort_unstable_by(|a, b| b.cmp(a));
    threads
}

/// Nanoseconds on a core of each thread.
fn thread_times(program: &Program) -> Result<BTreeMap<u64, u64>> {
    let mut times = BTreeMap::new();
    for pid in program.pids() {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let thread = entry.file_name().to_string_lossy().parse()?;
            let text = fs::read_to_string(entry.path().join("schedstat"))?;
            let time = text.split(' ').next().unwrap_or_default().parse()?;
            times.insert(thread, time);
        }
    }
    Ok(times)
}

/// What the busiest `workers` threads did, as a share of what they would have
/// done had all been as busy as the first.
fn balance(mut spent: Vec<u64>, workers: usize) -> f64 {
    spent.sort_unstable_by(|a, b| b.cmp(a));
    spent.resize(workers, 0);
    let most = spent.first().copied().unwrap_or_default().max(1);
    spent.iter().sum::<u64>() as f64 / (most as f64 * workers as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_balanced_whatever_else_runs() {
        assert_eq!(balance(vec![3, 500, 500, 1], 2), 1.0);
        assert_eq!(balance(vec![500, 3], 1), 1.0);
    }

    #[test]
    fn a_worker_that_does_half_of_the_other_is_seen() {
        assert_eq!(balance(vec![1000, 500], 2), 0.75);
        assert_eq!(balance(vec![1000], 2), 0.5);
    }
}
