//! Waiting for what another program does.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(5);

/// Waits until `holds`, and says how long that took.
///
/// # Errors
/// The first one of `holds`; and that it still does not hold at the deadline.
pub fn until(
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let is_late = start.elapsed() > deadline;
        if holds()? {
            return Ok(start.elapsed());
        }
        ensure!(!is_late, "still not, after {deadline:?}: {what}");
        sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn who_waits_is_told_how_it_ended() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert!(until("the third", Duration::MAX, third).is_ok());
        let never = until("never", SHORT, || Ok(false)).unwrap_err();
        assert_eq!(never.to_string(), "still not, after 20ms: never");
        let broken = until("never", SHORT, || bail!("broken")).unwrap_err();
        assert_eq!(broken.to_string(), "broken");
        // Once more when it is late: whoever looked may have been held up.
        assert!(until("at once", Duration::ZERO, || Ok(true)).is_ok());
    }
}
