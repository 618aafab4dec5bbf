//! Everything that the gateway may connect anyone to.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_core::{endpoint::EndpointId, identity::TrustDomain, ports};
use mesh_dataplane::{control::ControlPlane, stream};
use mesh_net::original::canonical;
use mesh_proto::{
    convert::socket_addr_from_proto,
    v1::{GatewayTable, TableRequest, gateway_table, gateway_tables_client::GatewayTablesClient},
};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Sidecars that are tried for one tunnel.
const MOST_TRIED: usize = 3;

/// What the control plane last said; none before the first answer.
pub(crate) type TableReceiver = watch::Receiver<Option<Arc<Table>>>;

/// The exported endpoints, by the ids that their importers know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(HashMap<EndpointId, Arc<Route>>);

/// Where an id leads, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The only trust domain that may use the id.
    pub(crate) trust_domain: TrustDomain,
    /// The sidecar of a pod, or those of all pods of an export.
    pub(crate) members: Vec<Member>,
    /// `namespace/name`, for metrics and logs.
    pub(crate) service: Arc<str>,
}

/// A sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    /// Whether new tunnels may go there; those that run may go on.
    pub(crate) ready: bool,
}

impl Route {
    /// Whether a tunnel to `address` may go on.
    pub(crate) fn leads_to(&self, address: SocketAddr) -> bool {
        self.members.iter().any(|member| member.address == address)
    }

    /// Where a new tunnel may go, in the order in which it is tried: any of
    /// those that are ready. `dice` is a random number.
    pub(crate) fn candidates(&self, dice: usize) -> Vec<SocketAddr> {
        let ready = self.members.iter().filter(|member| member.ready);
        let mut addresses: Vec<_> = ready.map(|member| member.address).collect();
        if let Some(start) = dice.checked_rem(addresses.len()) {
            addresses.rotate_left(start);
        }
        addresses.truncate(MOST_TRIED);
        addresses
    }
}

impl Table {
    /// The route of an id.
    pub(crate) fn route(&self, id: EndpointId) -> Option<&Arc<Route>> {
        self.0.get(&id)
    }

    /// The table in a message. A route that the gateway would never dial is
    /// left out, and so is an id that has two meanings; the others stand, so
    /// that one mistake cannot keep a withdrawn export open.
    pub(crate) fn from_proto(message: GatewayTable) -> Self {
        let mut routes = HashMap::new();
        let mut ambiguous = Vec::new();
        for route in message.routes {
            let id = EndpointId(route.id);
            match route_from_proto(route) {
                Ok(route) => match routes.entry(id) {
                    Entry::Vacant(entry) => {
                        entry.insert(Arc::new(route));
                    }
                    Entry::Occupied(_) => ambiguous.push(id),
                },
                Err(error) => warn!(%id, error = format!("{error:#}"), "route left out"),
            }
        }
        for id in ambiguous {
            warn!(%id, "id left out: it has two routes");
            routes.remove(&id);
        }
        Self(routes)
    }
}

impl FromIterator<(EndpointId, Route)> for Table {
    fn from_iter<I: IntoIterator<Item = (EndpointId, Route)>>(routes: I) -> Self {
        let routes = routes.into_iter();
        Self(routes.map(|(id, route)| (id, Arc::new(route))).collect())
    }
}

/// Follows the table for as long as `tasks` live. The last one is kept while
/// the control plane is away.
pub(crate) fn watch_table(control: &ControlPlane, tasks: &TaskTracker) -> TableReceiver {
    let (sender, receiver) = watch::channel(None);
    let client = GatewayTablesClient::new(control.channel());
    let open = move || {
        let mut client = client.clone();
        async move { client.watch_table(TableRequest {}).await }
    };
    let tls = control.tls().clone();
    tasks.spawn(async move {
        tls.certified().await;
        let convert =
            |message| Ok::<_, std::convert::Infallible>(Arc::new(Table::from_proto(message)));
        stream::follow("gateway table", sender, open, convert).await;
    });
    receiver
}

fn route_from_proto(route: gateway_table::Route) -> anyhow::Result<Route> {
    let trust_domain = route.trust_domain.parse()?;
    let members = match route.address {
        Some(_) => vec![Member {
            address: sidecar(socket_addr_from_proto("route.address", route.address)?)?,
            ready: true,
        }],
        // A member that would never be dialled leaves the others.
        None => route
            .members
            .into_iter()
            .filter_map(|member| {
                let address = socket_addr_from_proto("route.members", member.address).ok()?;
                Some(Member {
                    address: sidecar(address).ok()?,
                    ready: member.ready,
                })
            })
            .collect(),
    };
    anyhow::ensure!(!members.is_empty(), "it leads nowhere");
    let service = route.service.unwrap_or_default();
    Ok(Route {
        trust_domain,
        members,
        service: format!("{}/{}", service.namespace, service.name).into(),
    })
}

fn sidecar(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let address = canonical(address);
    anyhow::ensure!(
        may_be_a_pod(address.ip()) && address.port() == ports::INBOUND,
        "{address} is no sidecar's address"
    );
    Ok(address)
}

/// The second lock: the control plane gives such addresses no id.
fn may_be_a_pod(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use mesh_proto::{convert::socket_addr_to_proto, v1::ServiceRef};

    use super::*;

    fn route(id: u64, address: &str) -> gateway_table::Route {
        gateway_table::Route {
            id,
            trust_domain: "west".to_owned(),
            address: Some(socket_addr_to_proto(address.parse().unwrap())),
            service: Some(ServiceRef {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                port: 80,
            }),
            members: Vec::new(),
        }
    }

    /// Any of `members`, of which the ones marked with `+` are ready.
    fn whole(id: u64, members: &[&str]) -> gateway_table::Route {
        let member = |text: &&str| {
            let address = text.trim_start_matches('+').parse().unwrap();
            gateway_table::Member {
                address: Some(socket_addr_to_proto(address)),
                ready: text.starts_with('+'),
            }
        };
        gateway_table::Route {
            address: None,
            members: members.iter().map(member).collect(),
            ..route(id, "192.0.2.1:1")
        }
    }

    fn table(routes: Vec<gateway_table::Route>) -> Table {
        Table::from_proto(GatewayTable { routes })
    }

    #[test]
    fn a_route_survives_its_message() {
        let table = table(vec![route(1, "10.42.0.7:4143")]);
        let expected = Route {
            trust_domain: "west".parse().unwrap(),
            members: vec![Member {
                address: "10.42.0.7:4143".parse().unwrap(),
                ready: true,
            }],
            service: "shop/web".into(),
        };
        assert_eq!(table.route(EndpointId(1)), Some(&Arc::new(expected)));
        assert_eq!(table.route(EndpointId(2)), None);
    }

    #[test]
    fn g4_addresses_that_are_no_pods_are_never_dialled() {
        for bad in [
            "127.0.0.1:4143",
            "[::1]:4143",
            "[::ffff:127.0.0.1]:4143",
            "169.254.169.254:4143",
            "[::ffff:169.254.169.254]:4143",
            "[fe80::1]:4143",
            "0.0.0.0:4143",
            "[::]:4143",
            "224.0.0.1:4143",
            "[ff02::1]:4143",
            "255.255.255.255:4143",
        ] {
            let table = table(vec![
                route(1, bad),
                route(2, "10.42.0.7:4143"),
                whole(3, &[&format!("+{bad}"), "+10.42.0.7:4143"]),
                whole(4, &[&format!("+{bad}")]),
            ]);
            assert_eq!(table.route(EndpointId(1)), None, "{bad}");
            assert!(table.route(EndpointId(2)).is_some());
            let whole = table.route(EndpointId(3)).unwrap();
            assert_eq!(whole.members.len(), 1, "{bad}");
            assert_eq!(table.route(EndpointId(4)), None, "{bad}");
        }
    }

    #[test]
    fn g3_no_port_but_the_sidecars_is_ever_dialled() {
        for port in [80, 443, 4140, 4190, 4191, 6443, 8086, 8087, 10250] {
            let table = table(vec![route(1, &format!("10.42.0.7:{port}"))]);
            assert_eq!(table.route(EndpointId(1)), None, "{port}");
        }
    }

    #[test]
    fn an_id_with_two_meanings_has_none() {
        let twice = vec![
            route(1, "10.42.0.7:4143"),
            route(1, "10.42.0.8:4143"),
            route(1, "10.42.0.9:4143"),
        ];
        assert_eq!(table(twice), Table::default());
    }

    #[test]
    fn a_tunnel_to_an_export_goes_to_any_pod_that_is_ready_and_no_further_than_some() {
        let members: Vec<String> = (1..=9).map(|n| format!("+10.42.0.{n}:4143")).collect();
        let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
        members[4] = "10.42.0.5:4143";
        let table = table(vec![whole(1, &members)]);
        let route = table.route(EndpointId(1)).unwrap();
        let firsts: std::collections::HashSet<_> =
            (0..100).map(|dice| route.candidates(dice)[0]).collect();
        assert_eq!(firsts.len(), 8);
        let unready = "10.42.0.5:4143".parse().unwrap();
        assert!(!firsts.contains(&unready) && route.leads_to(unready));
        assert_eq!(route.candidates(usize::MAX).len(), MOST_TRIED);
        let nobody = self::table(vec![whole(1, &["10.42.0.5:4143"])]);
        assert!(
            nobody
                .route(EndpointId(1))
                .unwrap()
                .candidates(3)
                .is_empty()
        );
    }

    #[test]
    fn a_route_for_nobody_is_left_out() {
        let nobody = gateway_table::Route {
            trust_domain: String::new(),
            ..route(1, "10.42.0.7:4143")
        };
        assert_eq!(table(vec![nobody]), Table::default());
    }
}
