use super::*;
use crate::export::{Offer, Port};

fn offer() -> Offer {
    Offer {
        ports: vec![Port {
            number: 80,
            name: None,
            app_protocol: None,
        }],
        opaque_ports: None,
    }
}

fn export(namespace: &str, name: &str) -> Export {
    Export {
        namespace: namespace.into(),
        name: name.into(),
        offer: Ok(offer()),
    }
}

/// The rules for link `link-1` to east, in a cluster with these namespaces.
struct Setting {
    cluster: ClusterName,
    allowed: Vec<String>,
    namespaces: BTreeSet<String>,
    held: BTreeSet<ServiceName>,
    quota: usize,
}

impl Default for Setting {
    fn default() -> Self {
        let namespaces = ["shop", "bank", "kube-system", "mesh-system"];
        Self {
            cluster: "east".parse().unwrap(),
            allowed: Vec::new(),
            namespaces: namespaces.into_iter().map(Into::into).collect(),
            held: BTreeSet::new(),
            quota: 100,
        }
    }
}

impl Setting {
    fn desired(&self, services: Vec<Export>) -> Desired {
        let importer = Importer {
            cluster: &self.cluster,
            link_uid: "link-1",
            allowed: &self.allowed,
            namespaces: &self.namespaces,
            held: &self.held,
            quota: self.quota,
        };
        let cluster_uid = "east-uid".into();
        desired(
            &importer,
            &Snapshot {
                cluster_uid,
                services,
                ..Snapshot::default()
            },
        )
    }

    fn reason(&self, export: Export) -> Refusal {
        let mut desired = self.desired(vec![export]);
        assert!(desired.mirrors.is_empty());
        desired.refused.pop().unwrap().reason
    }
}

fn names(desired: &Desired) -> Vec<String> {
    desired.mirrors.keys().map(ToString::to_string).collect()
}

#[test]
fn an_exported_service_gets_a_mirror_named_for_its_cluster() {
    let desired = Setting::default().desired(vec![export("shop", "web")]);
    let mirror = &desired.mirrors[&ServiceName::new("shop", "web-east")];
    assert_eq!(mirror.remote, "shop/web");
    assert_eq!(mirror.cluster, "east");
    assert_eq!(mirror.link_uid, "link-1");
    assert_eq!(desired.refused, []);
}

#[test]
fn m3_namespaces_of_kubernetes_and_the_mesh_are_refused() {
    for namespace in [
        "kube-system",
        "kube-public",
        "mesh-system",
        "mesh-multicluster",
    ] {
        let reason = Setting::default().reason(export(namespace, "web"));
        assert_eq!(reason, Refusal::NamespaceForbidden, "{namespace}");
    }
}

#[test]
fn m3_namespaces_that_the_link_does_not_list_are_refused() {
    let setting = Setting {
        allowed: vec!["shop".into()],
        ..Setting::default()
    };
    let reason = setting.reason(export("bank", "web"));
    assert_eq!(reason, Refusal::NamespaceNotAllowed);
    let desired = setting.desired(vec![export("shop", "web"), export("bank", "web")]);
    assert_eq!(names(&desired), ["shop/web-east"]);
    assert!(is_forbidden(&setting.allowed, "bank"));
    assert!(!is_forbidden(&setting.allowed, "shop"));
}

#[test]
fn m3_a_listed_namespace_of_kubernetes_is_still_refused() {
    let setting = Setting {
        allowed: vec!["kube-system".into()],
        ..Setting::default()
    };
    let reason = setting.reason(export("kube-system", "web"));
    assert_eq!(reason, Refusal::NamespaceForbidden);
}

#[test]
fn m5_names_that_kubernetes_would_refuse_are_refused_and_others_are_mirrored() {
    let long = "a".repeat(59);
    for bad in [&long, "", "Web", "web.x", "../web", "web\n"] {
        let desired = Setting::default().desired(vec![export("shop", bad), export("shop", "web")]);
        assert!(
            matches!(desired.refused[0].reason, Refusal::Name(_)),
            "{bad:?}"
        );
        assert_eq!(names(&desired), ["shop/web-east"]);
    }
    for bad in ["", "Shop", "a/b", "shop\0", &"a".repeat(64)] {
        let reason = Setting::default().reason(export(bad, "web"));
        assert_eq!(reason, Refusal::NamespaceName, "{bad:?}");
    }
}

#[test]
fn m5_a_service_with_illegal_ports_is_refused_and_others_are_mirrored() {
    let mut bad = export("shop", "bad");
    bad.offer = Err(InvalidOffer::PortNumber(0));
    let desired = Setting::default().desired(vec![bad, export("shop", "web")]);
    assert_eq!(names(&desired), ["shop/web-east"]);
    assert_eq!(desired.refused[0].remote, "shop/bad");
}

#[test]
fn m5_a_service_that_is_named_twice_is_mirrored_once() {
    let mut second = export("shop", "web");
    second.offer = Ok(Offer {
        opaque_ports: Some("80".into()),
        ..offer()
    });
    let desired = Setting::default().desired(vec![export("shop", "web"), second]);
    let mirror = &desired.mirrors[&ServiceName::new("shop", "web-east")];
    assert_eq!(mirror.opaque_ports, None);
    assert_eq!(desired.refused[0].reason, Refusal::Twice);
}

#[test]
fn m8_a_full_link_keeps_the_mirrors_it_has() {
    let setting = Setting {
        quota: 2,
        held: BTreeSet::from([ServiceName::new("shop", "z-east")]),
        ..Setting::default()
    };
    let exports = ["a", "b", "z"].map(|name| export("shop", name));
    let desired = setting.desired(exports.into());
    assert_eq!(names(&desired), ["shop/a-east", "shop/z-east"]);
    assert_eq!(desired.refused[0].remote, "shop/b");
    assert_eq!(desired.refused[0].reason, Refusal::Quota(2));
}

#[test]
fn m13_a_missing_namespace_is_mirrored_when_it_appears() {
    let mut setting = Setting::default();
    let reason = setting.reason(export("new", "web"));
    assert_eq!(reason, Refusal::NamespaceMissing);
    setting.namespaces.insert("new".into());
    let desired = setting.desired(vec![export("new", "web")]);
    assert_eq!(names(&desired), ["new/web-east"]);
}
