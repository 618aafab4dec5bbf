//! Two clusters: the client's, and the server's with its gateway.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use mesh_core::{
    endpoint::{EndpointId, LinkPrefix},
    identity::TrustDomain,
    link::{Gateway, Link},
};
use mesh_proto::{
    convert::socket_addr_to_proto,
    v1::{self, gateway_table, gateway_tables_server::GatewayTables},
};
use mesh_testing::ca::id;
use tonic::{Request, Response, Status};

use super::{Answer, Port, Root, Script, ports, state};
use crate::{
    identity::{CONTROL, FAR_TRUST_DOMAIN, GATEWAY, TRUST_DOMAIN},
    namespace::B,
};

/// The port of the gateway, where the server is.
pub const GATEWAY_PORT: u16 = 4150;
/// Which endpoint the server is to the other cluster.
const SERVER_ID: EndpointId = EndpointId(1);
/// The addresses by which the client's cluster knows the server's.
const PREFIX: &str = "fd6d:6573:6800:1::/64";

/// What a cluster that is linked to another one says beside the rest.
#[derive(Clone, Default)]
pub(super) struct Far {
    link: Option<Arc<Link>>,
}

impl Script {
    /// The control plane of the client's cluster, which is linked to the server's.
    ///
    /// # Panics
    /// Never: names are our own.
    #[must_use]
    pub fn of_client_cluster(own: &Root, servers: &Root, ports: &[Port]) -> Self {
        Self::linked(own, link(TRUST_DOMAIN, servers), ports)
    }

    /// The control plane of the server's cluster, which exports all its ports to
    /// the client's.
    ///
    /// # Panics
    /// Never: names are our own.
    #[must_use]
    pub fn of_server_cluster(own: &Root, clients: &Root, ports: &[Port]) -> Self {
        Self::linked(own, link(FAR_TRUST_DOMAIN, clients), ports)
    }

    fn linked(own: &Root, link: Link, ports: &[Port]) -> Self {
        let far = Far {
            link: Some(Arc::new(link)),
        };
        Self {
            far,
            ..Self::new(own, ports)
        }
    }
}

impl Far {
    /// Where the server is, from where this is said.
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        match &self.link {
            Some(link) if link.import => (link.prefix.address(SERVER_ID), port).into(),
            Some(_) | None => (B, port).into(),
        }
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.link.iter().cloned().collect()
    }

    /// What the other cluster may reach.
    pub(super) fn exported(
        &self,
        ports: impl Iterator<Item = u16>,
    ) -> HashMap<(TrustDomain, u16), Arc<str>> {
        let Some(link) = self.link.as_ref().filter(|link| link.export) else {
            return HashMap::new();
        };
        let export = |port| ((link.trust_domain.clone(), port), "shop/web".into());
        ports.map(export).collect()
    }
}

/// To the cluster of this trust domain: the server's is imported from, the
/// client's exported to.
fn link(trust_domain: &str, root: &Root) -> Link {
    let is_servers = trust_domain == TRUST_DOMAIN;
    let root = root
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let program = |path: &str| id(&format!("spiffe://{trust_domain}/{path}"));
    Link {
        name: trust_domain.into(),
        cluster: trust_domain.parse().expect("a cluster's name"),
        trust_domain: root.trust_domain().clone(),
        roots: root.bundle(),
        gateway: Gateway {
            hosts: vec![B.to_string().into()],
            port: GATEWAY_PORT,
            identity: id(GATEWAY),
            server_name: format!("gateway.{trust_domain}.mesh").into(),
        },
        prefix: PREFIX.parse::<LinkPrefix>().expect("a prefix"),
        control: program(CONTROL),
        mirror: program("ns/mesh-multicluster/sa/mesh-mirror"),
        import: is_servers,
        export: !is_servers,
    }
}

#[tonic::async_trait]
impl GatewayTables for Script {
    type WatchTableStream = Answer<v1::GatewayTable>;

    async fn watch_table(
        &self,
        _: Request<v1::TableRequest>,
    ) -> Result<Response<Self::WatchTableStream>, Status> {
        let route = |link: Arc<Link>| gateway_table::Route {
            id: SERVER_ID.0,
            trust_domain: link.trust_domain.to_string(),
            address: Some(socket_addr_to_proto((B, ports::INBOUND).into())),
            service: Some(v1::ServiceRef {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                ..v1::ServiceRef::default()
            }),
            members: Vec::new(),
        };
        let exported = self.far.links().into_iter().filter(|link| link.export);
        let routes = exported.map(route).collect();
        Ok(state(v1::GatewayTable { routes }))
    }
}
