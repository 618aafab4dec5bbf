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

/// What is wrong with a program's own certificate or clock. The clock comes
/// first: by one that is off, the best certificate is not valid.
pub(super) fn own(own: &Own, now: u64, program: &str) -> Option<Finding> {
    if let Some(off) = clock(own, now, program) {
        return Some(off);
    }
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
    None
}

/// Whether a program's clock is off, `now` being this machine's.
pub(super) fn clock(own: &Own, now: u64, program: &str) -> Option<Finding> {
    let skew = own.clock.abs_diff(now);
    let direction = if own.clock < now {
        "behind"
    } else {
        "ahead of"
    };
    (skew > MAX_SKEW).then(|| {
        Finding::broken(
            format!(
                "the clock of {program} is {} {direction} this machine's",
                in_words(skew)
            ),
            "set the clock of its node, or of this machine",
        )
    })
}

/// A minute or more for people, in its largest two units.
fn in_words(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes % 60, seconds % 60) {
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Clocks that differ by more, in seconds, are off.
const MAX_SKEW: u64 = 60;

#[cfg(test)]
mod tests {
    use super::{super::fixtures::NOW, *};

    #[test]
    fn t7_a_clock_that_is_off_is_said_in_words() {
        let at = |clock| Own {
            certificate: None,
            clock,
        };
        for (shown, said) in [
            (NOW + 25 * 3600 + 7, "25 h ahead of"),
            (NOW - 25 * 3600 - 120, "25 h 2 min behind"),
            (NOW + 90, "1 min 30 s ahead of"),
            (NOW - 120, "2 min behind"),
        ] {
            let finding = clock(&at(shown), NOW, "the sidecar of web-1").unwrap();
            let expected = format!("the clock of the sidecar of web-1 is {said} this machine's");
            assert_eq!(finding.text, expected);
        }
        for shown in [NOW - 60, NOW, NOW + 60] {
            assert!(clock(&at(shown), NOW, "it").is_none());
        }
    }

    #[test]
    fn t7_without_a_certificate_the_clock_is_the_reason() {
        let own_of = Own {
            certificate: None,
            clock: NOW + 90_000,
        };
        let finding = own(&own_of, NOW, "the sidecar").unwrap();
        assert!(finding.text.contains("clock"), "{}", finding.text);
    }
}
