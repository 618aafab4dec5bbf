//! What peers say of the Services that are mirrored here: one stream per
//! mirrored Service, through the peer's gateway to its mesh-control.

mod known;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use mesh_core::link::Link;
use mesh_dataplane::{channel, tunnel::Tunnels};
use mesh_proto::v1::{ExportedEndpoints, ExportedEndpointsRequest, exports_client::ExportsClient};
use mesh_runtime::Backoff;
use mesh_tls::Tls;
use tokio::{sync::watch, task::AbortHandle, time::timeout};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tracing::{info, warn};

use self::known::Known;
use crate::{
    destination::{Heard, Remote},
    snapshot::Mirror,
    world::WorldReceiver,
};

/// A stream without a sign of life for so long is opened again.
const SILENCE: Duration = Duration::from_secs(15);

/// Follows the peers for as long as the program runs.
pub(crate) async fn follow(
    mut world: WorldReceiver,
    into: watch::Sender<Arc<Remote>>,
    tls: Tls,
    tunnels: Tunnels,
    tasks: TaskTracker,
) {
    let mut feeds = Feeds {
        channels: HashMap::new(),
        streams: BTreeMap::new(),
        into: Arc::new(into),
        tls,
        tunnels,
        tasks,
    };
    loop {
        let wanted = world.borrow_and_update().as_ref().map(|world| {
            let services = world.snapshot.services.values();
            let mirrors = services.filter_map(|service| service.mirror.clone());
            let linked = mirrors.filter_map(|mirror| {
                let link = world.snapshot.import(&mirror.cluster)?.clone();
                Some((mirror, link))
            });
            linked.collect::<BTreeMap<_, _>>()
        });
        if let Some(wanted) = wanted {
            feeds.reconcile(&wanted);
        }
        if world.changed().await.is_err() {
            return;
        }
    }
}

struct Feeds {
    /// One connection per link serves all its streams.
    channels: HashMap<Arc<str>, (Arc<Link>, Channel)>,
    streams: BTreeMap<Mirror, (Arc<Link>, AbortHandle)>,
    into: Arc<watch::Sender<Arc<Remote>>>,
    tls: Tls,
    tunnels: Tunnels,
    tasks: TaskTracker,
}

impl Feeds {
    fn reconcile(&mut self, wanted: &BTreeMap<Mirror, Arc<Link>>) {
        let unwanted: Vec<Mirror> = self
            .streams
            .iter()
            .filter(|(mirror, (link, _))| wanted.get(*mirror) != Some(link))
            .map(|(mirror, _)| mirror.clone())
            .collect();
        for mirror in unwanted {
            if let Some((_, stream)) = self.streams.remove(&mirror) {
                stream.abort();
            }
            // A mirror whose link merely changed keeps what is known of it.
            if !wanted.contains_key(&mirror) {
                update(&self.into, |remote| {
                    remote.remove(&mirror);
                });
            }
        }
        for (mirror, link) in wanted {
            if !self.streams.contains_key(mirror) {
                let channel = self.channel(link);
                let stream = one(mirror.clone(), channel, self.into.clone());
                let handle = self.tasks.spawn(stream).abort_handle();
                self.streams.insert(mirror.clone(), (link.clone(), handle));
            }
        }
        let used: Vec<Arc<str>> = wanted.values().map(|link| link.name.clone()).collect();
        self.channels.retain(|name, _| used.contains(name));
    }

    fn channel(&mut self, link: &Arc<Link>) -> Channel {
        if let Some((known, channel)) = self.channels.get(&link.name)
            && known == link
        {
            return channel.clone();
        }
        let channel = channel::exports(link.clone(), self.tunnels.clone(), self.tls.clone());
        let entry = (link.clone(), channel.clone());
        self.channels.insert(link.name.clone(), entry);
        channel
    }
}

fn update(into: &watch::Sender<Arc<Remote>>, change: impl FnOnce(&mut Remote)) {
    into.send_modify(|remote| change(Arc::make_mut(remote)));
}

/// What the peer said is its last word until it speaks again.
fn fall_silent(mirror: &Mirror, into: &watch::Sender<Arc<Remote>>) {
    let speaks = |heard: &Heard| !heard.stale;
    if into.borrow().get(mirror).is_some_and(speaks) {
        update(into, |remote| {
            if let Some(heard) = remote.get_mut(mirror) {
                heard.stale = true;
            }
        });
    }
}

/// Follows one Service; what it said last stays while the stream is away.
async fn one(mirror: Mirror, channel: Channel, into: Arc<watch::Sender<Arc<Remote>>>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut known = Known::default();
    loop {
        let end = once(&mirror, &channel, &into, &mut known, &mut backoff).await;
        info!(cluster = %mirror.cluster, service = mirror.name, reason = end, "feed ended");
        fall_silent(&mirror, &into);
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn once(
    mirror: &Mirror,
    channel: &Channel,
    into: &watch::Sender<Arc<Remote>>,
    known: &mut Known,
    backoff: &mut Backoff,
) -> String {
    let mut client = ExportsClient::new(channel.clone());
    let request = ExportedEndpointsRequest {
        namespace: mirror.namespace.clone(),
        name: mirror.name.clone(),
        deltas: true,
        version: known.version().to_owned(),
    };
    let mut stream = match timeout(SILENCE, client.watch_endpoints(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return format!("{status:?}"),
        Err(_) => return "not opened in time".to_owned(),
    };
    loop {
        match timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => match known.take(message.update) {
                Ok(endpoints) => {
                    backoff.reset();
                    if let Some(endpoints) = endpoints {
                        accept(mirror, endpoints, into);
                    }
                }
                Err(misfit) => return format!("the peer says {misfit}"),
            },
            Ok(Ok(None)) => return "closed by the peer".to_owned(),
            Ok(Err(status)) => return format!("{status:?}"),
            Err(_) => return "silent".to_owned(),
        }
    }
}

/// More endpoints than one Service is expected to have are cut off.
const MOST_ENDPOINTS: usize = 5_000;

fn accept(
    mirror: &Mirror,
    mut endpoints: Arc<ExportedEndpoints>,
    into: &watch::Sender<Arc<Remote>>,
) {
    if endpoints.endpoints.len() > MOST_ENDPOINTS || endpoints.identities.len() > MOST_ENDPOINTS {
        warn!(
            service = mirror.name,
            "the peer names too many endpoints; some are left out"
        );
        let endpoints = Arc::make_mut(&mut endpoints);
        endpoints.endpoints.truncate(MOST_ENDPOINTS);
        endpoints.identities.truncate(MOST_ENDPOINTS);
    }
    let heard = Heard {
        endpoints,
        stale: false,
    };
    update(into, |remote| {
        remote.insert(mirror.clone(), heard);
    });
}

#[cfg(test)]
mod memory;
