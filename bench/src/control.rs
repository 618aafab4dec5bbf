//! A control plane that says what is written here, over the API that
//! mesh-control serves: certificates, links, what an address means, and policy.

mod door;

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
    route::HttpRoutes,
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
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::{
    backend::{BYTES_PORT, HTTP_PORT},
    namespace::{B, Handle, LOAD_CORE, Namespace, SERVICE, pin},
    pki::{CLIENT, CONTROL, SERVER, TRUST_DOMAIN},
};

/// The root that all certificates of a run come from.
pub(crate) type Root = Arc<Mutex<TestRoot>>;

/// A running control plane; it ends when it is dropped.
pub(crate) struct ControlPlane {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Starts it on loopback in `namespace`.
    ///
    /// # Errors
    /// If its ports are taken.
    pub(crate) fn start(namespace: &Namespace, root: &Root) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, listens) = std::sync::mpsc::sync_channel(1);
        let (namespace, root) = (namespace.handle(), root.clone());
        let thread = std::thread::spawn(move || {
            // What went wrong is said to whoever waits below.
            if let Err(error) = live(&namespace, root, stopped, &started) {
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

fn live(
    namespace: &Handle,
    root: Root,
    stopped: oneshot::Receiver<()>,
    started: &std::sync::mpsc::SyncSender<Result<()>>,
) -> Result<()> {
    namespace.join()?;
    pin(&[LOAD_CORE])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let script = Script { root };
        let tls = script.root().tls(CONTROL);
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

/// What a sidecar needs to become `id`: roots and a token, in `folder`.
pub(crate) fn write_workload(root: &Root, folder: &Path, who: &str) -> Result<()> {
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
        ("trust-domain", TRUST_DOMAIN.to_owned()),
        ("token", format!("e30.{claims}.c2ln")),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// What it says.
#[derive(Clone)]
pub(crate) struct Script {
    root: Root,
}

impl Script {
    fn root(&self) -> std::sync::MutexGuard<'_, TestRoot> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Service of the back end, at its own address.
fn destination(address: SocketAddr) -> Destination {
    let (protocol, name) = match address.port() {
        HTTP_PORT => (Protocol::Detect, "web"),
        BYTES_PORT => (Protocol::Opaque, "bytes"),
        _ => return Destination::Unknown,
    };
    if address.ip() != IpAddr::V4(SERVICE) {
        return Destination::Unknown;
    }
    let reference = ServiceRef {
        namespace: "shop".into(),
        name: name.into(),
        port: address.port(),
    };
    let endpoint = Endpoint {
        address: (B, address.port()).into(),
        mesh: Some(MeshPeer {
            identity: id(SERVER).into(),
            port: ports::INBOUND,
        }),
        authority: None,
        weight: 1,
        pod: "web-0".into(),
        zone: "".into(),
    };
    Destination::Service(Service {
        reference: reference.clone(),
        protocol,
        distribution: Distribution::FirstAvailable,
        backends: vec![Backend::own(reference, 1, vec![endpoint])],
        routes: HttpRoutes::default(),
        route_backends: Vec::new(),
    })
}

/// The client alone may reach the back end.
fn policy() -> InboundPolicy {
    let rule = Rule {
        name: "shop/client-only".into(),
        clients: Clients::Identities(vec![(&id(CLIENT)).into()]),
        from: Origin::Anywhere,
        audit: false,
    };
    InboundPolicy {
        protocols: [
            (HTTP_PORT, Protocol::Detect),
            (BYTES_PORT, Protocol::Opaque),
        ]
        .into(),
        servers: [(HTTP_PORT, vec![rule.clone()]), (BYTES_PORT, vec![rule])].into(),
        ..InboundPolicy::default()
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
        Ok(state(destination_to_proto(&destination(address))))
    }
}

#[tonic::async_trait]
impl InboundPolicies for Script {
    type WatchInboundStream = Answer<v1::InboundPolicy>;

    async fn watch_inbound(
        &self,
        _: Request<v1::InboundRequest>,
    ) -> Result<Response<Self::WatchInboundStream>, Status> {
        Ok(state(inbound_policy_to_proto(&policy())))
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
            cluster: "bench".parse().map_err(|_| Status::internal("a name"))?,
            trust_domain: root.trust_domain().clone(),
            roots: root.bundle(),
            links: Vec::new(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_leads_to_the_sidecar_of_the_back_end() {
        let Destination::Service(service) = destination((SERVICE, HTTP_PORT).into()) else {
            panic!("a Service");
        };
        let endpoint = &service.backends[0].endpoints[0];
        assert_eq!(endpoint.address, (B, HTTP_PORT).into());
        assert_eq!(endpoint.mesh.as_ref().unwrap().port, ports::INBOUND);
        assert_eq!(destination((B, HTTP_PORT).into()), Destination::Unknown);
    }

    #[test]
    fn the_client_is_admitted_and_nobody_else() {
        use mesh_core::authorization::Client;
        let local = TRUST_DOMAIN.parse().unwrap();
        let admits = |who: &str, port| {
            let identity = id(who);
            let client = Client {
                identity: Some(&identity),
                address: IpAddr::V4(crate::namespace::A),
            };
            policy().servers[&port]
                .iter()
                .any(|rule| rule.admits(&local, client))
        };
        assert!(admits(CLIENT, HTTP_PORT) && admits(CLIENT, BYTES_PORT));
        assert!(!admits(SERVER, HTTP_PORT) && !admits(SERVER, BYTES_PORT));
    }
}
