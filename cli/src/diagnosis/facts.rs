//! What a diagnosis looks at. Whatever could not be read says why.

use mesh_api::link::Link;
use mesh_core::{cluster::ClusterName, identity::TrustDomain};

use super::probe::{LinkProbe, Own, SidecarProbe};
use crate::{
    check::state::Program,
    multicluster::{dns::DnsFacts, facts::Door},
};

/// Something that was read, or why it could not be.
pub(crate) type Read<T> = Result<T, String>;

/// This cluster, its links, and the call that is asked about.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The context it was read through.
    pub(crate) context: String,
    /// The time of this machine, in seconds since 1970.
    pub(crate) now: u64,
    /// Its name and trust domain.
    pub(crate) cluster: Read<(ClusterName, TrustDomain)>,
    /// SHA-256 of its roots.
    pub(crate) roots: Read<Vec<String>>,
    /// Its mesh-control.
    pub(crate) control: Read<Option<Program>>,
    /// Its mesh-mirror.
    pub(crate) mirror: Read<Option<Program>>,
    /// Its Links: those that matter for the call, or all.
    pub(crate) links: Read<Vec<LinkFacts>>,
    /// None: only the links are asked about.
    pub(crate) call: Option<Call>,
}

/// A Link, and what is known of its other end.
#[derive(Clone, Debug)]
pub(crate) struct LinkFacts {
    pub(crate) link: Link,
    /// What mesh-mirror found when it tried the gateway.
    pub(crate) probe: Read<LinkProbe>,
    pub(crate) peer: Peer,
}

/// What the peer's own objects say.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// The kubeconfig has no context that is called like it.
    NoContext,
    /// It cannot be asked.
    Unreadable(String),
    /// It was asked.
    Known(Box<PeerFacts>),
}

/// A peer as its own objects describe it.
#[derive(Clone, Debug)]
pub(crate) struct PeerFacts {
    pub(crate) context: String,
    pub(crate) cluster: Read<(ClusterName, TrustDomain)>,
    /// SHA-256 of its roots.
    pub(crate) roots: Read<Vec<String>>,
    pub(crate) control: Read<Option<Program>>,
    pub(crate) gateway: Read<Option<Program>>,
    pub(crate) door: Read<DoorState>,
    pub(crate) links: Read<Vec<Link>>,
}

/// The gateway's Service.
#[derive(Clone, Debug)]
pub(crate) enum DoorState {
    /// There is none.
    NoService,
    /// It has no address that other clusters can reach.
    NoAddress,
    /// It can be reached there.
    At(Door),
}

/// A call from a pod to a Service.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The cluster whose mirror the name would be, if there is no Link to it.
    pub(super) unlinked: Option<String>,
    pub(crate) target: Target,
    pub(crate) port: Option<u16>,
    pub(crate) dns: DnsFacts,
    pub(crate) client: Read<Client>,
    /// The Service that the name leads to.
    pub(crate) service: Read<Option<Service>>,
    /// The TrafficSplit of that Service.
    pub(crate) split: Read<Option<Split>>,
    /// What answers: the backends of the split, or the Service itself.
    pub(crate) backends: Vec<Backend>,
    /// The HTTPRoutes of that Service and port, and behind them its TLSRoutes, each
    /// with the oldest first. They lead HTTP requests and TLS connections instead, if
    /// there are any.
    pub(crate) routes: Read<Vec<Route>>,
    /// The Services that the rules of those that count lead to, each with its port
    /// once; not more than are looked at.
    pub(crate) route_backends: Vec<Backend>,
    /// What the client's sidecar found when it tried.
    pub(crate) sidecar: Read<SidecarProbe>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the user wrote it.
    pub(crate) asked: String,
    /// The Service that it leads to.
    pub(crate) namespace: String,
    /// See `namespace`.
    pub(crate) name: String,
    /// The linked cluster in whose name it is written, as in `web.east`.
    pub(crate) alias: Option<String>,
}

/// The pod that calls.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// None was named, and the namespace has no meshed pod.
    None(String),
    /// There is no such pod.
    Missing(String),
    /// This one.
    Pod {
        /// `namespace/name`.
        name: String,
        /// Whether it has a sidecar.
        meshed: bool,
        /// Whether the sidecar is ready.
        ready: bool,
    },
}

/// A Service of either cluster.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// TCP ports.
    pub(crate) ports: Vec<u16>,
    pub(crate) addresses: Vec<String>,
    pub(crate) exported: Exported,
    /// What it stands for, if mesh-mirror made it.
    pub(crate) mirror: Option<MirrorOf>,
}

/// What a mirror Service stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorOf {
    pub(crate) cluster: String,
    /// `namespace/name` there.
    pub(crate) remote: String,
    /// The uid of its Link.
    pub(crate) link_uid: String,
}

/// With whom a Service is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exported {
    No,
    /// It is a mirror or has an external name: these are never shared.
    Never,
    All,
    To(Vec<String>),
}

/// A TrafficSplit.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub(crate) name: String,
    /// Whether it has a primary, so that weights do not matter.
    pub(crate) has_primary: bool,
    /// Backends that were not looked at, as there are too many.
    pub(crate) unseen: usize,
}

/// What a route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// HTTPRoute.
    Http,
    /// TLSRoute.
    Tls,
}

/// A route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) kind: RouteKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What mesh-control says of it as it is now, if it has said something.
    pub(crate) accepted: Option<Accepted>,
    /// Its backends are tried in order, so that weights do not matter.
    pub(crate) is_ordered: bool,
    pub(crate) rules: Vec<RouteRule>,
}

/// Whether a route counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    Yes,
    /// Without some of its rules, for this reason.
    Partially(String),
    /// For this reason.
    No(String),
}

/// A rule of a route.
#[derive(Clone, Debug)]
pub(crate) struct RouteRule {
    /// Which requests or connections it is for, in words.
    pub(crate) requests: String,
    pub(crate) goal: Goal,
}

/// Where a rule's requests go.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// Nowhere: mesh-control leaves the rule out, and other rules may be for its
    /// requests.
    Dropped,
    /// Nowhere: they are answered with 500, for this reason.
    Failing(String),
    /// Back to the client, with another address.
    Redirect,
    /// To one of these, in order of preference.
    Backends(Vec<RuleBackend>),
}

/// A backend as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleBackend {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// None if it is no Service, or the rule does not say which port.
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
}

/// A Service that answers.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The port that is called; any, if none.
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
    pub(crate) service: Read<Option<Service>>,
    pub(crate) way: Way,
}

/// Where a backend is served.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// In this cluster.
    Local(Read<Vec<Endpoint>>),
    /// Behind a link.
    Linked {
        /// The linked cluster.
        cluster: String,
        /// `namespace/name` there.
        remote: String,
        /// What that cluster's objects say; none if they cannot be asked.
        there: Option<There>,
    },
}

/// A Service in the linked cluster.
#[derive(Clone, Debug)]
pub(crate) struct There {
    pub(crate) service: Read<Option<Service>>,
    pub(crate) endpoints: Read<Vec<Endpoint>>,
}

/// A pod that serves a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) pod: String,
    /// As its EndpointSlice says.
    pub(crate) ready: bool,
    pub(crate) meshed: bool,
    pub(crate) sidecar_ready: bool,
    /// The Service's ports that it serves.
    pub(crate) ports: Vec<u16>,
    /// What its sidecar says of itself; of few endpoints only.
    pub(crate) own: Option<Own>,
}

impl Exported {
    /// Whether `cluster` may use it.
    pub(crate) fn is_to(&self, cluster: &str) -> bool {
        match self {
            Self::No | Self::Never => false,
            Self::All => true,
            Self::To(clusters) => clusters.iter().any(|name| name == cluster),
        }
    }
}

impl Facts {
    /// The Link to `cluster`.
    pub(crate) fn link(&self, cluster: &str) -> Read<Option<&LinkFacts>> {
        match &self.links {
            Err(error) => Err(error.clone()),
            Ok(links) => Ok(links
                .iter()
                .find(|found| found.link.spec.cluster == cluster)),
        }
    }
}
