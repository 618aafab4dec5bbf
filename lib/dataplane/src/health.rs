//! What a program's identity means for its readiness, and how it is counted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_runtime::Readiness;
use mesh_tls::Tls;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::sleep;
use tracing::{error, info};

/// How often the certificate's end is compared with the clock, at most.
const LOOK: Duration = Duration::from_secs(5);
/// And at least, once it is over.
const SHORTEST: Duration = Duration::from_millis(200);

/// Why a program whose certificate has ended is not ready.
const EXPIRED: &str = "its certificate has expired, and mesh-control gives no new one";
/// Why one that never had any is not.
const UNCERTIFIED: &str = "it has no certificate, and mesh-control gives none";
/// Why either is not, if the reason is a clock.
const WRONG_TIME: &str = "mesh-control's certificates are not valid by the clock here: \
                          one of the two clocks is off, or mesh-control's own has expired";

/// What came of an attempt that failed because a clock is off, as a label.
pub(crate) const CLOCK_OFF: &str = "clock";

/// The state of our identity, for those who look. Clones share it.
#[derive(Clone, Default)]
pub struct IdentityHealth {
    readiness: Readiness,
    not_after: Gauge,
    renewals: Family<Outcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl IdentityHealth {
    /// Registers the metrics; `readiness` is withheld while the certificate
    /// has ended.
    #[must_use]
    pub fn register(registry: &mut Registry, readiness: Readiness) -> Self {
        let health = Self {
            readiness,
            ..Self::default()
        };
        let identity = registry.sub_registry_with_prefix("mesh_identity");
        identity.register(
            "not_after_seconds",
            "When our certificate ends, in Unix seconds; 0 without one",
            health.not_after.clone(),
        );
        identity.register(
            "renewals",
            "Attempts to get a certificate, by what came of them",
            health.renewals.clone(),
        );
        health
    }

    /// Counts one attempt to get a certificate.
    pub(crate) fn attempted(&self, outcome: &'static str) {
        self.renewals.get_or_create(&Outcome { outcome }).inc();
    }

    /// There is a new certificate.
    pub(crate) fn certified(&self) {
        self.readiness.lacks(None);
    }

    /// There is no valid certificate, and the last attempt to get one came to
    /// `outcome`; `ended` is when the last one did, if there was any.
    pub(crate) fn uncertified(&self, outcome: &'static str, ended: Option<SystemTime>) {
        self.readiness.lacks(Some(match ended {
            _ if outcome == CLOCK_OFF => WRONG_TIME,
            Some(_) => EXPIRED,
            None => UNCERTIFIED,
        }));
    }

    /// Watches our certificate for as long as it is polled.
    pub async fn watch(self, tls: Tls) {
        let mut expired = false;
        loop {
            let now = tls.clock().now();
            let until = tls.valid_until();
            self.not_after.set(until.map_or(0, unix_seconds));
            if expired != until.is_some_and(|until| until <= now) {
                expired = !expired;
                self.readiness.withhold(expired.then_some(EXPIRED));
                if expired {
                    error!("our certificate has expired; no connection is opened or accepted");
                } else {
                    info!("we have a valid certificate again");
                }
            }
            let left = until.and_then(|until| until.duration_since(now).ok());
            sleep(left.unwrap_or_default().clamp(SHORTEST, LOOK)).await;
        }
    }
}

fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    i64::try_from(seconds.unwrap_or_default()).unwrap_or(i64::MAX)
}
