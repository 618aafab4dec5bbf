//! A control plane that says what is written here, over the API that
//! mesh-control serves: certificates, links, what an address means, and policy.

mod door;
mod far;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use linkerd2_proxy_api::identity::{
    CertifyRequest, CertifyResponse, identity_server::Identity as IdentityService,
};
use mesh_core::{
    authorization::{Clients, Origin, Rule},
    destination::{
        Backend, Destination, Distribution, Endpoint, MeshPeer, Protocol, Service, ServiceRef,
    },
    inbound::InboundPolicy,
    link::Links,
    ports,
    route::{
        HttpRoutes, RuleBackend, Shares,
        tls::{TlsRoute, TlsRoutes},
    },
};
use mesh_proto::{
    convert::{
        destination_to_proto, inbound_policy_to_proto, links_to_proto, socket_addr_from_proto,
    },
    v1::{
        self, discovery_server::Discovery, inbound_policies_server::InboundPolicies,
        links_server::Links as LinksService,
    },
};
use mesh_testing::ca::{TestRoot, id};
use mesh_tls::Tls;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use self::far::Far;
pub use self::far::GATEWAY_PORT;
use crate::{
    identity::{CLIENT, CONTROL, SERVER, TRUST_DOMAIN},
    namespace::{Handle, Namespace, SERVICE, pin},
};

/// The root that all certificates of a run come from.
pub type Root = Arc<Mutex<TestRoot>>;

/// A new root.
#[must_use]
pub fn new_root() -> Root {
    root_of(TRUST_DOMAIN)
}

/// A new root of another trust domain.
#[must_use]
pub fn root_of(trust_domain: &str) -> Root {
    Arc::new(Mutex::new(TestRoot::new(trust_domain)))
}

/// A port of the Service, and the one of the pod behind it.
#[derive(Clone, Debug)]
pub struct Port {
    number: u16,
    /// The pod's.
    target: u16,
    name: &'static str,
    protocol: Protocol,
    clients: Clients,
    /// Where TLS connections for some server names go instead.
    routes: Vec<(&'static str, u16)>,
}

impl Port {
    /// A port that the client behind A may reach, and nobody else; the pod's is
    /// the same. `name` is that of the Service.
    #[must_use]
    pub fn of_client(number: u16, name: &'static str, protocol: Protocol) -> Self {
        Self {
            number,
            target: number,
            name,
            protocol,
            clients: Clients::Identities(vec![(&id(CLIENT)).into()]),
            routes: Vec::new(),
        }
    }

    /// A port that clients without a sidecar may reach as well.
    #[must_use]
    pub fn of_anybody(number: u16, name: &'static str, protocol: Protocol) -> Self {
        Self {
            clients: Clients::Anybody,
            ..Self::of_client(number, name, protocol)
        }
    }

    /// The same, of another port of the pod.
    #[must_use]
    pub const fn at(mut self, target: u16) -> Self {
        self.target = target;
        self
    }

    /// The same, with a TLSRoute: for `hostname` it leads to another port of the pod,
    /// of which a [`Port`] says who may reach it.
    #[must_use]
    pub fn leading(mut self, hostname: &'static str, target: u16) -> Self {
        self.routes.push((hostname, target));
        self
    }
}

/// A running control plane; it ends when it is dropped.
pub struct ControlPlane {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Starts it on loopback in `namespace`, on `cores`, or on any if none are
    /// named.
    ///
    /// # Errors
    /// If its ports are taken.
    pub fn start(namespace: &Namespace, cores: &[usize], script: Script) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, listens) = std::sync::mpsc::sync_channel(1);
        let (namespace, cores) = (namespace.handle(), cores.to_vec());
        let thread = std::thread::spawn(move || {
            // What went wrong is said to whoever waits below.
            let there = settle(&namespace, &cores);
            if let Err(error) = there.and_then(|()| live(script, stopped, &started)) {
                let _ = started.try_send(Err(error));
            }
        });
        let plane = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        let outcome = listens.recv().map_err(|_| anyhow!("it has panicked"));
        outcome
            .and_then(|result| result)
            .context("the scripted control plane")?;
        Ok(plane)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn settle(namespace: &Handle, cores: &[usize]) -> Result<()> {
    namespace.join()?;
    if cores.is_empty() { Ok(()) } else { pin(cores) }
}

fn live(
    script: Script,
    stopped: oneshot::Receiver<()>,
    started: &std::sync::mpsc::SyncSender<Result<()>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let tls = script.own_tls();
        let certify = door::listen(loopback(ports::CERTIFY)).await?;
        let streams = door::listen(loopback(ports::CONTROL)).await?;
        let _ = started.try_send(Ok(()));
        tokio::select! {
            result = door::serve_certify(certify, tls.clone(), script.clone()) => result,
            result = door::serve_streams(streams, tls, script) => result,
            _ = stopped => Ok(()),
        }
    })
}

/// What a sidecar needs to become `who`: roots and a token, in `folder`.
///
/// # Errors
/// If it cannot be written.
pub fn write_workload(root: &Root, folder: &Path, who: &str) -> Result<()> {
    let id = id(who);
    let subject = format!(
        "system:serviceaccount:{}:{}",
        id.namespace(),
        id.service_account()
    );
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{subject}"}}"#));
    let root = root.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, text) in [
        ("ca.crt", root.bundle_pem()),
        ("trust-domain", root.trust_domain().to_string()),
        ("token", format!("e30.{claims}.c2ln")),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// What it says.
#[derive(Clone)]
pub struct Script {
    root: Root,
    ports: Arc<[Port]>,
    /// What is different when client and server are of two clusters.
    far: Far,
}

impl Script {
    /// Whose certificates it issues, and what there is at [`SERVICE`].
    #[must_use]
    pub fn new(root: &Root, ports: &[Port]) -> Self {
        Self {
            root: root.clone(),
            ports: ports.into(),
            far: Far::default(),
        }
    }

    /// As the control plane of the root's trust domain.
    fn own_tls(&self) -> Tls {
        let root = self.root();
        root.tls(&format!("spiffe://{}/{CONTROL}", root.trust_domain()))
    }

    fn root(&self) -> std::sync::MutexGuard<'_, TestRoot> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Service of the server, at its own address.
    fn destination(&self, address: SocketAddr) -> Destination {
        let of_it = |port: &&Port| port.number == address.port();
        let port = self.ports.iter().find(of_it);
        let Some(port) = port.filter(|_| address.ip() == IpAddr::V4(SERVICE)) else {
            return Destination::Unknown;
        };
        let reference = ServiceRef {
            namespace: "shop".into(),
            name: port.name.into(),
            port: port.number,
        };
        let endpoint = |target: u16| Endpoint {
            address: self.far.address(target),
            mesh: Some(MeshPeer {
                identity: id(SERVER).into(),
                port: ports::INBOUND,
            }),
            authority: None,
            weight: 1,
            pod: "web-0".into(),
            zone: "".into(),
        };
        let backend = |target| Backend::own(reference.clone(), 1, vec![endpoint(target)]);
        let targets = port.routes.iter().map(|(_, target)| *target);
        let routes = port.routes.iter().enumerate();
        let routes = routes.filter_map(|(at, (hostname, _))| {
            Some(TlsRoute {
                namespace: "shop".into(),
                name: port.name.into(),
                hostnames: vec![hostname.parse().ok()?],
                shares: Shares {
                    distribution: Distribution::FirstAvailable,
                    backends: vec![RuleBackend {
                        backend: Some(at),
                        weight: 1,
                    }],
                },
            })
        });
        Destination::Service(Service {
            reference: reference.clone(),
            protocol: port.protocol,
            distribution: Distribution::FirstAvailable,
            backends: vec![backend(port.target)],
            routes: HttpRoutes::default(),
            tls_routes: TlsRoutes::new(routes.collect()),
            route_backends: targets.map(backend).collect(),
        })
    }

    /// Who may reach which port of the server.
    fn policy(&self) -> InboundPolicy {
        let rule = |port: &Port| Rule {
            name: format!("shop/{}", port.name).into(),
            clients: port.clients.clone(),
            from: Origin::Anywhere,
            audit: false,
        };
        let ports = self.ports.iter();
        InboundPolicy {
            protocols: ports
                .clone()
                .map(|port| (port.number, port.protocol))
                .collect(),
            servers: ports
                .clone()
                .map(|port| (port.target, vec![rule(port)]))
                .collect(),
            exported: self.far.exported(ports.map(|port| port.target)),
            ..InboundPolicy::default()
        }
    }
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One state that never changes.
fn state<T: Send + 'static>(state: T) -> Response<Answer<T>> {
    let stream = tokio_stream::once(Ok(state)).chain(tokio_stream::pending());
    Response::new(Box::pin(stream))
}

#[tonic::async_trait]
impl IdentityService for Script {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        let root = self.root();
        let (leaf_certificate, intermediate_certificates) =
            root.certify(&request.certificate_signing_request, &request.identity);
        Ok(Response::new(CertifyResponse {
            leaf_certificate,
            intermediate_certificates,
            valid_until: None,
        }))
    }
}

#[tonic::async_trait]
impl Discovery for Script {
    type WatchDestinationStream = Answer<v1::Destination>;

    async fn watch_destination(
        &self,
        request: Request<v1::DestinationRequest>,
    ) -> Result<Response<Self::WatchDestinationStream>, Status> {
        let address = socket_addr_from_proto("address", request.into_inner().address)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(state(destination_to_proto(&self.destination(address))))
    }
}

#[tonic::async_trait]
impl InboundPolicies for Script {
    type WatchInboundStream = Answer<v1::InboundPolicy>;

    async fn watch_inbound(
        &self,
        _: Request<v1::InboundRequest>,
    ) -> Result<Response<Self::WatchInboundStream>, Status> {
        Ok(state(inbound_policy_to_proto(&self.policy())))
    }
}

#[tonic::async_trait]
impl LinksService for Script {
    type WatchLinksStream = Answer<v1::LinkSet>;

    async fn watch_links(
        &self,
        _: Request<v1::LinksRequest>,
    ) -> Result<Response<Self::WatchLinksStream>, Status> {
        let root = self.root();
        Ok(state(links_to_proto(&Links {
            cluster: (root.trust_domain().as_str().parse())
                .map_err(|_| Status::internal("a name"))?,
            trust_domain: root.trust_domain().clone(),
            roots: root.bundle(),
            links: self.far.links(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::namespace::B;

    const WEB: u16 = 8000;
    const OPEN: u16 = 8001;
    const OTHER: u16 = 8002;

    fn script() -> Script {
        let ports = [
            Port::of_client(WEB, "web", Protocol::Detect),
            Port::of_anybody(OPEN, "open", Protocol::Http2),
            Port::of_client(OTHER, "other", Protocol::Opaque).at(WEB),
        ];
        Script::new(&new_root(), &ports)
    }

    #[test]
    fn a_port_may_lead_to_another_of_the_pod() {
        let Destination::Service(service) = script().destination((SERVICE, OTHER).into()) else {
            panic!("a Service");
        };
        assert_eq!(service.backends[0].endpoints[0].address, (B, WEB).into());
        assert!(!script().policy().servers.contains_key(&OTHER));
    }

    #[test]
    fn the_service_leads_to_the_sidecar_of_the_server() {
        let meant = |address: (std::net::Ipv4Addr, u16)| script().destination(address.into());
        let Destination::Service(service) = meant((SERVICE, OPEN)) else {
            panic!("a Service");
        };
        assert_eq!(service.protocol, Protocol::Http2);
        let endpoint = &service.backends[0].endpoints[0];
        assert_eq!(endpoint.address, (B, OPEN).into());
        assert_eq!(endpoint.mesh.as_ref().unwrap().port, ports::INBOUND);
        assert_eq!(meant((B, OPEN)), Destination::Unknown);
        assert_eq!(meant((SERVICE, 8003)), Destination::Unknown);
    }

    #[test]
    fn a_port_admits_whom_it_is_for() {
        use mesh_core::authorization::Client;
        let local = TRUST_DOMAIN.parse().unwrap();
        let policy = script().policy();
        let admits = |who: Option<&str>, port| {
            let identity = who.map(id);
            let client = Client {
                identity: identity.as_ref(),
                address: IpAddr::V4(crate::namespace::A),
            };
            let rules = &policy.servers[&port];
            rules.iter().any(|rule| rule.admits(&local, client))
        };
        assert!(admits(Some(CLIENT), WEB) && admits(Some(CLIENT), OPEN));
        assert!(!admits(Some(SERVER), WEB) && !admits(None, WEB));
        assert!(admits(Some(SERVER), OPEN) && admits(None, OPEN));
    }
}
