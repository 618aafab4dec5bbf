//! `testapp audit`: what became of a load's requests, as the servers saw it.
//!
//! Each pod is asked for the requests of the run that it saw. A pod that is
//! gone, or was started anew, does not know; for those the load's report
//! speaks: a request that was answered is never lost, and one that a pod
//! answered was seen by it (see `load`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::args::{AuditArgs, MessageArgs};
use crate::client::{Call, Protocol, exchange};
use crate::dial::Dialer;
use crate::id::Run;
use crate::numbers::{MAX_NUMBERS, Numbers};
use crate::seen::Sightings;

/// Prints one line of JSON. The exit code says only whether all pods answered.
pub(crate) async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let sent = Sent::of(&args)?;
    let audit = audit(&sent, &args.addresses, args.timeout).await?;
    println!("{}", serde_json::to_string(&audit)?);
    Ok(ExitCode::SUCCESS)
}

/// Asks the pod at each address, within `timeout` each.
pub(crate) async fn audit(
    sent: &Sent,
    addresses: &[String],
    timeout: Duration,
) -> anyhow::Result<Audit> {
    let dialer = Dialer::from_system();
    let mut pods = Vec::new();
    for address in addresses {
        let sightings = ask(&dialer, address, &sent.run, Instant::now() + timeout)
            .await
            .with_context(|| address.clone())?;
        pods.push(sightings);
    }
    Ok(Audit::of(sent, &pods))
}

/// What the load knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Sent {
    run: Run,
    sent: u64,
    /// All, when it is not known.
    unanswered: Option<Numbers>,
    /// By the name of the pod that answered.
    #[serde(default)]
    answered: BTreeMap<String, Numbers>,
}

impl Sent {
    fn of(args: &AuditArgs) -> anyhow::Result<Self> {
        match (&args.report, &args.run, args.sent) {
            (Some(path), _, _) => Self::read(path).with_context(|| path.display().to_string()),
            (None, Some(run), Some(sent)) => Self {
                run: run.clone(),
                sent,
                unanswered: args.unanswered.clone(),
                answered: BTreeMap::new(),
            }
            .checked(),
            (None, _, _) => bail!("want a report, or a run and how many were sent"),
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let printed = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin())?
        } else {
            std::fs::read_to_string(path)?
        };
        Self::parse(&printed)
    }

    /// Reads what a load printed with `--json`: a timeline may stand before
    /// the report.
    pub(crate) fn parse(printed: &str) -> anyhow::Result<Self> {
        let report = printed.trim_end().lines().next_back();
        let report = report.context("there is no report")?;
        serde_json::from_str::<Self>(report)
            .context("not the JSON report of a load")?
            .checked()
    }

    /// Requests that were not sent have no outcome.
    fn checked(self) -> anyhow::Result<Self> {
        let sent = self.sent;
        ensure!(sent <= MAX_NUMBERS, "more than {MAX_NUMBERS} were sent");
        for numbers in self.unanswered.iter().chain(self.answered.values()) {
            if let Some(last) = numbers.0.last().filter(|&&last| last >= sent) {
                bail!("request {last} is not one of the {sent} that were sent");
            }
        }
        Ok(self)
    }
}

async fn ask(
    dialer: &Dialer,
    address: &str,
    run: &Run,
    deadline: Instant,
) -> anyhow::Result<Sightings> {
    let url = format!("http://{address}/ids?run={run}");
    let url = url.parse().map_err(anyhow::Error::msg)?;
    let call = Call::new(url, Protocol::Http1, &MessageArgs::default());
    let answer = exchange(&mut None, dialer, &call, deadline).await?;
    ensure!(answer.status.is_success(), "status {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// What the servers saw of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Audit {
    pub(crate) sent: u64,
    /// Requests that reached a pod.
    pub(crate) seen: u64,
    /// Requests that reached pods more than once.
    pub(crate) doubled: u64,
    /// Requests that nobody answered and no pod saw.
    pub(crate) lost: u64,
    /// Ids that the pods had to forget; the counts are right when it is 0.
    pub(crate) forgotten: u64,
    pub(crate) doubled_ids: Numbers,
    pub(crate) lost_ids: Numbers,
}

impl Audit {
    /// A named pod that was asked twice counts once.
    fn of(sent: &Sent, pods: &[Sightings]) -> Self {
        let mut named = BTreeMap::new();
        let mut times = BTreeMap::new();
        let mut forgotten = 0;
        for pod in pods {
            if !pod.pod.is_empty() && named.insert(&pod.pod, &pod.seen).is_some() {
                continue;
            }
            forgotten += pod.forgotten;
            add(&mut times, &pod.seen);
            add(&mut times, &pod.doubled);
        }
        for (pod, numbers) in &sent.answered {
            let known = named.get(pod);
            let unknown = numbers.0.iter().copied();
            let unknown = unknown.filter(|n| known.is_none_or(|known| !known.0.contains(n)));
            add(&mut times, &unknown.collect());
        }
        times.retain(|&number, _| number < sent.sent);

        let all = || (0..sent.sent).collect();
        let unanswered = sent.unanswered.clone().unwrap_or_else(all);
        let unseen = unanswered.0.into_iter().filter(|n| !times.contains_key(n));
        let lost_ids: Numbers = unseen.collect();
        let more = times.iter().filter(|(_, times)| **times > 1);
        let doubled_ids: Numbers = more.map(|(&number, _)| number).collect();
        Self {
            sent: sent.sent,
            seen: times.len() as u64,
            doubled: doubled_ids.len(),
            lost: lost_ids.len(),
            forgotten,
            doubled_ids,
            lost_ids,
        }
    }
}

fn add(times: &mut BTreeMap<u64, u64>, numbers: &Numbers) {
    for &number in &numbers.0 {
        *times.entry(number).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn numbers(text: &str) -> Numbers {
        text.parse().unwrap()
    }

    fn pod(name: &str, seen: &str, doubled: &str) -> Sightings {
        Sightings {
            pod: name.into(),
            seen: numbers(seen),
            doubled: numbers(doubled),
            ..Sightings::default()
        }
    }

    fn sent(unanswered: Option<&str>, answered: &[(&str, &str)]) -> Sent {
        let answered = answered.iter().map(|&(p, n)| (p.into(), numbers(n)));
        Sent {
            run: "r".parse().unwrap(),
            sent: 10,
            unanswered: unanswered.map(numbers),
            answered: answered.collect(),
        }
    }

    #[test]
    fn a_report_is_read_from_what_a_load_printed() {
        let plain = r#"{"run":"r","sent":10,"ok":9,"unanswered":"8-9"}"#;
        let timeline = format!("{}\n{plain}\n\n", r#"{"t":0,"ok":9,"failed":1}"#);
        for (printed, want) in [
            (plain, sent(Some("8-9"), &[])),
            (&timeline, sent(Some("8-9"), &[])),
            (
                r#"{"run":"r","sent":10,"unanswered":"","answered":{"a":"0-9"}}"#,
                sent(Some(""), &[("a", "0-9")]),
            ),
            (r#"{"run":"r","sent":10}"#, sent(None, &[])),
        ] {
            assert_eq!(Sent::parse(printed).unwrap(), want, "{printed}");
        }
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_reason() {
        for (printed, reason) in [
            ("", "there is no report"),
            ("\n \n", "there is no report"),
            ("10 requests in 2.0s: 8 ok", "not the JSON report of a load"),
            (r#"{"run":"r","sent":10,"unans"#, "EOF while parsing"),
            (r#"{"t":0,"ok":9,"failed":1}"#, "missing field `run`"),
            (r#"{"run":"r"}"#, "missing field `sent`"),
            (r#"{"run":"r","sent":-1}"#, "invalid value"),
            (r#"{"run":"a b&c","sent":1}"#, "letters, digits or `-`"),
            (
                r#"{"run":"r","sent":10000001}"#,
                "more than 10000000 were sent",
            ),
            (
                r#"{"run":"r","sent":9,"unanswered":"9-8"}"#,
                "`9-8` is not a range",
            ),
            (
                r#"{"run":"r","sent":9,"unanswered":"8-9"}"#,
                "request 9 is not one of the 9",
            ),
            (
                r#"{"run":"r","sent":9,"answered":{"a":"0-8","b":"11"}}"#,
                "request 11 is not one of the 9",
            ),
        ] {
            let error = format!("{:#}", Sent::parse(printed).unwrap_err());
            assert!(error.contains(reason), "{printed}: {error}");
        }
    }

    #[test]
    fn flags_say_the_same_as_a_report() {
        let sent_by = |flags: &str| {
            let words = ["testapp", "audit", "web:80"].into_iter();
            let words = words.chain(flags.split(' '));
            match Args::try_parse_from(words).unwrap().command {
                Command::Audit(args) => Sent::of(&args),
                other => panic!("{other:?}"),
            }
        };
        let known = sent_by("--run r --sent 10 --unanswered 8-9").unwrap();
        assert_eq!(known, sent(Some("8-9"), &[]));
        assert_eq!(sent_by("--run r --sent 10").unwrap(), sent(None, &[]));
        assert!(sent_by("--run r --sent 9 --unanswered 8-9").is_err());
        assert!(sent_by("--report /no/such/file").is_err());
    }

    #[test]
    fn pods_are_summed() {
        let (a, b) = (pod("a", "0-4", "2"), pod("b", "4-8,12", ""));
        for (sent, pods, want) in [
            (sent(None, &[]), vec![a.clone(), b.clone()], (9, "2,4", "9")),
            (
                sent(Some(""), &[]),
                vec![a.clone(), b.clone()],
                (9, "2,4", ""),
            ),
            (
                sent(Some("8-9"), &[]),
                vec![a.clone(), b.clone()],
                (9, "2,4", "9"),
            ),
            // The same pod by two addresses.
            (sent(None, &[]), vec![a.clone(), a.clone()], (5, "2", "5-9")),
            // The pod `b` is gone.
            (sent(Some("9"), &[]), vec![a.clone()], (5, "2", "9")),
            (
                sent(Some("9"), &[("b", "4-8")]),
                vec![a.clone()],
                (9, "2,4", "9"),
            ),
            // The pod `a` lost its memory.
            (
                sent(Some(""), &[("a", "0-9")]),
                vec![pod("a", "3", "")],
                (10, "", ""),
            ),
        ] {
            let got = Audit::of(&sent, &pods);
            let (seen, doubled, lost) = want;
            assert_eq!(
                (got.seen, &got.doubled_ids, &got.lost_ids),
                (seen, &numbers(doubled), &numbers(lost)),
                "{sent:?}"
            );
            assert_eq!(
                (got.doubled, got.lost),
                (got.doubled_ids.len(), got.lost_ids.len())
            );
        }
    }
}
