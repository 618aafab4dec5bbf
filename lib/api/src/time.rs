//! Moments as Kubernetes writes them.

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;

/// The moment as a field of an object. One that no object can hold, thousands
/// of years away, is 1970.
#[must_use]
pub fn timestamp(moment: SystemTime) -> Timestamp {
    Timestamp::try_from(moment).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_moment_is_written_as_kubernetes_does() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(timestamp(moment).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(timestamp(UNIX_EPOCH), Timestamp::default());
    }
}
