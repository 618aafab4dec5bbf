//! What a second worker is worth. On a machine with two cores nothing has room
//! beside two workers, so that requests a second say nothing there. What can be
//! seen on any machine is what a request costs with two workers, and whether
//! both have the same share of the work: were both never to wait for anybody
//! else, the rate would grow by their product.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mesh_pair::process::Program;

use super::{HTTP1, Outcome};
use crate::{
    load::closed::Done,
    pair::{ONE_WORKER, Pair, Surroundings, Workers},
    subject::Subject,
};

const TWO_WORKERS: Workers = Workers {
    count: 2,
    cores: &[0, 1],
};

pub(super) fn measure(cx: &Surroundings, subject: Subject, length: Duration) -> Result<Outcome> {
    let (one, _) = run(cx, subject, ONE_WORKER, length)?;
    let (two, balance) = run(cx, subject, TWO_WORKERS, length)?;
    let per_second = |done: &Done| done.requests as f64 / done.used.cpu.as_secs_f64();
    let growth = 2.0 * balance * per_second(&two) / per_second(&one);
    let mut outcome = Outcome::default();
    outcome.push("workers_balance", "x", balance);
    outcome.push("workers_growth", "x", growth);
    Ok(outcome)
}

/// A load, and how evenly it was shared: 1 if by all workers alike.
fn run(
    cx: &Surroundings,
    subject: Subject,
    workers: Workers,
    length: Duration,
) -> Result<(Done, f64)> {
    let mut pair = Pair::start(cx, subject, workers)?;
    pair.verify(HTTP1.version, HTTP1.kind)?;
    let proxies = |pair: &Pair| -> Result<[BTreeMap<u64, u64>; 2]> {
        let proxies = pair.proxies.as_ref().context("there are no proxies")?;
        Ok([thread_times(&proxies.a)?, thread_times(&proxies.b)?])
    };
    let before = proxies(&pair)?;
    let done = HTTP1.run(&mut pair, length)?;
    let after = proxies(&pair)?;
    let balances = before.iter().zip(&after).map(|(before, after)| {
        let spent = after.iter().map(|(thread, time)| {
            time.saturating_sub(before.get(thread).copied().unwrap_or_default())
        });
        balance(spent.collect(), workers.count)
    });
    let least = balances.fold(1.0, f64::min);
    ensure!(least > 0.0, "a worker had nothing to do");
    Ok((done, least))
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
