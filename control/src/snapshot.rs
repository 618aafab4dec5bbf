//! What the control plane knows of its cluster at one time, as plain data.

mod policy;
mod read;
mod routes;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_api::route::{HTTPRoute, TLSRoute};
use mesh_core::{
    cluster::ClusterName,
    destination::Protocol,
    identity::SpiffeId,
    link::{Link, Links},
    route::{HttpRoute, tls::TlsRoute},
};

use crate::policy::{PodFacts, Policies};

pub(crate) use policy::PolicyObjects;
pub(crate) use read::{Objects, read};
pub(crate) use routes::{Attached, Effect, Problem, Route, RouteKind, RouteObject, RouteService};

use crate::exports::Said;

/// A namespaced name.
pub(crate) type Name = (String, String);

/// Everything that answers depend on.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) service_ips: HashMap<IpAddr, Name>,
    pub(crate) endpoints: HashMap<Name, Vec<Slice>>,
    pub(crate) pods: HashMap<Name, Pod>,
    pub(crate) pod_ips: HashMap<IpAddr, Name>,
    /// By the Service whose clients they concern.
    pub(crate) splits: HashMap<Name, Split>,
    /// By the Service whose clients they concern, the oldest first.
    pub(crate) routes: HashMap<Name, Vec<Attached<HttpRoute>>>,
    /// Every HTTPRoute, by its own name.
    pub(crate) route_objects: BTreeMap<Name, RouteObject<HTTPRoute>>,
    /// The same of TLSRoutes.
    pub(crate) tls_routes: HashMap<Name, Vec<Attached<TlsRoute>>>,
    pub(crate) tls_route_objects: BTreeMap<Name, RouteObject<TLSRoute>>,
    pub(crate) links: Links,
    /// Addresses of the API server, of nodes and of our own programs: nobody is
    /// led there from outside.
    pub(crate) reserved: HashSet<IpAddr>,
    /// None while they cannot be read.
    pub(crate) policies: Option<Policies>,
    /// Where peers find our gateway.
    pub(crate) gateway_hosts: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) uid: String,
    /// It has no address of its own: its clients call pods.
    pub(crate) is_headless: bool,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) export: Export,
    /// Set on a mirror Service.
    pub(crate) mirror: Option<Mirror>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// What its condition `mesh.dev/Exported` says now.
    pub(crate) condition: Option<Standing>,
}

/// A condition as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) said: Said,
    /// Since when its status is what it is.
    pub(crate) since: Time,
}

/// With whom a Service is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Export {
    No,
    All,
    To(Vec<String>),
    /// It asks to be, and cannot: it is what this says.
    Impossible(&'static str),
}

/// What a mirror Service stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mirror {
    pub(crate) cluster: ClusterName,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) app_protocol: String,
}

/// One EndpointSlice.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Port numbers by the name of the Service's port.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) ip: IpAddr,
    pub(crate) ready: bool,
    /// The name of its pod, in the Service's namespace.
    pub(crate) pod: Option<String>,
    pub(crate) zone: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) meshed: bool,
    pub(crate) host_network: bool,
    pub(crate) skip_inbound: Vec<u16>,
    /// The ports that it declares opaque; none if it says nothing of ports.
    pub(crate) opaque: Option<Vec<u16>>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) policy: PodFacts,
}

/// Ports on which the server usually speaks first, or that are no HTTP: opaque as
/// long as nobody says anything of ports.
pub(crate) const WELL_KNOWN: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

impl Pod {
    /// Whether nobody is to look at what goes to this port of it.
    pub(crate) fn is_opaque(&self, port: u16) -> bool {
        match &self.opaque {
            Some(declared) => declared.contains(&port),
            None => WELL_KNOWN.contains(&port),
        }
    }
}

/// A TrafficSplit.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) backends: Vec<(String, u32)>,
    pub(crate) primary: Option<String>,
}

impl Snapshot {
    /// The link over which what `cluster` exports is used.
    pub(crate) fn import(&self, cluster: &ClusterName) -> Option<&Arc<Link>> {
        self.links.by_cluster(cluster).filter(|link| link.import)
    }

    /// The identity of the sidecar of a pod; none if it has no sidecar that
    /// takes connections to `port`.
    pub(crate) fn sidecar(&self, pod: &Name, port: u16) -> Option<SpiffeId> {
        let pod = self.pods.get(pod)?;
        let usable = pod.meshed && !pod.host_network && !pod.skip_inbound.contains(&port);
        usable.then(|| pod.identity.clone()).flatten()
    }
}

impl Service {
    /// Whether it is shared with `cluster`.
    pub(crate) fn is_exported_to(&self, cluster: &ClusterName) -> bool {
        match &self.export {
            Export::No | Export::Impossible(_) => false,
            Export::All => true,
            Export::To(clusters) => clusters.iter().any(|name| name == cluster.as_str()),
        }
    }
}

impl Slice {
    /// The number that a Service's port leads to here.
    pub(crate) fn target(&self, port: &ServicePort) -> Option<u16> {
        let found = self.ports.iter().find(|(name, _)| *name == port.name);
        found.map(|(_, number)| *number)
    }
}
