//! A small cluster `east` with peers `west` and `north`, for tests.

use std::sync::Arc;

use mesh_core::{
    destination::Protocol,
    link::{Gateway, Link, Links},
};

use crate::{
    exports::EndpointKey,
    snapshot::{Export, Member, Mirror, Name, Pod, Service, ServicePort, Slice, Snapshot, Split},
};

pub(crate) struct ClusterIps {
    pub(crate) web: &'static str,
    pub(crate) mirror: &'static str,
}

pub(crate) const CLUSTER_IPS: ClusterIps = ClusterIps {
    web: "10.96.0.20",
    mirror: "10.96.0.21",
};

pub(crate) fn key() -> EndpointKey {
    EndpointKey::new(&[7; 32]).unwrap()
}

pub(crate) fn link(name: &str) -> Link {
    let id = |path: &str| format!("spiffe://{name}/{path}").parse().unwrap();
    let digits = if name == "north" { "6e6f" } else { "7765" };
    Link {
        name: name.into(),
        cluster: name.parse().unwrap(),
        trust_domain: name.parse().unwrap(),
        roots: Vec::new(),
        gateway: Gateway {
            hosts: vec!["192.0.2.1".into()],
            port: 4143,
            identity: id("ns/mesh-multicluster/sa/mesh-gateway"),
            server_name: "gateway.mesh".into(),
        },
        prefix: format!("fd6d:6573:{digits}:1::/64").parse().unwrap(),
        control: id("ns/mesh-system/sa/mesh-control"),
        mirror: id("ns/mesh-multicluster/sa/mesh-mirror"),
        import: true,
        export: true,
    }
}

pub(crate) fn mirror_of_north() -> Mirror {
    Mirror {
        cluster: "north".parse().unwrap(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    }
}

pub(crate) fn split(primary: Option<&str>) -> Split {
    Split {
        backends: vec![("web".to_owned(), 50), ("web-north".to_owned(), 50)],
        primary: primary.map(ToOwned::to_owned),
    }
}

fn service(export: Export, mirror: Option<Mirror>, name: &str) -> Service {
    Service {
        uid: format!("uid-{name}"),
        is_headless: false,
        ports: vec![ServicePort {
            name: "http".to_owned(),
            port: 80,
            protocol: Protocol::Detect,
            app_protocol: String::new(),
        }],
        export,
        mirror,
        labels: Default::default(),
        annotations: Default::default(),
        condition: None,
    }
}

fn slice(target: u16) -> Vec<Slice> {
    vec![Slice {
        ports: vec![("http".to_owned(), target)],
        members: vec![Member {
            ip: "10.42.0.7".parse().unwrap(),
            ready: true,
            pod: Some("web-1".to_owned()),
            zone: String::new(),
        }],
    }]
}

/// `web` is exported to all, `api` (the same pod, another port) to north only,
/// `vault` to nobody; `web-north` is a mirror.
pub(crate) fn snapshot() -> Snapshot {
    let name = |name: &str| -> Name { ("shop".to_owned(), name.to_owned()) };
    let pod = Pod {
        uid: "uid-web-1".to_owned(),
        identity: Some("spiffe://east/ns/shop/sa/web".parse().unwrap()),
        meshed: true,
        host_network: false,
        skip_inbound: Vec::new(),
        opaque: None,
        ips: vec!["10.42.0.7".parse().unwrap()],
        policy: Default::default(),
    };
    Snapshot {
        services: [
            (name("web"), service(Export::All, None, "web")),
            (
                name("api"),
                service(Export::To(vec!["north".to_owned()]), None, "api"),
            ),
            (name("vault"), service(Export::No, None, "vault")),
            (
                name("web-north"),
                service(Export::No, Some(mirror_of_north()), "web-north"),
            ),
        ]
        .into(),
        service_ips: [
            (CLUSTER_IPS.web.parse().unwrap(), name("web")),
            (CLUSTER_IPS.mirror.parse().unwrap(), name("web-north")),
        ]
        .into(),
        endpoints: [
            (name("web"), slice(8080)),
            (name("api"), slice(9000)),
            (name("vault"), slice(8200)),
        ]
        .into(),
        pods: [(name("web-1"), pod)].into(),
        pod_ips: [("10.42.0.7".parse().unwrap(), name("web-1"))].into(),
        splits: Default::default(),
        reserved: Default::default(),
        routes: Default::default(),
        route_objects: Default::default(),
        tls_routes: Default::default(),
        tls_route_objects: Default::default(),
        links: Links {
            cluster: "east".parse().unwrap(),
            trust_domain: "east".parse().unwrap(),
            roots: Vec::new(),
            links: vec![Arc::new(link("west")), Arc::new(link("north"))],
        },
        policies: Some(Default::default()),
        gateway_hosts: vec!["192.0.2.1".to_owned()],
    }
}
