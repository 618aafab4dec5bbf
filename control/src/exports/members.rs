//! Which pods of a Service can be reached from outside, and which cannot.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use mesh_core::{destination::Protocol, identity::SpiffeId, ports};

use crate::snapshot::{Member, Name, Pod, Service, Slice, Snapshot};

/// The members of a Service, apart.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    /// By the uid of their pod.
    pub(super) shared: BTreeMap<&'a str, Shared<'a>>,
    /// Names of pods without a sidecar that takes any of the Service's ports.
    pub(super) unmeshed: BTreeSet<&'a str>,
    /// Addresses to which nobody is led from outside.
    pub(super) not_pods: BTreeSet<IpAddr>,
}

/// A pod that can be shared.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) ip: IpAddr,
    /// Whether new requests may go there.
    pub(super) ready: bool,
    pub(super) identity: &'a SpiffeId,
    pub(super) zone: &'a str,
    pub(super) ports: Vec<Port>,
}

/// A port of a Service, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) service: u16,
    pub(super) target: u16,
    pub(super) protocol: Protocol,
}

/// The members of `service`.
pub(super) fn members<'a>(snapshot: &'a Snapshot, name: &Name, service: &Service) -> Members<'a> {
    let mut members = Members::default();
    for slice in snapshot.endpoints.get(name).into_iter().flatten() {
        for member in &slice.members {
            let Some((pod_name, pod)) = pod_of(snapshot, name, member) else {
                members.not_pods.insert(member.ip);
                continue;
            };
            let ports = ports(snapshot, service, slice, pod_name);
            let Some(identity) = pod.identity.as_ref().filter(|_| !ports.is_empty()) else {
                members.unmeshed.insert(&pod_name.1);
                continue;
            };
            let shared = Shared {
                ip: member.ip,
                ready: member.ready,
                identity,
                zone: &member.zone,
                ports,
            };
            members.add(&pod.uid, shared);
        }
    }
    members
}

impl<'a> Members<'a> {
    /// A pod of two address families is one member, by its lower address.
    fn add(&mut self, uid: &'a str, shared: Shared<'a>) {
        match self.shared.get(uid) {
            Some(known) if known.ip <= shared.ip => {}
            _ => drop(self.shared.insert(uid, shared)),
        }
    }

    /// The Service's ports that lead to the same port of every pod.
    pub(super) fn uniform_ports(&self) -> Vec<Port> {
        let mut pods = self.shared.values();
        let Some(first) = pods.next() else {
            return Vec::new();
        };
        let everywhere = |port: &&Port| pods.clone().all(|pod| pod.ports.contains(port));
        first.ports.iter().filter(everywhere).copied().collect()
    }
}

/// The pod that a member is, if it is one that may be led to.
fn pod_of<'a>(
    snapshot: &'a Snapshot,
    service: &Name,
    member: &Member,
) -> Option<(&'a Name, &'a Pod)> {
    let name = (service.0.clone(), member.pod.clone()?);
    let (name, pod) = snapshot.pods.get_key_value(&name)?;
    let may = is_safe(member.ip)
        && !snapshot.reserved.contains(&member.ip.to_canonical())
        && pod.ips.contains(&member.ip);
    may.then_some((name, pod))
}

fn ports(snapshot: &Snapshot, service: &Service, slice: &Slice, pod: &Name) -> Vec<Port> {
    let ports = service.ports.iter().filter_map(|port| {
        Some(Port {
            service: port.port,
            target: slice.target(port)?,
            protocol: port.protocol,
        })
    });
    ports
        .filter(|port| !ports::is_proxy_port(port.target))
        .filter(|port| snapshot.sidecar(pod, port.target).is_some())
        .collect()
}

/// Addresses that no pod has: nobody is led there from outside.
fn is_safe(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::snapshot;

    fn web() -> Name {
        ("shop".to_owned(), "web".to_owned())
    }

    fn shared(snapshot: &Snapshot) -> usize {
        members(snapshot, &web(), &snapshot.services[&web()])
            .shared
            .len()
    }

    #[test]
    fn g4_unsafe_addresses_are_never_shared() {
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut snapshot = snapshot();
            snapshot.endpoints.get_mut(&web()).unwrap()[0].members[0].ip = ip;
            let pod = ("shop".to_owned(), "web-1".to_owned());
            snapshot.pods.get_mut(&pod).unwrap().ips = vec![ip];
            assert_eq!(shared(&snapshot), 0, "{ip}");
        }
        assert_eq!(shared(&snapshot()), 1);
    }

    #[test]
    fn g4_the_api_servers_the_nodes_and_our_own_addresses_are_never_shared() {
        let mut snapshot = snapshot();
        snapshot.reserved.insert("10.42.0.7".parse().unwrap());
        assert_eq!(shared(&snapshot), 0);
        let web = web();
        let members = members(&snapshot, &web, &snapshot.services[&web]);
        assert_eq!(members.not_pods.len(), 1, "and a person is told of it");
    }

    #[test]
    fn a_pod_without_a_sidecar_is_named() {
        let mut snapshot = snapshot();
        let pod = ("shop".to_owned(), "web-1".to_owned());
        snapshot.pods.get_mut(&pod).unwrap().meshed = false;
        let web = web();
        let members = members(&snapshot, &web, &snapshot.services[&web]);
        assert!(members.shared.is_empty());
        assert_eq!(members.unmeshed.into_iter().collect::<Vec<_>>(), ["web-1"]);
    }
}
