//! From Kubernetes objects to a snapshot.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Pod as KubePod, Service as KubeService},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use mesh_api::{
    link::Link as KubeLink,
    names,
    route::{HTTPRoute, TLSRoute},
    split::TrafficSplit,
};
use mesh_core::{
    cluster::ClusterName,
    destination::Protocol,
    identity::{SpiffeId, TrustDomain},
    link::Links,
};
use tracing::warn;

use super::{
    Export, Member, Mirror, Name, Pod, PolicyObjects, Said, Service, ServicePort, Slice, Snapshot,
    Split, Standing, WELL_KNOWN,
    policy::{pod_facts, policies},
    routes::{Routes, routes},
};

/// The objects that a snapshot is made of.
pub(crate) struct Objects {
    pub(crate) services: Vec<Arc<KubeService>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    pub(crate) pods: Vec<Arc<KubePod>>,
    pub(crate) splits: Vec<Arc<TrafficSplit>>,
    pub(crate) routes: Vec<Arc<HTTPRoute>>,
    pub(crate) tls_routes: Vec<Arc<TLSRoute>>,
    pub(crate) links: Vec<Arc<KubeLink>>,
    /// None while they cannot be read.
    pub(crate) policies: Option<PolicyObjects>,
}

/// What `objects` say. What is malformed is left out.
pub(crate) fn read(
    objects: &Objects,
    cluster: &ClusterName,
    trust_domain: &TrustDomain,
    roots: &[Vec<u8>],
) -> Snapshot {
    let pods: HashMap<Name, Pod> = objects
        .pods
        .iter()
        .filter(|pod| is_running(pod))
        .map(|object| (name_of(&object.metadata), pod(object, trust_domain)))
        .collect();
    let pod_ips = pods
        .iter()
        .filter(|(_, pod)| !pod.host_network)
        .flat_map(|(name, pod)| pod.ips.iter().map(|ip| (*ip, name.clone())))
        .collect();
    let mut service_ips = HashMap::new();
    let mut services = BTreeMap::new();
    for object in &objects.services {
        let name = name_of(&object.metadata);
        for ip in cluster_ips(object) {
            service_ips.insert(ip, name.clone());
        }
        services.insert(name, service(object));
    }
    let mut endpoints: HashMap<Name, Vec<Slice>> = HashMap::new();
    for object in &objects.slices {
        if let Some(service) = object.labels().get("kubernetes.io/service-name") {
            let name = (object.namespace().unwrap_or_default(), service.clone());
            endpoints.entry(name).or_default().push(slice(object));
        }
    }
    let http: Routes<HTTPRoute> = routes(&objects.routes);
    let tls: Routes<TLSRoute> = routes(&objects.tls_routes);
    Snapshot {
        services,
        service_ips,
        endpoints,
        pods,
        pod_ips,
        splits: splits(&objects.splits),
        routes: http.attached,
        route_objects: http.objects,
        tls_routes: tls.attached,
        tls_route_objects: tls.objects,
        links: links(&objects.links, cluster, trust_domain, roots),
        reserved: reserved(objects),
        policies: objects
            .policies
            .as_ref()
            .map(|objects| policies(objects, trust_domain)),
        gateway_hosts: gateway_hosts(&objects.services),
    }
}

/// The addresses of the API server, of nodes and of our own programs.
fn reserved(objects: &Objects) -> HashSet<IpAddr> {
    let of_api_server = objects.slices.iter().filter(|slice| {
        let service = slice.labels().get("kubernetes.io/service-name");
        slice.namespace().as_deref() == Some("default")
            && service.is_some_and(|service| service == "kubernetes")
    });
    let api_server = of_api_server
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .flat_map(|endpoint| &endpoint.addresses);
    let nodes = objects.pods.iter().filter_map(|pod| pod.status.as_ref());
    let nodes = nodes.flat_map(|status| {
        let more = status.host_ips.iter().flatten().map(|host| &host.ip);
        status.host_ip.iter().chain(more)
    });
    let ours = [names::SYSTEM_NAMESPACE, names::MULTICLUSTER_NAMESPACE];
    let ours = objects
        .pods
        .iter()
        .filter(|pod| pod.namespace().is_some_and(|name| ours.contains(&&*name)))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| status.pod_ips.iter().flatten().map(|ip| &ip.ip));
    let services = objects
        .services
        .iter()
        .flat_map(|object| cluster_ips(object));
    let texts = api_server.chain(nodes).chain(ours);
    let parsed = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.chain(services).map(|ip| ip.to_canonical()).collect()
}

/// Where the load balancer of our gateway is, in a stable order.
fn gateway_hosts(services: &[Arc<KubeService>]) -> Vec<String> {
    let gateway = services.iter().find(|service| {
        service.metadata.name.as_deref() == Some(names::GATEWAY)
            && service.metadata.namespace.as_deref() == Some(names::MULTICLUSTER_NAMESPACE)
    });
    let status = gateway.and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
    let ingress = status
        .into_iter()
        .flat_map(|status| status.ingress.iter().flatten());
    let mut hosts: Vec<String> = ingress
        .filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn name_of(metadata: &ObjectMeta) -> Name {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn is_running(pod: &KubePod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn pod(object: &KubePod, trust_domain: &TrustDomain) -> Pod {
    let spec = object.spec.as_ref();
    let is_sidecar = |name: &str| name == names::PROXY_CONTAINER;
    let has_sidecar = spec.is_some_and(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
            .any(|container| is_sidecar(&container.name))
    });
    let labelled = object
        .labels()
        .get(names::MESHED)
        .is_some_and(|value| value == "true");
    let account = spec.and_then(|spec| spec.service_account_name.as_deref());
    let namespace = object.namespace().unwrap_or_default();
    let ips = object
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    Pod {
        uid: object.uid().unwrap_or_default(),
        identity: SpiffeId::new(trust_domain, &namespace, account.unwrap_or("default")).ok(),
        meshed: has_sidecar && labelled,
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        skip_inbound: ports(object.annotations().get(names::SKIP_INBOUND_PORTS)),
        opaque: declared_opaque(object.annotations()),
        ips: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
        policy: pod_facts(object),
    }
}

fn declared_opaque(annotations: &BTreeMap<String, String>) -> Option<Vec<u16>> {
    let declared = annotations.get(names::OPAQUE_PORTS);
    declared.map(|text| ports(Some(text)))
}

/// `80,8080-8090`; what is no port is left out.
fn ports(text: Option<&String>) -> Vec<u16> {
    let items = text.into_iter().flat_map(|text| text.split(','));
    items
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
        })
        .flatten()
        .collect()
}

fn cluster_ips(object: &KubeService) -> Vec<IpAddr> {
    let spec = object.spec.as_ref();
    let ips = spec.and_then(|spec| spec.cluster_ips.as_ref());
    ips.into_iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

fn service(object: &KubeService) -> Service {
    let spec = object.spec.as_ref();
    let opaque = declared_opaque(object.annotations()).unwrap_or_else(|| WELL_KNOWN.to_vec());
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let mirror = mirror(object);
    Service {
        uid: object.uid().unwrap_or_default(),
        is_headless: cluster_ips(object).is_empty(),
        ports: ports
            .filter_map(|port| {
                let number = u16::try_from(port.port).ok()?;
                let app_protocol = port.app_protocol.clone().unwrap_or_default();
                Some(ServicePort {
                    name: port.name.clone().unwrap_or_default(),
                    port: number,
                    protocol: protocol(&app_protocol, opaque.contains(&number)),
                    app_protocol,
                })
            })
            .collect(),
        export: export(object),
        condition: condition(object),
        mirror,
        labels: object.labels().clone(),
        annotations: object.annotations().clone(),
    }
}

/// KEP-3726 names, and ours.
fn protocol(app_protocol: &str, opaque: bool) -> Protocol {
    match app_protocol {
        "http" | "kubernetes.io/ws" => Protocol::Http1,
        "kubernetes.io/h2c" | "grpc" | "http2" => Protocol::Http2,
        "" if !opaque => Protocol::Detect,
        _ => Protocol::Opaque,
    }
}

fn export(object: &KubeService) -> Export {
    let exported = object.labels().get(names::EXPORTED);
    if exported.is_none_or(|value| value != "true") {
        return Export::No;
    }
    if let Some(why) = impossible(object) {
        return Export::Impossible(why);
    }
    let to = object.annotations().get(names::EXPORT_TO);
    match to.or_else(|| object.labels().get(names::EXPORT_TO)) {
        None => Export::All,
        Some(text) => Export::To(text.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

/// Why a Service can never be exported.
fn impossible(object: &KubeService) -> Option<&'static str> {
    let spec = object.spec.as_ref();
    let is_mirror = object.labels().contains_key(names::MIRRORED_FROM)
        || object.annotations().contains_key(names::MIRRORED_FROM);
    if is_mirror {
        return Some("is a mirror of another cluster's Service");
    }
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return Some("is an ExternalName: it has no pods of its own");
    }
    let headless = spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    headless.then_some("is headless: its clients choose a pod by its address")
}

/// What the condition of ours says.
fn condition(object: &KubeService) -> Option<Standing> {
    let conditions = object.status.as_ref()?.conditions.as_ref()?;
    let ours = conditions
        .iter()
        .find(|condition| condition.type_ == names::EXPORTED_CONDITION)?;
    Some(Standing {
        said: Said {
            exported: ours.status == "True",
            reason: ours.reason.clone(),
            message: ours.message.clone(),
        },
        since: ours.last_transition_time.clone(),
    })
}

fn mirror(object: &KubeService) -> Option<Mirror> {
    let labels = object.labels();
    let ours = labels.get(names::MANAGED_BY)? == names::MIRROR_CONTROLLER;
    let (namespace, name) = object
        .annotations()
        .get(names::REMOTE_SERVICE)?
        .split_once('/')?;
    let cluster = labels.get(names::MIRRORED_FROM)?.parse().ok()?;
    ours.then(|| Mirror {
        cluster,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn slice(object: &EndpointSlice) -> Slice {
    let ports = object.ports.iter().flatten();
    let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let members = object.endpoints.iter().flatten().flat_map(|endpoint| {
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|c| c.ready)
            .unwrap_or(true);
        let pod = endpoint
            .target_ref
            .as_ref()
            .filter(|r| r.kind.as_deref() == Some("Pod"));
        let pod = pod.and_then(|reference| reference.name.clone());
        let zone = endpoint.zone.clone().unwrap_or_default();
        endpoint.addresses.iter().filter_map(move |ip| {
            Some(Member {
                ip: ip.parse().ok()?,
                ready,
                pod: pod.clone(),
                zone: zone.clone(),
            })
        })
    });
    Slice {
        ports: ports
            .filter_map(|port| {
                let number = u16::try_from(port.port?).ok()?;
                Some((port.name.clone().unwrap_or_default(), number))
            })
            .collect(),
        members: members.collect(),
    }
}

/// Of several for one Service the oldest counts.
fn splits(objects: &[Arc<TrafficSplit>]) -> HashMap<Name, Split> {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|split| {
        let made = split.metadata.creation_timestamp.clone();
        (made, split.name_any())
    });
    let mut splits = HashMap::new();
    for object in sorted {
        let name = (
            object.namespace().unwrap_or_default(),
            object.spec.service.clone(),
        );
        let backends = object.spec.backends.iter();
        splits.entry(name).or_insert_with(|| Split {
            backends: backends.map(|b| (b.service.clone(), b.weight)).collect(),
            primary: object.annotations().get(names::PRIMARY_SERVICE).cloned(),
        });
    }
    splits
}

/// The usable links. Of two that would give an address or an identity two
/// meanings the older counts.
fn links(
    objects: &[Arc<KubeLink>],
    cluster: &ClusterName,
    trust_domain: &TrustDomain,
    roots: &[Vec<u8>],
) -> Links {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|link| (link.metadata.creation_timestamp.clone(), link.name_any()));
    let mut links = Links {
        cluster: cluster.clone(),
        trust_domain: trust_domain.clone(),
        roots: roots.to_vec(),
        links: Vec::new(),
    };
    for object in sorted {
        let name = object.name_any();
        match object.to_model(mesh_tls::parse_bundle) {
            Ok(link) => {
                let clashes = link.trust_domain == *trust_domain
                    || links.links.iter().any(|other| {
                        other.trust_domain == link.trust_domain
                            || other.prefix == link.prefix
                            || other.cluster == link.cluster
                    });
                if clashes {
                    warn!(
                        link = name,
                        "left out: its trust domain, prefix or cluster is taken"
                    );
                } else {
                    links.links.push(Arc::new(link));
                }
            }
            Err(reason) => warn!(link = name, reason, "left out"),
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServicePort as KubeServicePort;

    use super::*;

    fn gateway(namespace: &str, ingress: &serde_json::Value) -> Arc<KubeService> {
        let object = serde_json::json!({
            "metadata": { "name": "mesh-gateway", "namespace": namespace },
            "status": { "loadBalancer": { "ingress": ingress } },
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn the_feed_names_the_gateways_load_balancer_and_no_other() {
        let ingress = serde_json::json!([
            { "hostname": "gateway.example" }, { "ip": "192.0.2.2" }, { "ip": "192.0.2.1" },
        ]);
        let ours = gateway("mesh-multicluster", &ingress);
        let other = gateway("shop", &ingress);
        let expected = ["192.0.2.1", "192.0.2.2", "gateway.example"];
        assert_eq!(gateway_hosts(&[other.clone(), ours]), expected);
        assert!(gateway_hosts(&[other]).is_empty());
    }

    #[test]
    fn ports_are_single_or_ranges() {
        assert_eq!(
            ports(Some(&"80, 8080-8082,x,9-".to_owned())),
            [80, 8080, 8081, 8082]
        );
        assert!(ports(None).is_empty());
    }

    fn exported_service(change: impl FnOnce(&mut KubeService)) -> Export {
        let mut object = KubeService::default();
        let label = (names::EXPORTED.to_owned(), "true".to_owned());
        object.metadata.labels = Some([label].into());
        object.spec.get_or_insert_default().cluster_ip = Some("10.96.0.7".to_owned());
        change(&mut object);
        export(&object)
    }

    #[test]
    fn a_service_without_an_address_is_headless() {
        let is_headless = |ip: Option<&str>| {
            let mut object = KubeService::default();
            let ips = ip.map(|ip| vec![ip.to_owned()]);
            object.spec.get_or_insert_default().cluster_ips = ips;
            service(&object).is_headless
        };
        assert!(!is_headless(Some("10.96.0.7")));
        assert!(is_headless(Some("None")));
        assert!(is_headless(None), "an ExternalName");
    }

    #[test]
    fn g8_mirrors_and_services_that_cannot_be_exported_say_why() {
        assert_eq!(exported_service(|_| ()), Export::All);
        let unlabelled = exported_service(|object| object.metadata.labels = None);
        assert_eq!(unlabelled, Export::No);
        let mirror = exported_service(|object| {
            let label = (names::MIRRORED_FROM.to_owned(), "north".to_owned());
            object.labels_mut().extend([label]);
        });
        let external = exported_service(|object| {
            object.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned());
        });
        let headless = exported_service(|object| {
            object.spec.as_mut().unwrap().cluster_ip = Some("None".to_owned());
        });
        for (export, word) in [
            (mirror, "mirror"),
            (external, "ExternalName"),
            (headless, "headless"),
        ] {
            let Export::Impossible(why) = export else {
                panic!("{word}: {export:?}");
            };
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn g4_the_api_server_nodes_and_our_programs_are_reserved() {
        let pod = |namespace: &str, ip: &str| {
            let mut pod = KubePod::default();
            pod.metadata.namespace = Some(namespace.to_owned());
            let status = pod.status.get_or_insert_default();
            status.host_ip = Some("192.0.2.7".to_owned());
            status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP {
                ip: ip.to_owned(),
            }]);
            Arc::new(pod)
        };
        let mut slice = EndpointSlice::default();
        slice.metadata.namespace = Some("default".to_owned());
        let label = (
            "kubernetes.io/service-name".to_owned(),
            "kubernetes".to_owned(),
        );
        slice.metadata.labels = Some([label].into());
        let endpoint = k8s_openapi::api::discovery::v1::Endpoint {
            addresses: vec!["::ffff:192.0.2.8".to_owned()],
            ..Default::default()
        };
        slice.endpoints = Some(vec![endpoint]);
        let objects = Objects {
            services: Vec::new(),
            slices: vec![Arc::new(slice)],
            pods: vec![
                pod("shop", "10.42.0.7"),
                pod(names::MULTICLUSTER_NAMESPACE, "10.42.0.8"),
            ],
            splits: Vec::new(),
            routes: Vec::new(),
            tls_routes: Vec::new(),
            links: Vec::new(),
            policies: None,
        };
        let expected = ["192.0.2.7", "192.0.2.8", "10.42.0.8"];
        assert_eq!(
            reserved(&objects),
            expected.map(|ip| ip.parse().unwrap()).into()
        );
    }

    #[test]
    fn well_known_ports_are_opaque_unless_the_service_says_which_are() {
        let protocol = |annotation: Option<&str>, app_protocol: Option<&str>, port: u16| {
            let mut object = KubeService::default();
            let said = annotation.map(|text| (names::OPAQUE_PORTS.to_owned(), text.to_owned()));
            object.metadata.annotations = Some(said.into_iter().collect());
            object.spec.get_or_insert_default().ports = Some(vec![KubeServicePort {
                port: port.into(),
                app_protocol: app_protocol.map(ToOwned::to_owned),
                ..Default::default()
            }]);
            service(&object).ports[0].protocol
        };
        for port in [25, 587, 3306, 4444, 5432, 6379, 9300, 11211] {
            assert_eq!(protocol(None, None, port), Protocol::Opaque, "{port}");
            assert_eq!(protocol(Some("80"), None, port), Protocol::Detect, "{port}");
            let declared = protocol(None, Some("http"), port);
            assert_eq!(declared, Protocol::Http1, "{port}");
        }
        assert_eq!(protocol(None, None, 80), Protocol::Detect);
        assert_eq!(protocol(Some("79-81"), None, 80), Protocol::Opaque);
    }

    #[test]
    fn an_unknown_app_protocol_is_not_looked_at() {
        assert_eq!(protocol("", false), Protocol::Detect);
        assert_eq!(protocol("", true), Protocol::Opaque);
        assert_eq!(protocol("http", true), Protocol::Http1);
        assert_eq!(protocol("kubernetes.io/h2c", false), Protocol::Http2);
        assert_eq!(protocol("example.com/custom", false), Protocol::Opaque);
    }
}
