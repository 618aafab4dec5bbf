//! A mirror Service: how it looks in Kubernetes, and how an existing Service
//! is read back.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mesh_api::names;
use serde_json::{Value, json};

use crate::export::Port;

/// A Service's namespace and name in this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServiceName {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl ServiceName {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All that a mirror Service says: it has no selector, so no endpoints in
/// Kubernetes' eyes; the mesh finds them by its owner record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The cluster that serves it.
    pub(crate) cluster: String,
    /// The uid of the Link that it was made for.
    pub(crate) link_uid: String,
    /// `<namespace>/<name>` there.
    pub(crate) remote: String,
    /// Its ports.
    pub(crate) ports: Vec<Port>,
    /// The value of the annotation [`names::OPAQUE_PORTS`].
    pub(crate) opaque_ports: Option<String>,
}

impl Mirror {
    /// The Service to create.
    pub(crate) fn to_service(&self, name: &ServiceName) -> Service {
        let annotations = self.annotations().into_iter();
        let present = annotations.filter_map(|(key, value)| Some((key.into(), value?.into())));
        Service {
            metadata: ObjectMeta {
                namespace: Some(name.namespace.to_string()),
                name: Some(name.name.to_string()),
                labels: Some(self.labels()),
                annotations: Some(present.collect()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".into()),
                ports: Some(self.ports()),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    /// The merge patch that makes an existing Service of ours this one. It
    /// leaves labels and annotations of others alone, and fails if the Service
    /// is no longer of this version.
    pub(crate) fn to_patch(&self, resource_version: &str) -> Value {
        json!({
            "metadata": {
                "resourceVersion": resource_version,
                "labels": self.labels(),
                "annotations": self.annotations(),
            },
            "spec": {
                "type": "ClusterIP",
                "ports": self.ports(),
                "selector": null,
                "externalIPs": null,
                "externalName": null,
                "loadBalancerIP": null,
                "loadBalancerClass": null,
                "loadBalancerSourceRanges": null,
                "publishNotReadyAddresses": null,
            },
        })
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (names::MIRRORED_FROM.into(), self.cluster.clone()),
            (names::MANAGED_BY.into(), names::MIRROR_CONTROLLER.into()),
        ])
    }

    /// None removes an annotation in a patch.
    fn annotations(&self) -> BTreeMap<&str, Option<&str>> {
        BTreeMap::from([
            (names::LINK_UID, Some(self.link_uid.as_str())),
            (names::REMOTE_SERVICE, Some(self.remote.as_str())),
            (names::OPAQUE_PORTS, self.opaque_ports.as_deref()),
        ])
    }

    fn ports(&self) -> Vec<ServicePort> {
        self.ports.iter().map(to_service_port).collect()
    }
}

/// A Service that exists, as far as we need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actual {
    /// Somebody else's. We never write to it.
    Foreign,
    /// Ours, by label and owner record.
    Ours(Owned),
}

/// A Service of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The Link that it was made for.
    pub(crate) link_uid: String,
    /// Its own uid.
    pub(crate) uid: String,
    /// The version of what is said here.
    pub(crate) resource_version: String,
    /// What it says; none if somebody made it something that is no mirror.
    pub(crate) mirror: Option<Mirror>,
    /// It is being deleted.
    pub(crate) terminating: bool,
}

impl From<&Service> for Actual {
    fn from(service: &Service) -> Self {
        let metadata = &service.metadata;
        let label = |key| metadata.labels.as_ref()?.get(key);
        let annotation = |key| metadata.annotations.as_ref()?.get(key);
        let by_us = label(names::MANAGED_BY).is_some_and(|by| by == names::MIRROR_CONTROLLER);
        let Some(link_uid) = annotation(names::LINK_UID).filter(|_| by_us) else {
            return Self::Foreign;
        };
        let mirror = || {
            Some(Mirror {
                cluster: label(names::MIRRORED_FROM)?.clone(),
                link_uid: link_uid.clone(),
                remote: annotation(names::REMOTE_SERVICE)?.clone(),
                ports: mirrored_ports(service.spec.as_ref()?)?,
                opaque_ports: annotation(names::OPAQUE_PORTS).cloned(),
            })
        };
        Self::Ours(Owned {
            link_uid: link_uid.clone(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            mirror: mirror(),
            terminating: metadata.deletion_timestamp.is_some(),
        })
    }
}

/// The ports of a Service that is a mirror in all else.
fn mirrored_ports(spec: &ServiceSpec) -> Option<Vec<Port>> {
    let plain = spec.type_.as_deref().is_none_or(|kind| kind == "ClusterIP")
        && spec.cluster_ip.as_deref() != Some("None")
        && is_empty(spec.selector.as_ref().map(BTreeMap::len))
        && is_empty(spec.external_ips.as_ref().map(Vec::len))
        && is_empty(spec.external_name.as_ref().map(String::len))
        && is_empty(spec.load_balancer_source_ranges.as_ref().map(Vec::len))
        && spec.load_balancer_ip.is_none()
        && spec.load_balancer_class.is_none()
        && spec.publish_not_ready_addresses != Some(true);
    if !plain {
        return None;
    }
    let mut ports = spec
        .ports
        .iter()
        .flatten()
        .map(from_service_port)
        .collect::<Option<Vec<_>>>()?;
    ports.sort();
    Some(ports)
}

fn to_service_port(port: &Port) -> ServicePort {
    ServicePort {
        name: port.name.clone(),
        port: port.number.into(),
        target_port: Some(IntOrString::Int(port.number.into())),
        protocol: Some("TCP".into()),
        app_protocol: port.app_protocol.clone(),
        node_port: None,
    }
}

fn from_service_port(port: &ServicePort) -> Option<Port> {
    let tcp = port.protocol.as_deref().is_none_or(|p| p == "TCP");
    let straight = match &port.target_port {
        None => true,
        Some(IntOrString::Int(target)) => *target == port.port,
        Some(IntOrString::String(_)) => false,
    };
    let inside = port.node_port.is_none_or(|port| port == 0);
    Some(Port {
        number: u16::try_from(port.port)
            .ok()
            .filter(|_| tcp && straight && inside)?,
        name: port.name.clone(),
        app_protocol: port.app_protocol.clone(),
    })
}

fn is_empty(length: Option<usize>) -> bool {
    length.is_none_or(|length| length == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn mirror() -> Mirror {
        Mirror {
            cluster: "east".into(),
            link_uid: "link-1".into(),
            remote: "shop/web".into(),
            ports: vec![
                Port {
                    number: 80,
                    name: Some("http".into()),
                    app_protocol: None,
                },
                Port {
                    number: 443,
                    name: Some("https".into()),
                    app_protocol: Some("https".into()),
                },
            ],
            opaque_ports: Some("443".into()),
        }
    }

    fn name() -> ServiceName {
        ServiceName::new("shop", "web-east")
    }

    /// What the API server would keep of it.
    fn stored(change: impl FnOnce(&mut Value)) -> Actual {
        let mut object = serde_json::to_value(mirror().to_service(&name())).unwrap();
        object["metadata"]["uid"] = "uid-1".into();
        object["metadata"]["resourceVersion"] = "7".into();
        object["spec"]["clusterIP"] = "10.96.0.7".into();
        object["spec"]["sessionAffinity"] = "None".into();
        object["spec"]["internalTrafficPolicy"] = "Cluster".into();
        change(&mut object);
        let service: Service = serde_json::from_value(object).unwrap();
        Actual::from(&service)
    }

    fn mirror_of(actual: Actual) -> Option<Mirror> {
        match actual {
            Actual::Ours(owned) => owned.mirror,
            Actual::Foreign => panic!("foreign"),
        }
    }

    #[test]
    fn a_mirror_survives_the_api_server() {
        assert_eq!(mirror_of(stored(|_| {})), Some(mirror()));
    }

    #[test]
    fn m9_every_edit_that_matters_is_seen() {
        let edits: [fn(&mut Value); 11] = [
            |o| o["spec"]["selector"] = json!({"app": "mine"}),
            |o| o["spec"]["type"] = "LoadBalancer".into(),
            |o| o["spec"]["externalIPs"] = json!(["192.0.2.1"]),
            |o| o["spec"]["externalName"] = "evil.example".into(),
            |o| o["spec"]["ports"][0]["port"] = 81.into(),
            |o| o["spec"]["ports"][0]["targetPort"] = 8080.into(),
            |o| o["spec"]["ports"][0]["protocol"] = "UDP".into(),
            |o| o["spec"]["ports"] = json!([]),
            |o| o["metadata"]["labels"][names::MIRRORED_FROM] = "north".into(),
            |o| o["metadata"]["annotations"][names::REMOTE_SERVICE] = "shop/other".into(),
            |o| o["metadata"]["annotations"][names::OPAQUE_PORTS] = "80".into(),
        ];
        for (index, edit) in edits.into_iter().enumerate() {
            assert_ne!(mirror_of(stored(edit)), Some(mirror()), "edit {index}");
        }
    }

    #[test]
    fn m9_notes_of_others_on_a_mirror_do_not_matter() {
        let noted = stored(|o| o["metadata"]["annotations"]["team"] = "shop".into());
        assert_eq!(mirror_of(noted), Some(mirror()));
    }

    #[test]
    fn m1_a_service_without_label_and_owner_record_is_not_ours() {
        let without_label =
            |o: &mut Value| o["metadata"]["labels"][names::MANAGED_BY] = "helm".into();
        let without_record = |o: &mut Value| {
            let annotations = o["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.remove(names::LINK_UID);
        };
        assert_eq!(stored(without_label), Actual::Foreign);
        assert_eq!(stored(without_record), Actual::Foreign);
    }

    #[test]
    fn m4_a_mirror_has_nothing_but_what_is_listed_here() {
        let object = serde_json::to_value(mirror().to_service(&name())).unwrap();
        let keys = |value: &Value| {
            let object = value.as_object().unwrap();
            object.keys().cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(keys(&object["spec"]), set(&["ports", "type"]));
        assert_eq!(
            keys(&object["metadata"]),
            set(&["annotations", "labels", "name", "namespace"])
        );
        assert_eq!(
            keys(&object["metadata"]["labels"]),
            set(&[names::MANAGED_BY, names::MIRRORED_FROM])
        );
        assert_eq!(
            keys(&object["metadata"]["annotations"]),
            set(&[names::LINK_UID, names::OPAQUE_PORTS, names::REMOTE_SERVICE])
        );
    }

    #[test]
    fn an_annotation_that_is_not_there_is_left_out_of_a_new_service_and_removed_by_a_patch() {
        let plain = Mirror {
            opaque_ports: None,
            ..mirror()
        };
        let new = serde_json::to_value(plain.to_service(&name())).unwrap();
        let patch = plain.to_patch("7");
        let opaque = |value: &Value| {
            value["metadata"]["annotations"]
                .get(names::OPAQUE_PORTS)
                .cloned()
        };
        assert_eq!(opaque(&new), None);
        assert_eq!(opaque(&patch), Some(Value::Null));
    }

    #[test]
    fn m1_a_patch_holds_for_the_version_that_was_seen() {
        let patch = mirror().to_patch("7");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["spec"]["selector"], Value::Null);
    }
}
