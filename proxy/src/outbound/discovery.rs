//! What addresses mean, asked once per address and followed while in use.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use mesh_dataplane::stream;
use mesh_proto::{
    convert::{InvalidMessage, destination_from_proto, socket_addr_to_proto},
    v1::{DestinationRequest, Workload, discovery_client::DiscoveryClient},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tonic::transport::Channel;

use super::{
    balancer::Reach,
    target::{State, States, Target},
};

/// How long a connection waits for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long somebody who only asks waits for it.
const ASKED: Duration = Duration::from_secs(2);
/// An address that nobody dialled for so long is forgotten.
const IDLE: Duration = Duration::from_secs(300);
/// How often forgotten addresses are looked for, at most.
const SWEEP: Duration = Duration::from_secs(30);
/// Addresses followed at one time.
const MOST: usize = 10_000;

/// The followed addresses. Clones share them.
#[derive(Clone)]
pub(crate) struct Discovery {
    client: DiscoveryClient<Channel>,
    workload: Workload,
    reach: Reach,
    entries: Arc<Mutex<Entries>>,
    /// Where addresses are followed, whichever worker has asked for them.
    home: Handle,
}

#[derive(Default)]
struct Entries {
    by_address: HashMap<SocketAddr, Entry>,
    swept: Option<Instant>,
}

struct Entry {
    states: watch::Receiver<Option<Arc<State>>>,
    used: Instant,
}

impl Discovery {
    /// Addresses will be followed on the runtime that this is called on.
    pub(crate) fn new(channel: Channel, workload: Workload, reach: Reach) -> Self {
        Self {
            client: DiscoveryClient::new(channel),
            workload,
            reach,
            entries: Arc::default(),
            home: Handle::current(),
        }
    }

    /// What `address` means; none if the control plane has never said and does
    /// not say so in time. What it said last is good for as long as it is away.
    pub(crate) async fn target(&self, address: SocketAddr) -> Option<Target> {
        let mut states = self.follow(address, Instant::now())?;
        let first = states.wait_for(Option::is_some);
        timeout(FIRST_ANSWER, first).await.ok()?.ok()?;
        Some(Target(states))
    }

    /// What `address` means, without following it any longer than that takes.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Option<Arc<State>> {
        let known = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.by_address.get(&address);
            entry.map(|entry| entry.states.clone())
        };
        let mut states = known.unwrap_or_else(|| {
            let (sender, states) = watch::channel(None);
            // Ends when `states` is dropped.
            self.home
                .spawn(self.clone_for_stream().run(address, sender));
            states
        });
        let first = timeout(ASKED, states.wait_for(Option::is_some)).await;
        first.ok()?.ok()?.clone()
    }

    fn follow(
        &self,
        address: SocketAddr,
        now: Instant,
    ) -> Option<watch::Receiver<Option<Arc<State>>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.sweep(now);
        if let Some(entry) = entries.by_address.get_mut(&address) {
            entry.used = now;
            return Some(entry.states.clone());
        }
        if entries.by_address.len() >= MOST {
            return None;
        }
        let (sender, states) = watch::channel(None);
        // Ends when the entry and all its connections are gone.
        self.home
            .spawn(self.clone_for_stream().run(address, sender));
        let entry = Entry {
            states: states.clone(),
            used: now,
        };
        entries.by_address.insert(address, entry);
        Some(states)
    }

    fn clone_for_stream(&self) -> Following {
        Following {
            client: self.client.clone(),
            workload: self.workload.clone(),
            reach: self.reach.clone(),
        }
    }
}

impl Entries {
    fn sweep(&mut self, now: Instant) {
        let due = self
            .swept
            .is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        if due {
            self.swept = Some(now);
            self.by_address
                .retain(|_, entry| now.saturating_duration_since(entry.used) < IDLE);
        }
    }
}

/// One followed address.
struct Following {
    client: DiscoveryClient<Channel>,
    workload: Workload,
    reach: Reach,
}

impl Following {
    async fn run(self, address: SocketAddr, into: watch::Sender<Option<Arc<State>>>) {
        let open = || {
            let mut client = self.client.clone();
            let request = DestinationRequest {
                address: Some(socket_addr_to_proto(address)),
                client: Some(self.workload.clone()),
            };
            async move { client.watch_destination(request).await }
        };
        let states = States::within(self.reach.clone());
        let convert = |message| {
            let destination = destination_from_proto(message)?;
            Ok::<_, InvalidMessage>(Arc::new(states.state(destination)))
        };
        stream::follow(&format!("destination {address}"), into, open, convert).await;
    }
}
