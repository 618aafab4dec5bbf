//! Which replica works: the one that holds the Lease.
//!
//! The Lease keeps replicas out of each other's way. It is not what makes two
//! of them harmless: every write holds only for the version that was seen.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, Error, ResourceExt, api::PostParams};
use mesh_api::{names, time::timestamp};
use mesh_tls::Clock;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// One replica's claim to the Lease.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    name: String,
    clock: Clock,
    /// The Lease's version that we saw last, and since when it is the last.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// `name` tells the replicas apart; the Lease is in `namespace`.
    pub(crate) fn new(client: &Client, namespace: &str, name: &str, clock: Clock) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            name: name.into(),
            clock,
            seen: None,
        }
    }

    /// Does `work` whenever this replica holds the Lease, for ever.
    pub(crate) async fn lead<W: Future<Output = ()>>(&mut self, work: impl Fn() -> W) {
        loop {
            self.acquire().await;
            info!(lease = names::MIRROR, "this replica works now");
            tokio::select! {
                () = work() => {}
                () = self.hold() => {}
            }
            warn!(
                lease = names::MIRROR,
                "this replica works no longer: it lost the Lease"
            );
        }
    }

    /// Gives the Lease back, so that the next replica need not wait.
    pub(crate) async fn release(&mut self) {
        let release = async {
            let Ok(Some(lease)) = self.leases.get_opt(names::MIRROR).await else {
                return;
            };
            if holder(&lease) == Some(&self.name) {
                let spec = self.spec(&lease, None);
                let _ = self.write(Some(lease), spec).await;
            }
        };
        let _ = timeout(REQUEST, release).await;
    }

    async fn acquire(&mut self) {
        while self.attempt().await != Some(true) {
            sleep(PAUSE).await;
        }
    }

    /// Renews until the Lease is lost, or may have been.
    async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(PAUSE).await;
            match self.attempt().await {
                Some(true) => renewed = Instant::now(),
                Some(false) => return,
                None if renewed.elapsed() >= GIVE_UP => return,
                None => {}
            }
        }
    }

    /// Takes or renews the Lease; says whether we have it, if that is known.
    async fn attempt(&mut self) -> Option<bool> {
        match timeout(REQUEST, self.take_or_renew()).await {
            Ok(Ok(held)) => Some(held),
            Ok(Err(Error::Api(status))) if status.code == 409 => Some(false),
            Ok(Err(error)) => {
                warn!(lease = names::MIRROR, %error, "the Lease cannot be read or written");
                None
            }
            Err(_) => {
                warn!(lease = names::MIRROR, "the API server does not answer");
                None
            }
        }
    }

    async fn take_or_renew(&mut self) -> Result<bool, Error> {
        let lease = self.leases.get_opt(names::MIRROR).await?;
        let unchanged = self.unchanged(lease.as_ref());
        if !may_take(lease.as_ref(), &self.name, unchanged) {
            return Ok(false);
        }
        let old = lease.clone().unwrap_or_default();
        let spec = self.spec(&old, Some(&self.name));
        self.write(lease, spec).await?;
        Ok(true)
    }

    /// For how long the Lease has been as it is, by our own clock.
    fn unchanged(&mut self, lease: Option<&Lease>) -> Duration {
        let version = lease
            .and_then(ResourceExt::resource_version)
            .unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed(),
            _ => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn spec(&self, old: &Lease, holder: Option<&String>) -> LeaseSpec {
        let now = MicroTime(timestamp(self.clock.now()));
        let old = old.spec.clone().unwrap_or_default();
        let stays = old.holder_identity.as_ref() == Some(&self.name);
        let changes = old.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: holder.cloned(),
            lease_duration_seconds: Some(DURATION.as_secs().try_into().unwrap_or(i32::MAX)),
            acquire_time: if stays {
                old.acquire_time
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(changes.saturating_add(i32::from(!stays))),
            ..LeaseSpec::default()
        }
    }

    /// Fails if the Lease has changed since it was read.
    async fn write(&self, old: Option<Lease>, spec: LeaseSpec) -> Result<(), Error> {
        let post = PostParams {
            field_manager: Some(names::MIRROR_CONTROLLER.into()),
            ..PostParams::default()
        };
        let written = match old {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.leases.replace(names::MIRROR, &post, &lease).await?
            }
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(names::MIRROR.into());
                lease.spec = Some(spec);
                self.leases.create(&post, &lease).await?
            }
        };
        drop(written);
        Ok(())
    }
}

/// Whether `me` may write itself into a Lease that has been as it is for
/// `unchanged`: it is free, mine, or its holder has let it run out.
fn may_take(lease: Option<&Lease>, me: &str, unchanged: Duration) -> bool {
    let Some(lease) = lease else {
        return true;
    };
    let Some(holder) = holder(lease) else {
        return true;
    };
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let duration = seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs);
    holder == me || unchanged >= duration
}

fn holder(lease: &Lease) -> Option<&String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_ref();
    holder.filter(|holder| !holder.is_empty())
}

/// How long a Lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops before another starts.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// For one attempt; with [`PAUSE`] it stays below what [`DURATION`] leaves
/// after [`GIVE_UP`].
const REQUEST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::{sync::watch, task::JoinSet};

    use super::*;
    use crate::fake_api::FakeApi;

    fn lease(holder: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn m11_a_lease_has_one_holder_until_it_runs_out() {
        let seconds = Duration::from_secs;
        for (lease, unchanged, expected) in [
            (None, 0, true),
            (Some(lease("")), 0, true),
            (Some(lease("me")), 0, true),
            (Some(lease("other")), 0, false),
            (Some(lease("other")), 14, false),
            (Some(lease("other")), 15, true),
        ] {
            let may = may_take(lease.as_ref(), "me", seconds(unchanged));
            assert_eq!(may, expected, "{lease:?} {unchanged}");
        }
    }

    #[test]
    fn m11_a_holder_stops_before_the_next_one_starts() {
        assert!(GIVE_UP + PAUSE + REQUEST < DURATION);
    }

    /// Leads in the background and says so.
    fn lead(api: &FakeApi, name: &'static str, leading: watch::Sender<bool>) -> JoinSet<()> {
        let mut candidate = Candidate::new(&api.client(), "mesh-multicluster", name, Clock::SYSTEM);
        let mut task = JoinSet::new();
        task.spawn(async move {
            candidate
                .lead(|| async {
                    let _guard = Leading::new(&leading);
                    std::future::pending::<()>().await;
                })
                .await;
        });
        task
    }

    struct Leading<'a>(&'a watch::Sender<bool>);

    impl<'a> Leading<'a> {
        fn new(leading: &'a watch::Sender<bool>) -> Self {
            leading.send_replace(true);
            Self(leading)
        }
    }

    impl Drop for Leading<'_> {
        fn drop(&mut self) {
            self.0.send_replace(false);
        }
    }

    const PATH: &str =
        "/apis/coordination.k8s.io/v1/namespaces/mesh-multicluster/leases/mesh-mirror";

    #[tokio::test(start_paused = true)]
    async fn m11_the_second_replica_works_when_the_first_is_gone() {
        let api = FakeApi::new();
        let (first, second) = (watch::Sender::new(false), watch::Sender::new(false));
        let task = lead(&api, "first", first.clone());
        first.subscribe().wait_for(|leads| *leads).await.unwrap();
        let _second = lead(&api, "second", second.clone());
        sleep(Duration::from_secs(120)).await;
        assert!(*first.borrow() && !*second.borrow());
        drop(task);
        let start = Instant::now();
        second.subscribe().wait_for(|leads| *leads).await.unwrap();
        assert!(start.elapsed() < DURATION + PAUSE + REQUEST);
        assert_eq!(api.get(PATH).unwrap()["spec"]["holderIdentity"], "second");
        assert_eq!(api.get(PATH).unwrap()["spec"]["leaseTransitions"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn m11_a_replica_that_cannot_renew_stops() {
        let api = FakeApi::new();
        let leading = watch::Sender::new(false);
        let _task = lead(&api, "first", leading.clone());
        leading.subscribe().wait_for(|leads| *leads).await.unwrap();
        api.set_broken(PATH, true);
        let start = Instant::now();
        leading.subscribe().wait_for(|leads| !*leads).await.unwrap();
        assert!(start.elapsed() < DURATION);
        api.set_broken(PATH, false);
        leading.subscribe().wait_for(|leads| *leads).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_back_is_free_at_once() {
        let api = FakeApi::new();
        let mut first = Candidate::new(&api.client(), "mesh-multicluster", "first", Clock::SYSTEM);
        assert_eq!(first.attempt().await, Some(true));
        first.release().await;
        let mut second =
            Candidate::new(&api.client(), "mesh-multicluster", "second", Clock::SYSTEM);
        assert_eq!(second.attempt().await, Some(true));
        assert_eq!(first.attempt().await, Some(false));
    }
}
