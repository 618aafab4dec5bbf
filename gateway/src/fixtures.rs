//! What the tests start from: cluster `east` with its gateway, linked with
//! `west` (exports to it), and with `south` (only imports from it).

use std::{net::SocketAddr, sync::Arc};

use mesh_core::{
    endpoint::EndpointId,
    identity::SpiffeId,
    link::{Gateway, Link, Links},
};

use crate::table::{Member, Route, Table};

pub(crate) fn id(uri: &str) -> SpiffeId {
    uri.parse().unwrap()
}

pub(crate) const fn endpoint(id: &'static str) -> (&'static str, &'static str) {
    ("mesh-endpoint", id)
}

pub(crate) fn links() -> Links {
    Links {
        cluster: "east".parse().unwrap(),
        trust_domain: "east".parse().unwrap(),
        roots: Vec::new(),
        links: vec![
            Arc::new(link("west", "fd6d:6573:6800:1::/64", true)),
            Arc::new(link("south", "fd6d:6573:6800:2::/64", false)),
        ],
    }
}

/// A link to `cluster`, whose trust domain has its name.
pub(crate) fn link(cluster: &str, prefix: &str, export: bool) -> Link {
    let program =
        |namespace: &str, name: &str| id(&format!("spiffe://{cluster}/ns/{namespace}/sa/{name}"));
    Link {
        name: cluster.into(),
        cluster: cluster.parse().unwrap(),
        trust_domain: cluster.parse().unwrap(),
        roots: Vec::new(),
        gateway: Gateway {
            hosts: vec!["127.0.0.1".into()],
            port: 4143,
            identity: program("mesh-multicluster", "mesh-gateway"),
            server_name: format!("gateway.{cluster}.mesh").into(),
        },
        prefix: prefix.parse().unwrap(),
        control: program("mesh-system", "mesh-control"),
        mirror: program("mesh-multicluster", "mesh-mirror"),
        import: true,
        export,
    }
}

/// 1 is exported to west, 2 to north, 3 to south, 4 to nowhere.
pub(crate) fn table() -> Table {
    [(1, "west"), (2, "north"), (3, "south"), (4, "nowhere")]
        .into_iter()
        .map(|(id, trust_domain)| (EndpointId(id), route(trust_domain, "10.42.0.7:4143")))
        .collect()
}

pub(crate) fn route(trust_domain: &str, address: &str) -> Route {
    leading_to(trust_domain, &[address.parse().unwrap()])
}

/// To any of `sidecars`, all of which are ready.
pub(crate) fn leading_to(trust_domain: &str, sidecars: &[SocketAddr]) -> Route {
    let ready = |address: &SocketAddr| Member {
        address: *address,
        ready: true,
    };
    Route {
        trust_domain: trust_domain.parse().unwrap(),
        members: sidecars.iter().map(ready).collect(),
        service: "shop/web".into(),
    }
}
