//! What machine this is, and who is measured.

use std::fs;

use anyhow::Result;

use crate::{
    load::handshakes,
    measure::{Group, handshaker},
    options::Options,
    pair::{ONE_WORKER, Pair, Surroundings},
    peers,
    subject::Subject,
};

/// Lines about the machine.
pub(crate) fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory, version) = (
        read("/proc/cpuinfo"),
        read("/proc/meminfo"),
        read("/proc/sys/kernel/osrelease"),
    );
    let processors = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let congestion_control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    vec![
        format!("{processors} x {}", value(&cpu, "model name")),
        format!(
            "{} memory, Linux {}, congestion control {}",
            value(&memory, "MemTotal"),
            version.trim(),
            congestion_control.trim()
        ),
        format!("load average {}", read("/proc/loadavg").trim()),
    ]
}

/// The value of the first line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then_some(value.trim()))
        .unwrap_or("unknown")
}

/// A line about each subject.
///
/// # Errors
/// If a program cannot be run.
pub(crate) fn subjects(cx: &Surroundings, options: &Options) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for subject in options.subjects() {
        let version = match (subject, cx.peers.as_deref()) {
            (Subject::Direct, _) => "no proxy".to_owned(),
            (Subject::Mesh, _) => ours(&cx.profile),
            (_, None) => "unknown".to_owned(),
            (_, Some(programs)) => peers::version(subject, programs)?,
        };
        lines.push(format!("{subject:8} {version}"));
    }
    Ok(lines)
}

/// Ours, as it was built.
fn ours(profile: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let warning = match profile {
        "release" | "trained" => "",
        _ => ": its figures mean nothing",
    };
    format!("mesh-proxy {version}, profile {profile}{warning}")
}

/// What B agrees on with a client like ours.
///
/// # Errors
/// If a pair does not start.
pub(crate) fn agreed(cx: &Surroundings, subject: Subject) -> Result<Option<String>> {
    if !Group::Handshakes.is_of(subject) {
        return Ok(None);
    }
    let mut pair = Pair::start(cx, subject, ONE_WORKER)?;
    let peer = handshaker(cx, &pair);
    let agreed = pair.client(|| handshakes::agreed(&peer))?;
    Ok(Some(format!("{subject:8} TLS 1.3, {agreed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_is_not_released_is_warned_of() {
        assert!(ours("release").ends_with(", profile release"));
        assert!(ours("trained").ends_with(", profile trained"));
        assert!(ours("quick").ends_with("figures mean nothing"));
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "model\t\t: 6\nmodel name\t: A processor\nMemTotal:  24 kB\n";
        assert_eq!(value(text, "model name"), "A processor");
        assert_eq!(value(text, "MemTotal"), "24 kB");
        assert_eq!(value(text, "absent"), "unknown");
    }
}
