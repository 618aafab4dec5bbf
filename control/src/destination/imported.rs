//! The endpoints of a mirror Service, as its peer names them: by addresses that
//! stand for ids.

use std::sync::Arc;

use mesh_core::{
    destination::{Backend, Endpoint, MeshPeer},
    endpoint::EndpointId,
    identities::Identities,
    identity::SpiffeId,
    link::Link,
    ports,
};
use mesh_proto::v1::{ExportedEndpointPort, ExportedEndpoints};

use super::{Remote, WEIGHT};
use crate::snapshot::{Mirror, Snapshot};

/// `backend` with what the peer said of `mirror`.
pub(super) fn backend(
    snapshot: &Snapshot,
    remote: &Remote,
    mirror: &Mirror,
    mut backend: Backend,
) -> Backend {
    backend.cluster = Some(mirror.cluster.clone());
    let Some(link) = snapshot.import(&mirror.cluster) else {
        return backend;
    };
    match remote.get(mirror) {
        None => backend.is_known = false,
        Some(heard) => {
            let export = Export {
                link,
                said: &heard.endpoints,
                port: backend.service.port,
            };
            backend.endpoints = export.endpoints();
            backend.fallback = export.whole();
            backend.is_stale = heard.stale;
        }
    }
    backend
}

/// A port of an exported Service.
struct Export<'a> {
    link: &'a Link,
    said: &'a ExportedEndpoints,
    port: u16,
}

impl Export<'_> {
    fn endpoints(&self) -> Vec<Endpoint> {
        let authority = self.authority();
        let endpoints = self.said.endpoints.iter().filter_map(|endpoint| {
            let identity = self.identity(&endpoint.identity)?;
            let target = self.target(&endpoint.ports)?;
            Some(Endpoint {
                weight: if endpoint.weight == 0 {
                    WEIGHT
                } else {
                    endpoint.weight
                },
                zone: endpoint.zone.as_str().into(),
                ..self.endpoint(EndpointId(endpoint.id), target, identity.into(), &authority)
            })
        });
        endpoints.collect()
    }

    /// What stands for all of them, if they have that much in common.
    fn whole(&self) -> Option<Endpoint> {
        let id = EndpointId(Some(self.said.id).filter(|id| *id != 0)?);
        let target = self.target(&self.said.ports)?;
        let identities = self.said.identities.iter().take(MOST_IDENTITIES);
        let identities = Identities::any_of(identities.filter_map(|text| self.identity(text)))?;
        Some(self.endpoint(id, target, identities, &self.authority()))
    }

    fn endpoint(
        &self,
        id: EndpointId,
        target: u16,
        identity: Identities,
        authority: &Arc<str>,
    ) -> Endpoint {
        Endpoint {
            address: (self.link.prefix.address(id), target).into(),
            mesh: Some(MeshPeer {
                identity,
                port: ports::INBOUND,
            }),
            authority: Some(authority.clone()),
            weight: WEIGHT,
            pod: "".into(),
            zone: "".into(),
        }
    }

    fn authority(&self) -> Arc<str> {
        match self.port {
            80 => self.said.authority.as_str().into(),
            other => format!("{}:{other}", self.said.authority).into(),
        }
    }

    fn target(&self, ports: &[ExportedEndpointPort]) -> Option<u16> {
        let wanted = u32::from(self.port);
        let port = ports.iter().find(|port| port.service_port == wanted)?;
        u16::try_from(port.target_port)
            .ok()
            .filter(|port| *port != 0)
    }

    /// A feed can name only identities of its own trust domain.
    fn identity(&self, text: &str) -> Option<SpiffeId> {
        let identity: SpiffeId = text.parse().ok()?;
        (*identity.trust_domain() == self.link.trust_domain).then_some(identity)
    }
}

/// More ServiceAccounts than one Service is expected to have are left out.
const MOST_IDENTITIES: usize = 100;

#[cfg(test)]
mod tests {
    use mesh_core::destination::{Destination, Service};
    use mesh_proto::v1::ExportedEndpoint;

    use super::*;
    use crate::{
        destination::{Heard, destination, is_known},
        fixtures::{CLUSTER_IPS, mirror_of_north, snapshot},
    };

    fn said(identity: &str) -> ExportedEndpoints {
        let ports = vec![ExportedEndpointPort {
            service_port: 80,
            target_port: 8080,
            protocol: 0,
        }];
        ExportedEndpoints {
            exported: true,
            authority: "web.shop.svc.cluster.local".to_owned(),
            endpoints: vec![ExportedEndpoint {
                id: 7,
                identity: identity.to_owned(),
                zone: "a".to_owned(),
                ports: ports.clone(),
                weight: 0,
            }],
            id: 9,
            identities: vec![identity.to_owned(), "spiffe://east/ns/x/sa/x".to_owned()],
            ports,
            version: String::new(),
        }
    }

    fn remote(said: ExportedEndpoints, stale: bool) -> Remote {
        let endpoints = Arc::new(said);
        Remote::from([(mirror_of_north(), Heard { endpoints, stale })])
    }

    const WEB: &str = "spiffe://north/ns/shop/sa/web";

    fn meaning(remote: &Remote) -> Service {
        let address = format!("{}:80", CLUSTER_IPS.mirror).parse().unwrap();
        match destination(&snapshot(), remote, address) {
            Destination::Service(service) => service,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mirror_leads_to_addresses_that_stand_for_ids() {
        let mirror = meaning(&remote(said(WEB), false));
        let backend = &mirror.backends[0];
        assert_eq!(backend.cluster.as_ref().unwrap().as_str(), "north");
        let endpoint = &backend.endpoints[0];
        assert_eq!(endpoint.address.to_string(), "[fd6d:6573:6e6f:1::7]:8080");
        assert_eq!((endpoint.weight, &*endpoint.zone), (WEIGHT, "a"));
        assert_eq!(
            endpoint.authority.as_deref(),
            Some("web.shop.svc.cluster.local")
        );
    }

    #[test]
    fn r11_a_mirror_has_a_fallback_that_any_pod_of_the_export_may_answer() {
        let mirror = meaning(&remote(said(WEB), true));
        let backend = &mirror.backends[0];
        assert!(backend.is_stale);
        let whole = backend.fallback.as_ref().unwrap();
        assert_eq!(whole.address.to_string(), "[fd6d:6573:6e6f:1::9]:8080");
        let ids = &whole.mesh.as_ref().unwrap().identity;
        assert_eq!(ids.to_string(), WEB, "none of another trust domain");
    }

    #[test]
    fn there_is_no_fallback_without_an_id_a_common_port_or_anybody_to_answer() {
        let spoils: [fn(&mut ExportedEndpoints); 4] = [
            |said| said.id = 0,
            |said| said.ports.clear(),
            |said| said.ports[0].target_port = 0,
            |said| said.identities = vec!["spiffe://east/ns/x/sa/x".to_owned()],
        ];
        for spoil in spoils {
            let mut said = said(WEB);
            spoil(&mut said);
            assert_eq!(meaning(&remote(said, true)).backends[0].fallback, None);
        }
    }

    #[test]
    fn r11_a_peer_that_was_not_heard_yet_is_not_a_peer_without_endpoints() {
        let known = |remote: &Remote| is_known(&Destination::Service(meaning(remote)));
        assert!(!known(&Remote::new()));
        let mut heard = said(WEB);
        assert!(known(&remote(heard.clone(), false)));
        heard.endpoints.clear();
        assert!(known(&remote(heard, false)));
    }

    #[test]
    fn a_feed_names_only_identities_of_its_own_trust_domain() {
        let mirror = meaning(&remote(said("spiffe://east/ns/shop/sa/vault"), false));
        assert!(mirror.backends[0].endpoints.is_empty());
        assert_eq!(mirror.backends[0].fallback, None);
    }
}
