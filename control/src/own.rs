//! mesh-control's own certificate, which it signs for itself.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use mesh_tls::{Certificate, KeyRequest, Tls};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::authority::Authority;

/// How often our certificate is replaced while the clock does not jump.
const RENEWAL: Duration = Duration::from_secs(8 * 3600);
/// How often it is looked at: the clock may have been set, or the machine may
/// have slept.
const LOOK: Duration = Duration::from_secs(60);

/// Makes a certificate, and shows it from now on.
pub(crate) fn certify(authority: &Authority, tls: &Tls) -> Result<()> {
    let id = mesh_dataplane::control::control_identity(authority.trust_domain())?;
    let key = KeyRequest::generate()?;
    let issued = authority.issue(&id, key.csr_der(), tls.clock().now())?;
    tls.set_certificate(key.certify(issued.leaf, issued.intermediates)?);
    Ok(())
}

/// Renews the certificate before it ends, whatever the clock does, and at once
/// when another root signs.
pub(crate) async fn stay_certified(authority: Authority, tls: Tls) {
    let mut replaced = authority.replaced();
    // None if the last attempt failed: the next look tries again.
    let mut certified = Some(Instant::now());
    loop {
        tokio::select! {
            () = sleep(LOOK) => {
                let age = certified.map(|at| at.elapsed());
                let life = tls.certificate().as_ref().map(life);
                let is_good = life.zip(age).is_some_and(|(life, age)| {
                    !is_due(&life, tls.clock().now(), age)
                });
                if is_good {
                    continue;
                }
            }
            Ok(()) = replaced.changed() => {}
        }
        certified = match certify(&authority, &tls) {
            Ok(()) => Some(Instant::now()),
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "our own certificate was not renewed"
                );
                None
            }
        };
    }
}

fn life(certificate: &Certificate) -> Range<SystemTime> {
    certificate.not_before()..certificate.valid_until()
}

/// Whether a certificate with this life, made `age` ago, is to be replaced. As
/// durations do not count the time that a machine sleeps, and clocks are set,
/// neither alone tells.
fn is_due(life: &Range<SystemTime>, now: SystemTime, age: Duration) -> bool {
    let whole = life.end.duration_since(life.start).unwrap_or_default();
    let left = life.end.duration_since(now).unwrap_or_default();
    age >= RENEWAL || now < life.start || left <= whole / 3
}

#[cfg(test)]
mod tests {
    use mesh_core::identity::TrustDomain;
    use mesh_tls::{Clock, Trust, parse_bundle};

    use super::*;
    use crate::authority::new_root;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn t7_a_certificate_is_renewed_by_whichever_of_both_clocks_is_first() {
        let start = SystemTime::UNIX_EPOCH + 1_000 * HOUR;
        let life = start..start + 24 * HOUR;
        for (now, age, expected) in [
            (start, Duration::ZERO, false),
            (start + 7 * HOUR, 7 * HOUR, false),
            // Hours have passed, whatever the clock says.
            (start + HOUR, 8 * HOUR, true),
            // It was set forward, to before and after two thirds and the end.
            (start + 16 * HOUR - SECOND, HOUR, false),
            (start + 16 * HOUR, HOUR, true),
            (start + 24 * HOUR, SECOND, true),
            (start + 900 * HOUR, SECOND, true),
            // It was set back, to the start and before.
            (start, HOUR, false),
            (start - SECOND, SECOND, true),
            (start - 900 * HOUR, SECOND, true),
        ] {
            assert_eq!(is_due(&life, now, age), expected, "{now:?} {age:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t7_a_certificate_that_does_not_fit_the_clock_is_replaced_within_minutes() {
        let west: TrustDomain = "west".parse().unwrap();
        for offset in [-20 * 3600, 2 * 3600] {
            let clock = Clock::off_by(offset);
            let root = new_root(&west, clock.now()).unwrap();
            let bundle = parse_bundle(&root.certificate).unwrap();
            let authority = Authority::new(&root, west.clone()).unwrap();
            let trust = || Trust::new(west.clone(), &bundle).unwrap();
            // What was made before the clock jumped, to where it is right.
            let before = Tls::new(trust(), clock);
            certify(&authority, &before).unwrap();
            let tls = Tls::new(trust(), Clock::SYSTEM);
            tls.set_certificate(before.certificate().unwrap());
            let renewing = tokio::spawn(stay_certified(authority, tls.clone()));
            sleep(3 * LOOK).await;
            renewing.abort();
            let (life, now) = (life(&tls.certificate().unwrap()), Clock::SYSTEM.now());
            assert!(!is_due(&life, now, Duration::ZERO), "{offset}: {life:?}");
        }
    }
}
