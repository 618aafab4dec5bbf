//! For random objects, whoever is admitted is exactly whom exports and
//! policies admit: the whole way from Kubernetes objects over the message to
//! the sidecar's decision, against a model that asks the objects themselves,
//! one question at a time.

use std::sync::Arc;

use mesh_core::{authorization::Client, identity::SpiffeId};
use mesh_proto::convert::{inbound_policy_from_proto, inbound_policy_to_proto};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::policy;
use crate::{
    fixtures,
    snapshot::{Objects, PolicyObjects, read},
};

const NAMESPACES: [&str; 2] = ["shop", "bank"];
const PODS: [&str; 2] = ["web", "api"];
const PORTS: [u16; 3] = [8080, 9000, 4191];
const DEFAULTS: [&str; 8] = [
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
    "perhaps",
    "",
];
const CLIENTS: [(Option<&str>, &str); 9] = [
    (None, "10.1.0.1"),
    (None, "203.0.113.1"),
    (Some("spiffe://east/ns/shop/sa/web"), "10.1.0.1"),
    (Some("spiffe://east/ns/shop/sa/web"), "203.0.113.1"),
    (Some("spiffe://east/ns/bank/sa/web"), "10.2.0.1"),
    (Some("spiffe://west/ns/shop/sa/web"), "10.1.0.1"),
    (Some("spiffe://west/ns/bank/sa/api"), "203.0.113.1"),
    (Some("spiffe://north/ns/shop/sa/web"), "10.1.0.1"),
    (Some("spiffe://nowhere/ns/shop/sa/web"), "10.1.0.1"),
];
const IDENTITIES: [&str; 8] = [
    "*",
    "spiffe://west/*",
    "spiffe://west/ns/shop/sa/*",
    "spiffe://west/ns/shop/sa/web",
    "spiffe://north/ns/shop/sa/web",
    "spiffe://east/ns/shop/sa/web",
    "spiffe://east/ns/bank/sa/*",
    "spiffe://*/ns/shop/sa/web",
];
const RANGES: [(&str, Option<&str>); 5] = [
    ("10.0.0.0/8", None),
    ("10.0.0.0/8", Some("10.1.0.0/16")),
    ("0.0.0.0/0", Some("10.0.0.0/8")),
    ("10.0.0.0/8", Some("all")),
    ("203.0.113.1", None),
];

/// Objects by kind, as JSON.
struct Cluster {
    namespaces: Vec<Value>,
    pods: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
    servers: Vec<Value>,
    authorizations: Vec<Value>,
    mesh_tls: Vec<Value>,
    networks: Vec<Value>,
}

#[test]
fn g16_whom_exports_and_policies_admit_is_admitted_and_nobody_else() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // How often each happened: unmeshed, own and foreign, refused and admitted.
    let mut seen = [[0_u32; 2]; 3];
    for round in 0..500 {
        let cluster = Cluster::random(&mut random);
        for namespace in NAMESPACES {
            for pod in PODS {
                let decide = cluster.decisions(namespace, pod);
                for client in CLIENTS {
                    for port in PORTS {
                        let expected = cluster.admits(namespace, pod, client, port);
                        let found = decide(client, port);
                        assert_eq!(
                            found,
                            expected,
                            "seed {seed} round {round}: {client:?} to {namespace}/{pod}:{port}\n{}",
                            cluster.text()
                        );
                        seen[kind(client.0)][usize::from(found)] += 1;
                    }
                }
            }
        }
    }
    assert!(seen.iter().flatten().all(|count| *count > 300), "{seen:?}");
}

fn kind(identity: Option<&str>) -> usize {
    match identity {
        None => 0,
        Some(id) if id.starts_with("spiffe://east/") => 1,
        Some(_) => 2,
    }
}

// What is made.

fn one<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

fn some(
    random: &mut StdRng,
    most: usize,
    mut make: impl FnMut(&mut StdRng) -> Value,
) -> Vec<Value> {
    let count = random.random_range(0..=most);
    (0..count).map(|_| make(random)).collect()
}

fn annotated(random: &mut StdRng, mut object: Value) -> Value {
    let policy = one(random, &DEFAULTS);
    if !policy.is_empty() && random.random_bool(0.5) {
        object["metadata"]["annotations"] = json!({"mesh.dev/default-inbound-policy": policy});
    }
    object
}

impl Cluster {
    fn random(random: &mut StdRng) -> Self {
        let mut cluster = Self {
            namespaces: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
            slices: Vec::new(),
            servers: Vec::new(),
            authorizations: Vec::new(),
            mesh_tls: Vec::new(),
            networks: Vec::new(),
        };
        for namespace in NAMESPACES {
            let object = json!({"metadata": {"name": namespace}});
            cluster.namespaces.push(annotated(random, object));
            for pod in PODS {
                cluster.add_pod(random, namespace, pod);
            }
            for name in ["a", "b"].into_iter().take(random.random_range(0..=2)) {
                cluster.servers.push(server(random, namespace, name));
            }
            for name in ["p", "q"].into_iter().take(random.random_range(0..=2)) {
                let policy = authorization(random, namespace, name);
                cluster.authorizations.push(policy);
            }
            if random.random_bool(0.8) {
                cluster.mesh_tls.push(mesh_tls(random, namespace));
            }
            if random.random_bool(0.8) {
                cluster.networks.push(networks(random, namespace));
            }
        }
        cluster
    }

    /// A pod, and a Service for each of its ports that is exported or not.
    fn add_pod(&mut self, random: &mut StdRng, namespace: &str, pod: &str) {
        let named = one(random, &[8080, 9000]);
        let object = json!({
            "metadata": {"name": pod, "namespace": namespace, "labels": {"app": pod}},
            "spec": {
                "serviceAccountName": pod,
                "containers": [{
                    "name": "app",
                    "ports": [{"name": "main", "containerPort": named}],
                }],
            },
        });
        self.pods.push(annotated(random, object));
        for port in PORTS {
            let name = format!("{pod}-{port}");
            let mut metadata = json!({"name": name, "namespace": namespace});
            if random.random_bool(0.7) {
                metadata["labels"] = json!({"mesh.dev/exported": "true"});
            }
            if random.random_bool(0.3) {
                metadata["annotations"] = json!({"mesh.dev/export-to": "west"});
            }
            let ports = json!([{"name": "p", "port": 80}]);
            self.services
                .push(json!({"metadata": metadata, "spec": {"ports": ports}}));
            self.slices.push(json!({
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "p", "port": port}],
                "endpoints": [{
                    "addresses": ["10.42.0.7"],
                    "targetRef": {"kind": "Pod", "name": pod},
                }],
            }));
        }
    }

    fn text(&self) -> String {
        let all = [
            &self.namespaces,
            &self.pods,
            &self.services,
            &self.servers,
            &self.authorizations,
            &self.mesh_tls,
            &self.networks,
        ];
        let lines = all.into_iter().flatten().map(ToString::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn server(random: &mut StdRng, namespace: &str, name: &str) -> Value {
    let selector = match random.random_range(0..3) {
        0 => json!({}),
        1 => json!({"matchLabels": {"app": one(random, &PODS)}}),
        _ => json!({"matchExpressions": [
            {"key": "app", "operator": "NotIn", "values": [one(random, &PODS)]},
        ]}),
    };
    let port = one(
        random,
        &[json!(8080), json!(9000), json!("main")].each_ref(),
    )
    .clone();
    let day = random.random_range(1..=9);
    let mut spec = json!({"podSelector": selector, "port": port});
    let access = one(random, &DEFAULTS);
    if !access.is_empty() {
        spec["accessPolicy"] = access.into();
    }
    // Most are as people write them, and say nothing.
    if random.random_bool(0.6) {
        spec.as_object_mut().unwrap().remove("accessPolicy");
    }
    let made = format!("2026-01-0{day}T00:00:00Z");
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": made},
        "spec": spec,
    })
}

fn authorization(random: &mut StdRng, namespace: &str, name: &str) -> Value {
    let target = match random.random_range(0..4) {
        0 => json!({"kind": "Namespace", "name": one(random, &NAMESPACES)}),
        _ => json!({"group": "mesh.dev", "kind": "Server", "name": one(random, &["a", "b"])}),
    };
    let required = some(random, 2, |random| {
        let mut reference = match random.random_range(0..5) {
            0 => json!({"kind": "ServiceAccount", "name": one(random, &PODS)}),
            1 => json!({"group": "mesh.dev", "kind": "NetworkAuthentication", "name": "n"}),
            _ => json!({"group": "mesh.dev", "kind": "MeshTLSAuthentication", "name": "m"}),
        };
        if random.random_bool(0.3) {
            reference["namespace"] = one(random, &NAMESPACES).into();
        }
        reference
    });
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"targetRef": target, "requiredAuthenticationRefs": required},
    })
}

fn mesh_tls(random: &mut StdRng, namespace: &str) -> Value {
    let identities = some(random, 2, |random| one(random, &IDENTITIES).into());
    let references = some(random, 1, |random| match random.random_range(0..2) {
        0 => json!({"kind": "ServiceAccount", "name": one(random, &PODS)}),
        _ => json!({"kind": "Namespace", "name": one(random, &NAMESPACES)}),
    });
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "MeshTLSAuthentication",
        "metadata": {"name": "m", "namespace": namespace},
        "spec": {"identities": identities, "identityRefs": references},
    })
}

fn networks(random: &mut StdRng, namespace: &str) -> Value {
    let ranges = some(random, 2, |random| {
        let (cidr, except) = one(random, &RANGES);
        json!({"cidr": cidr, "except": except.into_iter().collect::<Vec<_>>()})
    });
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "NetworkAuthentication",
        "metadata": {"name": "n", "namespace": namespace},
        "spec": {"networks": ranges},
    })
}

// What the programs make of it.

fn typed<T: serde::de::DeserializeOwned>(objects: &[Value]) -> Vec<Arc<T>> {
    let typed = objects.iter().map(|object| {
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"))
    });
    typed.map(Arc::new).collect()
}

impl Cluster {
    fn decisions(&self, namespace: &str, pod: &str) -> impl Fn((Option<&str>, &str), u16) -> bool {
        let objects = Objects {
            services: typed(&self.services),
            slices: typed(&self.slices),
            pods: typed(&self.pods),
            splits: Vec::new(),
            routes: Vec::new(),
            tls_routes: Vec::new(),
            links: Vec::new(),
            policies: Some(PolicyObjects {
                namespaces: typed(&self.namespaces),
                servers: typed(&self.servers),
                authorizations: typed(&self.authorizations),
                mesh_tls: typed(&self.mesh_tls),
                networks: typed(&self.networks),
            }),
        };
        let east = "east".parse().unwrap();
        let mut snapshot = read(&objects, &"east".parse().unwrap(), &east, &[]);
        snapshot.links = fixtures::snapshot().links;
        let policy = policy(&snapshot, &(namespace.to_owned(), pod.to_owned())).unwrap();
        let policy = inbound_policy_from_proto(inbound_policy_to_proto(&policy)).unwrap();
        move |(identity, address), port| {
            let identity: Option<SpiffeId> = identity.map(|id| id.parse().unwrap());
            let client = Client {
                identity: identity.as_ref(),
                address: address.parse().unwrap(),
            };
            policy.authorize(&east, client, port).is_ok()
        }
    }
}

// What should come out.

type Caller<'a> = (Option<&'a str>, &'a str);

impl Cluster {
    fn admits(&self, namespace: &str, pod: &str, client: Caller<'_>, port: u16) -> bool {
        if port == 4191 {
            return false;
        }
        if is_foreign(client) && !self.is_exported(namespace, pod, client, port) {
            return false;
        }
        let about = self.servers.iter().filter(|server| {
            server["metadata"]["namespace"] == namespace && self.is_about(server, pod, port)
        });
        let oldest = about.min_by_key(|server| {
            let of = |field| server["metadata"][field].as_str().unwrap();
            (of("creationTimestamp"), of("name"))
        });
        match oldest {
            None => by_default(self.default_of(namespace, pod), client),
            Some(server) if is_broken(server) => false,
            Some(server) => {
                let access = server["spec"]["accessPolicy"].as_str().unwrap_or("deny");
                let policies = self.authorizations.iter();
                let mut policies = policies.filter(|p| p["metadata"]["namespace"] == namespace);
                by_default(access, client)
                    || policies.any(|policy| self.is_admitted_by(policy, server, client))
            }
        }
    }

    fn is_exported(&self, namespace: &str, pod: &str, client: Caller<'_>, port: u16) -> bool {
        let name = format!("{pod}-{port}");
        let service = self.services.iter().find(|service| {
            service["metadata"]["namespace"] == namespace && service["metadata"]["name"] == name
        });
        let metadata = &service.unwrap()["metadata"];
        let peer = client.0.unwrap().split('/').nth(2).unwrap();
        let allowed = match metadata["annotations"]["mesh.dev/export-to"].as_str() {
            None => peer == "west" || peer == "north",
            Some(to) => peer == to,
        };
        metadata["labels"]["mesh.dev/exported"] == "true" && allowed
    }

    fn find<'a>(list: &'a [Value], namespace: &str, name: &str) -> Option<&'a Value> {
        list.iter().find(|object| {
            object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name
        })
    }

    fn default_of(&self, namespace: &str, pod: &str) -> &str {
        let pod = Self::find(&self.pods, namespace, pod).unwrap();
        let namespaces = self.namespaces.iter();
        let namespace = namespaces.filter(|object| object["metadata"]["name"] == namespace);
        [pod]
            .into_iter()
            .chain(namespace)
            .find_map(|object| {
                object["metadata"]["annotations"]["mesh.dev/default-inbound-policy"].as_str()
            })
            .unwrap_or("all-unauthenticated")
    }

    fn is_about(&self, server: &Value, pod: &str, port: u16) -> bool {
        let spec = &server["spec"];
        let namespace = server["metadata"]["namespace"].as_str().unwrap();
        let object = Self::find(&self.pods, namespace, pod).unwrap();
        let named = &object["spec"]["containers"][0]["ports"][0]["containerPort"];
        let right_port = spec["port"] == port || (spec["port"] == "main" && *named == port);
        let selector = &spec["podSelector"];
        let label = selector["matchLabels"]["app"].as_str();
        let not = selector["matchExpressions"][0]["values"][0].as_str();
        let right_pod = label.is_none_or(|label| label == pod) && not != Some(pod);
        right_port && (right_pod || is_broken(server))
    }

    fn is_admitted_by(&self, policy: &Value, server: &Value, client: Caller<'_>) -> bool {
        let namespace = policy["metadata"]["namespace"].as_str().unwrap();
        let target = &policy["spec"]["targetRef"];
        let aimed = match target["kind"].as_str().unwrap() {
            "Namespace" => target["name"] == namespace,
            _ => target["name"] == server["metadata"]["name"],
        };
        let required = policy["spec"]["requiredAuthenticationRefs"]
            .as_array()
            .unwrap();
        let of = |kind: &str| required.iter().filter(|one| one["kind"] == kind).count();
        let mesh_tls = of("MeshTLSAuthentication");
        let well_formed = mesh_tls + of("ServiceAccount") <= 1 && of("NetworkAuthentication") <= 1;
        let named = !is_foreign(client) || mesh_tls == 1;
        let mut required = required.iter();
        aimed && well_formed && named && required.all(|one| self.meets(one, namespace, client))
    }

    fn meets(&self, reference: &Value, own: &str, client: Caller<'_>) -> bool {
        let namespace = reference["namespace"].as_str().unwrap_or(own);
        let name = reference["name"].as_str().unwrap();
        match reference["kind"].as_str().unwrap() {
            "ServiceAccount" => {
                client.0 == Some(&*format!("spiffe://east/ns/{namespace}/sa/{name}"))
            }
            "NetworkAuthentication" => {
                let object = Self::find(&self.networks, namespace, name);
                let ranges = object.and_then(|o| o["spec"]["networks"].as_array());
                let mut ranges = ranges.into_iter().flatten();
                !is_foreign(client) && ranges.any(|range| is_within(client.1, range))
            }
            _ => {
                let object = Self::find(&self.mesh_tls, namespace, name);
                object.is_some_and(|object| is_named(object, namespace, client))
            }
        }
    }
}

fn is_foreign(client: Caller<'_>) -> bool {
    kind(client.0) == 2
}

fn is_broken(server: &Value) -> bool {
    server["spec"]["accessPolicy"] == "perhaps"
}

fn by_default(policy: &str, client: Caller<'_>) -> bool {
    let (meshed, local) = (client.0.is_some(), !is_foreign(client));
    let inside = client.1.starts_with("10.");
    match policy {
        "all-unauthenticated" | "audit" => true,
        "all-authenticated" => meshed,
        "cluster-unauthenticated" => local && inside,
        "cluster-authenticated" => meshed && local && inside,
        _ => false,
    }
}

fn is_within(address: &str, range: &Value) -> bool {
    let starts = |network: &str| match network {
        "0.0.0.0/0" => true,
        "10.0.0.0/8" => address.starts_with("10."),
        "10.1.0.0/16" => address.starts_with("10.1."),
        one => address == one,
    };
    let except = range["except"][0].as_str();
    // An exception that is none spoils its network.
    starts(range["cidr"].as_str().unwrap())
        && except.is_none_or(|except| except != "all" && !starts(except))
}

fn is_named(object: &Value, own: &str, client: Caller<'_>) -> bool {
    let Some(id) = client.0 else { return false };
    let spec = &object["spec"];
    let identities = spec["identities"].as_array().unwrap();
    let references = spec["identityRefs"].as_array().unwrap();
    let by_text = identities.iter().any(|identity| {
        let identity = identity.as_str().unwrap();
        match identity.strip_suffix('*') {
            Some("") => id.starts_with("spiffe://east/"),
            Some(prefix) => id.starts_with(prefix),
            None => id == identity,
        }
    });
    by_text
        || references.iter().any(|reference| {
            let name = reference["name"].as_str().unwrap();
            match reference["kind"].as_str().unwrap() {
                "Namespace" => id.starts_with(&format!("spiffe://east/ns/{name}/sa/")),
                _ => id == format!("spiffe://east/ns/{own}/sa/{name}"),
            }
        })
}
