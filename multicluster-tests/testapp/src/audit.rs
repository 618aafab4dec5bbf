//! `testapp audit`: what became of a load's requests, as the servers saw it.
//!
//! Each pod is asked for the requests of the run that it saw. A pod that is
//! gone, or was started anew, does not know; for those the load's report
//! speaks: a request that was answered is never lost, and one that a pod
//! answered was seen by it (see `load`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::args::{AuditArgs, MessageArgs};
use crate::client::{Call, Protocol, exchange};
use crate::dial::Dialer;
use crate::numbers::Numbers;
use crate::seen::Sightings;

/// Prints one line of JSON. The exit code says only whether all pods answered.
pub(crate) async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let audit = audit(&args).await?;
    println!("{}", serde_json::to_string(&audit)?);
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn audit(args: &AuditArgs) -> anyhow::Result<Audit> {
    let sent = Sent::of(args)?;
    let dialer = Dialer::from_system();
    let mut pods = Vec::new();
    for address in &args.addresses {
        let sightings = ask(&dialer, address, &sent.run, args)
            .await
            .with_context(|| address.clone())?;
        pods.push(sightings);
    }
    Ok(Audit::of(&sent, &pods))
}

/// What the load knows; read from its report.
#[derive(Debug, Clone, Default, Deserialize)]
struct Sent {
    run: String,
    sent: u64,
    /// All, when it is not known.
    unanswered: Option<Numbers>,
    /// By the name of the pod that answered.
    answered: Option<BTreeMap<String, Numbers>>,
}

impl Sent {
    fn of(args: &AuditArgs) -> anyhow::Result<Self> {
        match (&args.report, &args.run, args.sent) {
            (Some(path), _, _) => Self::read(path).with_context(|| path.display().to_string()),
            (None, Some(run), Some(sent)) => Ok(Self {
                run: run.to_string(),
                sent,
                unanswered: args.unanswered.clone(),
                answered: None,
            }),
            (None, _, _) => bail!("want a report, or a run and how many were sent"),
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin())?
        } else {
            std::fs::read_to_string(path)?
        };
        // A timeline may stand before the report.
        let last = text.trim_end().lines().next_back().unwrap_or_default();
        Ok(serde_json::from_str(last)?)
    }
}

async fn ask(
    dialer: &Dialer,
    address: &str,
    run: &str,
    args: &AuditArgs,
) -> anyhow::Result<Sightings> {
    let url = format!("http://{address}/ids?run={run}");
    let url = url.parse().map_err(anyhow::Error::msg)?;
    let call = Call::new(url, Protocol::Http1, &MessageArgs::default());
    let answer = exchange(&mut None, dialer, &call, Instant::now() + args.timeout).await?;
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
        for (pod, numbers) in sent.answered.iter().flatten() {
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
    use super::*;

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
            run: "r".into(),
            sent: 10,
            unanswered: unanswered.map(numbers),
            answered: Some(answered.collect()),
        }
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
