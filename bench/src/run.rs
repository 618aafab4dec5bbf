//! A whole run: prepare, measure in turns, report, and tidy up.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::PoisonError,
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use mesh_pair::{control::new_root, namespace::remove_leftovers, sidecar::Sidecars};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::resource::{Resource, getrlimit, setrlimit},
};

use crate::{
    bars, facts, interrupt,
    measure::{Group, Outcome},
    options::Options,
    pair::{PREFIX, Pair, Surroundings},
    pki, plot,
    report::Results,
    subject::Subject,
};

/// Open files of any process here, at least: thousands of connections, twice.
const FILES: u64 = 12_000;

const LOCK: &str = "/run/mesh-bench.lock";
/// What is written.
const RESULTS: &str = "wire.json";

/// All latencies of all rounds, by rate and subject.
type Latencies = BTreeMap<(u32, Subject), Histogram<u64>>;

/// Measures what `options` ask for.
///
/// # Errors
/// If something does not work as it has to.
pub(crate) fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let _lock = lock()?;
    raise_file_limit()?;
    // Those of an earlier run must not be taken for this one's.
    if options.out.join(RESULTS).exists() {
        fs::remove_file(options.out.join(RESULTS))?;
    }
    remove_leftovers(|name| name.starts_with(PREFIX));
    let folder = tempfile::Builder::new().prefix("mesh-bench-").tempdir()?;
    let cx = surroundings(options, folder.path())?;
    print_facts(&cx, options)?;
    let mut bench = Bench {
        cx,
        options,
        pairs: BTreeMap::new(),
        results: Results::default(),
        latencies: Latencies::new(),
        failures: Vec::new(),
    };
    for group in options.groups() {
        bench.group(group)?;
        // What is known so far, should somebody lose patience.
        bench.write()?;
    }
    if options.train {
        bench.pairs.values_mut().try_for_each(Pair::stop)?;
    }
    bench.pairs.clear();
    println!("\n{}", bench.results.table(&options.subjects()));
    println!("{}", bars::table(&bench.results));
    println!("written to {}", options.out.display());
    let failures = bench.failures;
    ensure!(
        failures.is_empty(),
        "not everything works:\n{}",
        failures.join("\n")
    );
    Ok(())
}

struct Bench<'a> {
    /// Pairs that run, for groups that do not start their own.
    pairs: BTreeMap<Subject, Pair>,
    cx: Surroundings,
    options: &'a Options,
    results: Results,
    latencies: Latencies,
    failures: Vec<String>,
}

impl Bench<'_> {
    /// All rounds of a group, subjects taking turns. One that fails has no
    /// figure in this group, and the bench has failed in the end.
    fn group(&mut self, group: Group) -> Result<()> {
        let subjects = self.options.subjects().into_iter();
        let mut subjects: Vec<Subject> = subjects.filter(|subject| group.is_of(*subject)).collect();
        if group.is_of_fresh_pairs() {
            self.pairs.clear();
        }
        let (rounds, length) = (group.rounds(self.options.rounds()), self.options.window());
        for round in 1..=rounds {
            for subject in subjects.clone() {
                eprintln!("{group:?}, round {round} of {rounds}: {subject}");
                let outcome = group.measure(&self.cx, &mut self.pairs, subject, length);
                interrupt::check()?;
                if let Err(error) = outcome.and_then(|outcome| self.keep(group, subject, outcome)) {
                    let failure = format!("{subject}, {group:?}: {error:#}");
                    eprintln!("{failure}");
                    self.failures.push(failure);
                    self.results.forget(group, subject);
                    if group == Group::Latency {
                        self.latencies.retain(|(_, other), _| *other != subject);
                    }
                    self.pairs.remove(&subject);
                    subjects.retain(|other| *other != subject);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, group: Group, subject: Subject, outcome: Outcome) -> Result<()> {
        for figure in outcome.figures {
            if !figure.value.is_finite() || figure.value < 0.0 {
                bail!("{subject}: {} is {}", figure.measure, figure.value);
            }
            self.results.add(group, subject, figure);
        }
        for (rate, latencies) in outcome.latencies {
            let all = self.latencies.entry((rate, subject));
            all.or_insert_with(crate::stats::latencies)
                .add(&latencies)?;
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let out = &self.options.out;
        let text = serde_json::to_string_pretty(&self.results.json())?;
        fs::write(out.join(RESULTS), text + "\n")?;
        let mut rates: Vec<u32> = self.latencies.keys().map(|(rate, _)| *rate).collect();
        rates.dedup();
        for rate in rates {
            let curves: Vec<(Subject, &Histogram<u64>)> = self
                .latencies
                .iter()
                .filter(|((at, _), _)| *at == rate)
                .map(|((_, subject), histogram)| (*subject, histogram))
                .collect();
            let title = format!("HTTP/1, 1 KiB, {rate} requests/s, from when they were due");
            let svg = plot::latencies(&title, &curves);
            fs::write(out.join(format!("latency-{rate}.svg")), svg)?;
        }
        Ok(())
    }
}

fn surroundings(options: &Options, folder: &Path) -> Result<Surroundings> {
    let beside = std::env::current_exe()?;
    let beside = beside.parent().context("a program has a folder")?;
    let programs = options.programs.as_deref().unwrap_or(beside);
    let root = new_root();
    let sidecars = Sidecars::copy(programs, folder)?;
    pki::write_files(&root.lock().unwrap_or_else(PoisonError::into_inner), folder)?;
    Ok(Surroundings {
        root,
        sidecars,
        // Cargo calls folders so.
        profile: programs
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        peers: options.peers.as_deref().map(PathBuf::from),
        folder: folder.to_owned(),
    })
}

fn print_facts(cx: &Surroundings, options: &Options) -> Result<()> {
    for line in facts::machine() {
        println!("{line}");
    }
    for line in facts::subjects(cx, options)? {
        println!("{line}");
    }
    println!("proxies on core 0, one worker each; client and back end on core 1");
    for subject in options.subjects() {
        if let Some(line) = facts::agreed(cx, subject)? {
            println!("{line}");
        }
    }
    Ok(())
}

/// As many open files as we may have; what we start inherits that.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        most >= FILES,
        "{most} open files are too few: ulimit -Hn {FILES}"
    );
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// There is one set of namespaces, whoever uses it.
fn lock() -> Result<Flock<File>> {
    let file = File::create(LOCK).context("it needs root")?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .context("another bench is running")
}
