//! From Kubernetes objects to policies. What is wrong is left out, and said.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::{
    api::core::v1::{Container, Namespace, Pod as KubePod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;
use mesh_api::{
    names,
    policy::{
        AuthenticationReference, AuthorizationPolicy, IdentityReference, LabelExpression,
        MeshTLSAuthentication, NetworkAuthentication, NetworkRange, PodSelector, PolicyStatus,
        Server as KubeServer, TargetReference,
    },
};
use mesh_core::{
    authorization::{DefaultPolicy, IdentityPattern, Network},
    destination::Protocol,
    identity::{SpiffeId, TrustDomain},
    inbound::GRPC_HEALTH,
};

use super::Name;
use crate::policy::{
    Authorization, ClientsRef, Condition, Kind, PodFacts, Policies, PortRef, Selector, Server,
    Target,
    status::{self, Effect, Problem, Told},
};

/// The API group of our own kinds.
const GROUP: &str = "mesh.dev";

/// The objects that policies are made of.
#[derive(Default)]
pub(crate) struct PolicyObjects {
    pub(crate) namespaces: Vec<Arc<Namespace>>,
    pub(crate) servers: Vec<Arc<KubeServer>>,
    pub(crate) authorizations: Vec<Arc<AuthorizationPolicy>>,
    pub(crate) mesh_tls: Vec<Arc<MeshTLSAuthentication>>,
    pub(crate) networks: Vec<Arc<NetworkAuthentication>>,
}

/// What `objects` say in a cluster of this trust domain.
pub(crate) fn policies(objects: &PolicyObjects, local: &TrustDomain) -> Policies {
    let mut reader = Reader {
        local,
        policies: Policies::default(),
    };
    for object in &objects.namespaces {
        reader.namespace(object);
    }
    let mut servers: Vec<_> = objects.servers.iter().collect();
    servers.sort_by_key(|server| {
        (
            server.metadata.creation_timestamp.clone(),
            server.name_any(),
        )
    });
    for object in servers {
        reader.server(object);
    }
    let mut authorizations: Vec<_> = objects.authorizations.iter().collect();
    authorizations.sort_by_key(|object| object.name_any());
    for object in authorizations {
        reader.authorization(object);
    }
    for object in &objects.mesh_tls {
        reader.mesh_tls(object);
    }
    for object in &objects.networks {
        reader.networks(object);
    }
    for (name, problem) in reader.policies.unresolved() {
        reader.problem((Kind::AuthorizationPolicy, name), problem);
    }
    reader.policies
}

struct Reader<'a> {
    local: &'a TrustDomain,
    policies: Policies,
}

impl Reader<'_> {
    fn namespace(&mut self, object: &Namespace) {
        if let Some(text) = object.annotations().get(names::DEFAULT_INBOUND_POLICY) {
            let policy = text.parse::<DefaultPolicy>().unwrap_or_else(|error| {
                let namespace = object.name_any();
                let problem = format!("Namespace {namespace}: {error}: nobody is admitted");
                self.policies.bad_defaults.insert(problem);
                DefaultPolicy::Deny
            });
            self.policies.defaults.insert(object.name_any(), policy);
        }
    }

    fn server(&mut self, object: &KubeServer) {
        let what = self.told(Kind::Server, object, object.status.as_ref());
        let (namespace, name) = what.1.clone();
        let port = match port_ref(&object.spec.port) {
            Ok(port) => port,
            Err(reason) => return self.problem(what, invalid(reason)),
        };
        let server = match understood(object) {
            Ok((pods, protocol, access)) => Server {
                name,
                pods,
                port,
                protocol,
                access,
                broken: false,
            },
            // Of whichever pods it is about, it must not be open.
            Err(reason) => {
                let reason = format!("{reason}: its port is closed in all pods");
                self.problem(what, invalid(reason));
                Server {
                    name,
                    pods: Selector::default(),
                    port,
                    protocol: None,
                    access: DefaultPolicy::Deny,
                    broken: true,
                }
            }
        };
        let servers = self.policies.servers.entry(namespace).or_default();
        servers.push(server);
    }

    fn authorization(&mut self, object: &AuthorizationPolicy) {
        let what = self.told(Kind::AuthorizationPolicy, object, object.status.as_ref());
        let namespace = object.namespace().unwrap_or_default();
        let mut authorization = Authorization {
            name: object.name_any(),
            target: Target::Namespace,
            clients: None,
            networks: None,
        };
        let required = &object.spec.required_authentication_refs;
        let result = target(&object.spec.target_ref, &namespace).and_then(|target| {
            authorization.target = target;
            required
                .iter()
                .try_for_each(|reference| self.require(&mut authorization, reference, &namespace))
        });
        match result {
            Ok(()) => {
                let list = self.policies.authorizations.entry(namespace).or_default();
                list.push(authorization);
            }
            Err(reason) => self.problem(what, invalid(format!("{reason}: it admits nobody"))),
        }
    }

    fn require(
        &self,
        authorization: &mut Authorization,
        reference: &AuthenticationReference,
        own: &str,
    ) -> Result<(), &'static str> {
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        let name = (namespace.to_owned(), reference.name.clone());
        let slot = &mut authorization.clients;
        match (&*reference.group, &*reference.kind) {
            (GROUP, "NetworkAuthentication") => {
                let twice = authorization.networks.replace(name).is_some();
                return if twice { Err(ONE_NETWORK) } else { Ok(()) };
            }
            (GROUP, "MeshTLSAuthentication") if slot.is_none() => {
                *slot = Some(ClientsRef::MeshTls(name));
            }
            ("" | "core", "ServiceAccount") if slot.is_none() => {
                let identity = SpiffeId::new(self.local, namespace, &reference.name)
                    .map_err(|_| "the ServiceAccount's name is no name")?;
                *slot = Some(ClientsRef::Identity((&identity).into()));
            }
            (GROUP, "MeshTLSAuthentication") | ("" | "core", "ServiceAccount") => {
                return Err("at most one MeshTLSAuthentication or ServiceAccount can be required");
            }
            _ => return Err("a required authentication is of an unknown kind"),
        }
        Ok(())
    }

    fn mesh_tls(&mut self, object: &MeshTLSAuthentication) {
        let what = self.told(Kind::MeshTlsAuthentication, object, object.status.as_ref());
        let namespace = object.namespace().unwrap_or_default();
        let named = object.spec.identities.iter();
        let named = named.map(|text| self.pattern(text));
        let references = object.spec.identity_refs.iter();
        let references = references.map(|reference| self.referred(reference, &namespace));
        let (good, bad) = sorted_out(named.chain(references));
        self.left_out(&what, bad, good.is_empty());
        self.policies.mesh_tls.insert(what.1, good);
    }

    fn pattern(&self, text: &str) -> Result<IdentityPattern, String> {
        if text == "*" {
            // A trust domain has to be named; this one is ours.
            return Ok(IdentityPattern::all_of(self.local.clone()));
        }
        text.parse::<IdentityPattern>()
            .map_err(|error| format!("identity {text:?}: {error}"))
    }

    fn referred(
        &self,
        reference: &IdentityReference,
        own: &str,
    ) -> Result<IdentityPattern, String> {
        let local = self.local;
        let pattern = match (&*reference.group, &*reference.kind, &reference.name) {
            ("" | "core", "ServiceAccount", Some(name)) => {
                let namespace = reference.namespace.as_deref().unwrap_or(own);
                format!("spiffe://{local}/ns/{namespace}/sa/{name}")
            }
            ("" | "core", "Namespace", name) => {
                let namespace = name.as_deref().unwrap_or(own);
                format!("spiffe://{local}/ns/{namespace}/sa/*")
            }
            _ => {
                return Err(format!(
                    "identityRef of the unknown kind {:?}",
                    reference.kind
                ));
            }
        };
        if [&reference.name, &reference.namespace]
            .into_iter()
            .flatten()
            .any(|name| name == "*")
        {
            let kind = &reference.kind;
            return Err(format!("an identityRef names one {kind}, and not `*`"));
        }
        self.pattern(&pattern)
    }

    fn networks(&mut self, object: &NetworkAuthentication) {
        let what = self.told(Kind::NetworkAuthentication, object, object.status.as_ref());
        let (good, bad) = sorted_out(object.spec.networks.iter().map(network));
        self.left_out(&what, bad, good.is_empty());
        self.policies.networks.insert(what.1, good);
    }

    /// Notes an object, of which nothing is wrong so far.
    fn told<K>(&mut self, kind: Kind, object: &K, status: Option<&PolicyStatus>) -> Which
    where
        K: ResourceExt,
    {
        let name = (object.namespace().unwrap_or_default(), object.name_any());
        let which = (kind, name);
        let told = Told {
            version: object.meta().resource_version.clone(),
            generation: object.meta().generation,
            standing: status
                .map(|status| status.conditions.clone())
                .unwrap_or_default(),
            problems: Vec::new(),
        };
        self.policies.told.insert(which.clone(), told);
        which
    }

    fn problem(&mut self, which: Which, problem: Problem) {
        if let Some(told) = self.policies.told.get_mut(&which) {
            told.problems.push(problem);
        }
    }

    /// Notes what is left out of a list.
    fn left_out(&mut self, which: &Which, reasons: Vec<String>, nothing_is_left: bool) {
        let effect = if nothing_is_left {
            Effect::Refused
        } else {
            Effect::Partial
        };
        for reason in reasons {
            let problem = Problem::new(effect, status::INVALID, format!("{reason}: left out"));
            self.problem(which.clone(), problem);
        }
    }
}

/// An object.
type Which = (Kind, Name);

fn invalid(reason: impl Into<String>) -> Problem {
    Problem::new(Effect::Refused, status::INVALID, reason.into())
}

const ONE_NETWORK: &str = "at most one NetworkAuthentication can be required";

fn sorted_out<T, E>(results: impl Iterator<Item = Result<T, E>>) -> (Vec<T>, Vec<E>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(reason) => bad.push(reason),
        }
    }
    (good, bad)
}

fn port_ref(port: &IntOrString) -> Result<PortRef, &'static str> {
    match port {
        IntOrString::Int(number) => match u16::try_from(*number) {
            Ok(number) if number != 0 => Ok(PortRef::Number(number)),
            _ => Err("the port is none: it is left out"),
        },
        IntOrString::String(name) => Ok(PortRef::Name(name.clone())),
    }
}

fn understood(
    object: &KubeServer,
) -> Result<(Selector, Option<Protocol>, DefaultPolicy), &'static str> {
    let protocol = match object.spec.proxy_protocol.as_deref() {
        None | Some("unknown") => None,
        Some("HTTP/1") => Some(Protocol::Http1),
        Some("HTTP/2" | "gRPC") => Some(Protocol::Http2),
        Some("opaque" | "TLS") => Some(Protocol::Opaque),
        Some(_) => return Err("proxyProtocol is unknown"),
    };
    let access = object.spec.access_policy.as_deref().unwrap_or("deny");
    let access = access.parse().map_err(|_| "accessPolicy is unknown")?;
    Ok((selector(&object.spec.pod_selector)?, protocol, access))
}

fn selector(selector: &PodSelector) -> Result<Selector, &'static str> {
    let labels = selector.match_labels.iter();
    let labels = labels.map(|(key, value)| Ok(Condition::In(key.clone(), vec![value.clone()])));
    let expressions = selector.match_expressions.iter().map(condition);
    labels
        .chain(expressions)
        .collect::<Result<_, _>>()
        .map(Selector)
}

fn condition(expression: &LabelExpression) -> Result<Condition, &'static str> {
    let (key, values) = (expression.key.clone(), expression.values.clone());
    match &*expression.operator {
        "In" => Ok(Condition::In(key, values)),
        "NotIn" => Ok(Condition::NotIn(key, values)),
        "Exists" => Ok(Condition::Exists(key)),
        "DoesNotExist" => Ok(Condition::DoesNotExist(key)),
        _ => Err("an operator of podSelector is unknown"),
    }
}

fn target(reference: &TargetReference, own: &str) -> Result<Target, &'static str> {
    match (&*reference.group, &*reference.kind) {
        (GROUP, "Server") => Ok(Target::Server(reference.name.clone())),
        ("" | "core", "Namespace") if reference.name == own => Ok(Target::Namespace),
        ("" | "core", "Namespace") => Err("targetRef names another Namespace"),
        _ => Err("targetRef is of an unknown kind"),
    }
}

/// With an exception that is not understood the rest would be too much.
fn network(range: &NetworkRange) -> Result<Network, String> {
    Ok(Network {
        cidr: cidr(&range.cidr)?,
        except: range
            .except
            .iter()
            .map(|text| cidr(text))
            .collect::<Result<_, _>>()?,
    })
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is no network"))
}

/// What policies need to know of a pod. An annotation that is not understood
/// admits nobody.
pub(super) fn pod_facts(object: &KubePod) -> PodFacts {
    let spec = object.spec.as_ref();
    let containers: Vec<&Container> = spec
        .into_iter()
        .flat_map(|spec| {
            let init = spec.init_containers.iter().flatten();
            init.chain(&spec.containers)
        })
        .filter(|container| container.name != names::PROXY_CONTAINER)
        .collect();
    let default = object.annotations().get(names::DEFAULT_INBOUND_POLICY);
    PodFacts {
        labels: object.labels().clone(),
        ports: containers.iter().flat_map(|one| named_ports(one)).collect(),
        probes: containers.iter().flat_map(|one| probes(one)).collect(),
        default: default.map(|text| text.parse().unwrap_or(DefaultPolicy::Deny)),
    }
}

fn named_ports(container: &Container) -> Vec<(String, u16)> {
    let ports = container.ports.iter().flatten();
    let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    ports
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
        .collect()
}

fn probes(container: &Container) -> Vec<(u16, String)> {
    let ports: HashMap<String, u16> = named_ports(container).into_iter().collect();
    let all = [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ];
    let probes = all.into_iter().flatten();
    probes.filter_map(|probe| asked(probe, &ports)).collect()
}

/// The port and path that a probe asks, if it asks by HTTP.
fn asked(probe: &Probe, ports: &HashMap<String, u16>) -> Option<(u16, String)> {
    if let Some(grpc) = &probe.grpc {
        return Some((u16::try_from(grpc.port).ok()?, GRPC_HEALTH.to_owned()));
    }
    let http = probe.http_get.as_ref()?;
    let port = match &http.port {
        IntOrString::Int(number) => u16::try_from(*number).ok()?,
        // The kubelet takes a number in quotes too.
        IntOrString::String(name) => match ports.get(name) {
            Some(number) => *number,
            None => name.parse().ok()?,
        },
    };
    let path = http.path.as_deref().unwrap_or("/");
    let path = path.split('#').next().unwrap_or_default();
    Some((port, format!("/{}", path.strip_prefix('/').unwrap_or(path))))
}

#[cfg(test)]
mod tests;
