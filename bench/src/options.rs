//! Flags; nothing else reads them.

use std::{path::PathBuf, time::Duration};

use crate::{measure::Group, subject::Subject};

/// Measures pairs of sidecars, ours and others'
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// How often each measurement is made; the median counts
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Seconds of one measurement, warm-up not counted
    #[arg(long, default_value = "2.5", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// One round, and one second each: shows that everything works, and no more
    #[arg(long)]
    pub(crate) quick: bool,
    /// Has a build that counts what it does do all of it, for `tools/release`: ours
    /// alone, as `--quick`, and ended in a way that lets it write what it has counted
    #[arg(long, conflicts_with_all = ["only", "subjects"])]
    pub(crate) train: bool,
    /// Only these groups of measures
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MEASURE")]
    pub(crate) only: Vec<Group>,
    /// Only these subjects
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SUBJECT")]
    pub(crate) subjects: Vec<Subject>,
    /// Where results are written
    #[arg(long, default_value = "bench/out", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Where `mesh-proxy` and `mesh-redirect` are; beside this program, unless given
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: Option<PathBuf>,
    /// Where `tools/bench-peers` has put other proxies
    #[arg(long, env = "MESH_BENCH_PEERS", value_name = "FOLDER")]
    pub(crate) peers: Option<PathBuf>,
}

impl Options {
    /// How many rounds there are.
    pub(crate) const fn rounds(&self) -> u32 {
        if self.is_short() { 1 } else { self.rounds }
    }

    /// How long one measurement takes.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(if self.is_short() { 1.0 } else { self.seconds })
    }

    const fn is_short(&self) -> bool {
        self.quick || self.train
    }

    /// What is measured, in order.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups = chosen(&Group::ALL, &self.only);
        groups.retain(|group| !self.train || !group.is_of_fresh_pairs());
        groups
    }

    /// Who is measured, in order.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        if self.train {
            return vec![Subject::Mesh];
        }
        chosen(&Subject::ALL, &self.subjects)
    }
}

/// Those of `all` that were asked for; all, if none was.
fn chosen<T: Copy + PartialEq>(all: &[T], asked: &[T]) -> Vec<T> {
    let is_chosen = |one: &T| asked.is_empty() || asked.contains(one);
    all.iter().copied().filter(is_chosen).collect()
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.2..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.2 to 600 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_is_asked_for_is_measured_in_the_usual_order() {
        let options = Options::parse_from(["bench", "--subjects", "haproxy,direct", "--quick"]);
        assert_eq!(options.subjects(), [Subject::Direct, Subject::Haproxy]);
        assert_eq!(options.groups(), Group::ALL);
        assert_eq!((options.rounds(), options.window().as_secs()), (1, 1));
    }

    #[test]
    fn a_build_that_counts_is_one_pair_that_does_everything_once() {
        let options = Options::parse_from(["bench", "--train"]);
        assert_eq!(options.subjects(), [Subject::Mesh]);
        assert_eq!((options.rounds(), options.window().as_secs()), (1, 1));
        let groups = options.groups();
        assert!(groups.contains(&Group::Http1) && groups.contains(&Group::Bodies));
        assert!(!groups.iter().any(|group| group.is_of_fresh_pairs()));
        assert!(Options::try_parse_from(["bench", "--train", "--only=http1"]).is_err());
    }

    #[test]
    fn an_interval_without_a_length_is_refused() {
        for bad in ["0", "-1", "NaN", "x"] {
            let typed = format!("--seconds={bad}");
            assert!(Options::try_parse_from(["bench", &typed]).is_err(), "{bad}");
        }
    }
}
