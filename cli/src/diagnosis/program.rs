//! Rules about one of our programs: its Deployment, its certificate and its
//! clock.

use super::{Finding, facts::Read, probe::Own};
use crate::check::state::Program;

/// A Deployment of ours.
pub(super) fn deployment(
    context: &str,
    (namespace, name): (&str, &str),
    found: &Read<Option<Program>>,
) -> Finding {
    match found {
        Err(error) => Finding::unread(error),
        Ok(None) => Finding::broken(
            format!("{name} is not installed in {context}"),
            format!("run `mesh check --context {context}`: it says how"),
        ),
        Ok(Some(program)) if program.ready < 1 => Finding::broken(
            format!(
                "{name} in {context} has no ready replica ({} of {})",
                program.ready, program.wanted
            ),
            if program.wanted < 1 {
                format!(
                    "run `kubectl --context {context} -n {namespace} scale deploy/{name} --replicas=1`"
                )
            } else {
                format!(
                    "see `kubectl --context {context} -n {namespace} describe pods -l app={name}`"
                )
            },
        ),
        Ok(Some(program)) => Finding::good(format!(
            "{name} in {context} is ready ({} of {})",
            program.ready, program.wanted
        )),
    }
}

/// What is wrong with a program's own certificate or clock.
pub(super) fn own(own: &Own, now: u64, program: &str) -> Option<Finding> {
    let Some(certificate) = &own.certificate else {
        return Some(Finding::broken(
            format!("{program} has no certificate"),
            "see its log, and that of mesh-control, which issues them",
        ));
    };
    if own.clock >= certificate.not_after {
        let ago = own.clock - certificate.not_after;
        return Some(Finding::broken(
            format!("the certificate of {program} expired {ago} s ago"),
            "see its log: it cannot renew; mesh-control must be reachable",
        ));
    }
    if own.clock < certificate.not_before {
        let ahead = certificate.not_before - own.clock;
        return Some(Finding::broken(
            format!("the certificate of {program} is not valid for another {ahead} s by its clock"),
            "set the clock of its node, or that of mesh-control's node",
        ));
    }
    let skew = own.clock.abs_diff(now);
    (skew > MAX_SKEW).then(|| {
        Finding::broken(
            format!("the clock of {program} and that of this machine differ by {skew} s"),
            "set the clock of its node, or of this machine",
        )
    })
}

/// Clocks that differ by more, in seconds, are off.
const MAX_SKEW: u64 = 60;
