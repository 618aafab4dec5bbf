//! Who may reach a pod, as Servers, AuthorizationPolicies and default policies
//! say it: pure.
//!
//! What is wrong in an object never opens a port: a reference that does not
//! resolve admits nobody, a Server that is not understood admits nobody to its
//! port.

pub(crate) mod status;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use mesh_core::{
    authorization::{Clients, DefaultPolicy, IdentityPattern, Network, Origin, Rule},
    destination::Protocol,
};

use self::status::{Effect, Problem, Told};
use crate::snapshot::Name;

/// All that is said of who may reach what in the cluster.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// By namespace; of two about one port the first counts.
    pub(crate) servers: HashMap<String, Vec<Server>>,
    /// By namespace.
    pub(crate) authorizations: HashMap<String, Vec<Authorization>>,
    pub(crate) mesh_tls: HashMap<Name, Vec<IdentityPattern>>,
    pub(crate) networks: HashMap<Name, Vec<Network>>,
    /// Default policies of namespaces.
    pub(crate) defaults: HashMap<String, DefaultPolicy>,
    /// What is wrong with defaults, for people.
    pub(crate) bad_defaults: BTreeSet<String>,
    /// What became of each object.
    pub(crate) told: BTreeMap<(Kind, Name), Told>,
}

/// A kind of objects that policies are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Server,
    AuthorizationPolicy,
    MeshTlsAuthentication,
    NetworkAuthentication,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) pods: Selector,
    pub(crate) port: PortRef,
    pub(crate) protocol: Option<Protocol>,
    /// Whom it admits by itself.
    pub(crate) access: DefaultPolicy,
    /// It is not understood: its port is closed to all.
    pub(crate) broken: bool,
}

#[derive(Debug)]
pub(crate) enum PortRef {
    Number(u16),
    Name(String),
}

/// Conditions on labels, all of which must hold.
#[derive(Debug, Default)]
pub(crate) struct Selector(pub(crate) Vec<Condition>);

#[derive(Debug)]
pub(crate) enum Condition {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// An AuthorizationPolicy that is well formed; others admit nobody.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) clients: Option<ClientsRef>,
    pub(crate) networks: Option<Name>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Server(String),
    Namespace,
}

#[derive(Debug)]
pub(crate) enum ClientsRef {
    MeshTls(Name),
    Identity(IdentityPattern),
}

/// What policy needs to know of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodFacts {
    pub(crate) labels: BTreeMap<String, String>,
    /// Names of containers' ports.
    pub(crate) ports: Vec<(String, u16)>,
    /// What the kubelet asks of it.
    pub(crate) probes: Vec<(u16, String)>,
    /// What its annotation says, if there is one.
    pub(crate) default: Option<DefaultPolicy>,
}

/// What Servers say of a port.
#[derive(Debug)]
pub(crate) struct Restricted {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) rules: Vec<Rule>,
}

impl Policies {
    /// What holds of ports that no Server is about.
    pub(crate) fn default_of(&self, namespace: &str, pod: &PodFacts) -> DefaultPolicy {
        let of_namespace = || self.defaults.get(namespace).copied();
        pod.default.or_else(of_namespace).unwrap_or_default()
    }

    /// The ports of a pod that Servers are about.
    pub(crate) fn restricted(&self, namespace: &str, pod: &PodFacts) -> HashMap<u16, Restricted> {
        let mut ports = HashMap::new();
        let servers = self.servers.get(namespace).into_iter().flatten();
        for server in servers.filter(|server| server.pods.matches(&pod.labels)) {
            for port in server.port.numbers(pod) {
                ports.entry(port).or_insert_with(|| Restricted {
                    protocol: server.protocol,
                    rules: self.rules(namespace, server),
                });
            }
        }
        ports
    }

    fn rules(&self, namespace: &str, server: &Server) -> Vec<Rule> {
        if server.broken {
            return Vec::new();
        }
        let authorizations = self.authorizations.get(namespace).into_iter().flatten();
        let mut rules: Vec<Rule> = authorizations
            .filter(|authorization| authorization.target.is(server))
            .filter_map(|authorization| self.rule(namespace, authorization))
            .collect();
        rules.extend(server.access.rule());
        rules
    }

    /// None if something that it requires does not exist.
    fn rule(&self, namespace: &str, authorization: &Authorization) -> Option<Rule> {
        let clients = match &authorization.clients {
            None => Clients::Anybody,
            Some(ClientsRef::Identity(pattern)) => Clients::Identities(vec![pattern.clone()]),
            Some(ClientsRef::MeshTls(name)) => {
                Clients::Identities(self.mesh_tls.get(name)?.clone())
            }
        };
        let from = match (&authorization.networks, &clients) {
            (Some(name), _) => Origin::Networks(self.networks.get(name)?.clone()),
            (None, Clients::Anybody) => everywhere_in_the_cluster(),
            (None, Clients::Authenticated | Clients::Identities(_)) => Origin::Anywhere,
        };
        Some(Rule {
            name: format!("{namespace}/{}", authorization.name).into(),
            clients,
            from,
            audit: false,
        })
    }

    /// References of authorizations that lead nowhere, or to what admits nobody.
    pub(crate) fn unresolved(&self) -> Vec<(Name, Problem)> {
        let all = self.authorizations.iter();
        let all = all.flat_map(|(ns, list)| list.iter().map(move |one| (ns, one)));
        all.flat_map(|(namespace, authorization)| {
            let name = (namespace.clone(), authorization.name.clone());
            let target = self.unusable_target(namespace, authorization);
            let problems = target
                .into_iter()
                .chain(self.unusable_authentications(authorization));
            problems.map(move |problem| (name.clone(), problem))
        })
        .collect()
    }

    fn unusable_target(&self, namespace: &str, authorization: &Authorization) -> Option<Problem> {
        let Target::Server(wanted) = &authorization.target else {
            return None;
        };
        let mut servers = self.servers.get(namespace).into_iter().flatten();
        let found = servers.find(|server| server.name == *wanted);
        if found.is_some_and(|server| !server.broken) {
            return None;
        }
        // One without a port that can be used is told so, and is nowhere else.
        let which = (Kind::Server, (namespace.to_owned(), wanted.clone()));
        let (reason, what) = if self.told.contains_key(&which) {
            ("TargetInvalid", format!("the Server {wanted} is not valid"))
        } else {
            ("TargetNotFound", format!("there is no Server {wanted}"))
        };
        let message = format!("{what}: it admits nobody");
        Some(Problem::new(Effect::Refused, reason, message))
    }

    fn unusable_authentications(&self, authorization: &Authorization) -> Vec<Problem> {
        let mesh_tls = match &authorization.clients {
            Some(ClientsRef::MeshTls(name)) => {
                let named = self.mesh_tls.get(name).map(Vec::len);
                unusable(Kind::MeshTlsAuthentication, name, named)
            }
            Some(ClientsRef::Identity(_)) | None => None,
        };
        let networks = authorization.networks.as_ref().and_then(|name| {
            let named = self.networks.get(name).map(Vec::len);
            unusable(Kind::NetworkAuthentication, name, named)
        });
        mesh_tls.into_iter().chain(networks).collect()
    }

    /// What is wrong, for people.
    pub(crate) fn problems(&self) -> BTreeSet<String> {
        let of_objects = self
            .told
            .iter()
            .flat_map(|((kind, (namespace, name)), told)| {
                let problems = told.problems.iter();
                problems
                    .map(move |problem| format!("{kind} {namespace}/{name}: {}", problem.message))
            });
        self.bad_defaults
            .iter()
            .cloned()
            .chain(of_objects)
            .collect()
    }
}

/// Why an authentication with so many usable entries admits nobody; none: there
/// is no such object.
fn unusable(kind: Kind, name: &Name, entries: Option<usize>) -> Option<Problem> {
    let (namespace, name) = name;
    let (reason, what) = match entries {
        None => (
            "AuthenticationNotFound",
            format!("there is no {kind} {namespace}/{name}"),
        ),
        Some(0) => (
            "AuthenticationInvalid",
            format!("{kind} {namespace}/{name} has no usable entry"),
        ),
        Some(_) => return None,
    };
    let message = format!("{what}: it admits nobody");
    Some(Problem::new(Effect::Refused, reason, message))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "Server",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::MeshTlsAuthentication => "MeshTLSAuthentication",
            Self::NetworkAuthentication => "NetworkAuthentication",
        })
    }
}

/// A client of another cluster is admitted by being named, never by a policy
/// that asks for nothing: this says every address, and it has none.
fn everywhere_in_the_cluster() -> Origin {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let all = |ip| ipnet::IpNet::new_assert(ip, 0).into();
    Origin::Networks(vec![
        all(Ipv4Addr::UNSPECIFIED.into()),
        all(Ipv6Addr::UNSPECIFIED.into()),
    ])
}

impl Target {
    fn is(&self, server: &Server) -> bool {
        match self {
            Self::Namespace => true,
            Self::Server(name) => *name == server.name,
        }
    }
}

impl PortRef {
    fn numbers(&self, pod: &PodFacts) -> Vec<u16> {
        match self {
            Self::Number(number) => vec![*number],
            Self::Name(wanted) => {
                let named = pod.ports.iter().filter(|(name, _)| name == wanted);
                named.map(|(_, number)| *number).collect()
            }
        }
    }
}

impl Selector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| condition.holds(labels))
    }
}

impl Condition {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let is_one_of = |key: &str, values: &[String]| {
            labels.get(key).is_some_and(|value| values.contains(value))
        };
        match self {
            Self::In(key, values) => is_one_of(key, values),
            Self::NotIn(key, values) => !is_one_of(key, values),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}
