use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{control, crds, gateway, images::Images, mirror, namespace::namespace};

fn all_objects() -> Vec<Value> {
    let images = Images {
        registry: "mesh.dev".into(),
        tag: "dev".into(),
    };
    let options = gateway::Options {
        replicas: 2,
        service_type: gateway::ServiceType::LoadBalancer,
    };
    let (cluster, trust_domain) = ("west".parse().unwrap(), "west".parse().unwrap());
    let mut objects = crds::definitions().unwrap();
    objects.extend(control::objects(&cluster, &trust_domain, &images));
    objects.push(namespace("mesh-multicluster"));
    objects.extend(gateway::objects(&options, &images));
    objects.extend(mirror::objects(&images));
    objects
}

/// What Kubernetes keeps of `object`: fields that it does not know are gone.
fn kept<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

fn kept_by_kind(object: &Value) -> Value {
    match object["kind"].as_str().unwrap() {
        "ClusterRole" => kept::<ClusterRole>(object),
        "ClusterRoleBinding" => kept::<ClusterRoleBinding>(object),
        "ConfigMap" => kept::<ConfigMap>(object),
        "CustomResourceDefinition" => kept::<CustomResourceDefinition>(object),
        "Deployment" => kept::<Deployment>(object),
        "Namespace" => kept::<Namespace>(object),
        "Role" => kept::<Role>(object),
        "RoleBinding" => kept::<RoleBinding>(object),
        "Service" => kept::<Service>(object),
        "ServiceAccount" => kept::<ServiceAccount>(object),
        other => panic!("{other} is not known"),
    }
}

#[test]
fn kubernetes_knows_every_field_that_is_printed() {
    for object in all_objects() {
        assert_eq!(kept_by_kind(&object), object, "{}", object["metadata"]);
    }
}

/// `kubectl apply` sends what the API server does not store again and again.
#[test]
fn nothing_is_printed_that_kubernetes_does_not_store() {
    fn check(value: &Value, path: &str) {
        match value {
            Value::Null => panic!("{path} is null"),
            Value::Array(items) if items.is_empty() => panic!("{path} is empty"),
            Value::Array(items) => items.iter().for_each(|item| check(item, path)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    check(field, &format!("{path}.{name}"));
                }
            }
            _ => {}
        }
    }
    // Of a definition every byte is stored, empty defaults too.
    let stored = |object: &Value| object["kind"] == "CustomResourceDefinition";
    for object in all_objects().iter().filter(|object| !stored(object)) {
        check(object, &object["metadata"]["name"].to_string());
    }
}

#[test]
fn no_program_runs_with_privileges() {
    let deployments = all_objects();
    let deployments = deployments.iter().filter(|o| o["kind"] == "Deployment");
    for deployment in deployments {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let context = &container["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    }
}

#[test]
fn secrets_are_readable_in_our_own_namespace_by_name_and_nowhere_else() {
    for object in all_objects() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let secrets = rule["resources"]
                .as_array()
                .unwrap()
                .contains(&"secrets".into());
            if secrets {
                assert_eq!(object["kind"], "Role");
                let creates = rule["verbs"] == serde_json::json!(["create"]);
                assert!(creates || rule["resourceNames"].is_array());
            }
        }
    }
}
