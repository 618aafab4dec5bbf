//! Who may reach what: `Server`, `AuthorizationPolicy`,
//! `MeshTLSAuthentication`, `NetworkAuthentication`.
//!
//! Fields are texts where a program could have narrower types: an object that
//! says something unknown must not keep the others from being read. Schemas
//! are narrow, so that the API server refuses it in the first place.
//!
//! What mesh-control makes of an object is in its status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A port of some pods. Once one says something of a port, only what it and
/// AuthorizationPolicies for it admit is admitted.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "Server",
    plural = "servers",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Port","type":"string","jsonPath":".spec.port"}"#,
    printcolumn = r#"{"name":"Access","type":"string","jsonPath":".spec.accessPolicy"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ServerSpec {
    /// Which pods of the namespace; all, if it is empty.
    pub pod_selector: PodSelector,
    /// The number, or the name that a container gives it.
    #[schemars(schema_with = "port_schema")]
    pub port: IntOrString,
    /// What it speaks; `unknown` stands for what is found out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "protocol_schema")]
    pub proxy_protocol: Option<String>,
    /// Whom it admits besides those whom an AuthorizationPolicy admits; `deny`
    /// unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "access_schema")]
    pub access_policy: Option<String>,
}

/// What mesh-control makes of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// `Accepted`: whether it does what it says; `PartiallyInvalid`: a part of
    /// it does not.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Pods by their labels; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[schemars(schema_with = "operator_schema")]
    pub operator: String,
    /// For `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Admits those who meet all of some requirements to a Server, or to all
/// Servers of a namespace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// A Server of the same namespace, or that Namespace itself.
    pub target_ref: TargetReference,
    /// What a client must meet: at most one of MeshTLSAuthentication and
    /// ServiceAccount, and at most one NetworkAuthentication. With none every
    /// client of the own cluster is admitted.
    pub required_authentication_refs: Vec<AuthenticationReference>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetReference {
    /// Its API group: `mesh.dev`, or empty for a Namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Server` or `Namespace`.
    #[schemars(schema_with = "target_kind_schema")]
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// An object that says who a client is, or from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthenticationReference {
    /// Its API group: `mesh.dev`, or empty for a ServiceAccount.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `MeshTLSAuthentication`, `NetworkAuthentication` or `ServiceAccount`.
    #[schemars(schema_with = "authentication_kind_schema")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Clients by their verified identity.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "MeshTLSAuthentication",
    plural = "meshtlsauthentications",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MeshTLSAuthenticationSpec {
    /// SPIFFE ids, of linked clusters too, with `*` for a namespace or an
    /// account: `spiffe://west/ns/shop/sa/*`, `spiffe://west/*`. A lone `*` is
    /// every identity of the own cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// Identities of the own cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_refs: Vec<IdentityReference>,
}

/// A ServiceAccount, or all of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityReference {
    /// Its API group: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `ServiceAccount` or `Namespace`.
    #[schemars(schema_with = "identity_kind_schema")]
    pub kind: String,
    /// Its name; of a Namespace that of the object itself, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Clients of the own cluster, or without an identity, by their address.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "mesh.dev",
    version = "v1alpha1",
    kind = "NetworkAuthentication",
    plural = "networkauthentications",
    status = "PolicyStatus",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
pub struct NetworkAuthenticationSpec {
    /// The client's address is in one of these.
    pub networks: Vec<NetworkRange>,
}

/// A network without some parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkRange {
    /// `10.0.0.0/8`, or one address.
    pub cidr: String,
    /// What does not belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

fn port_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

fn protocol_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"])
}

fn access_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&[
        "all-unauthenticated",
        "all-authenticated",
        "cluster-unauthenticated",
        "cluster-authenticated",
        "deny",
        "audit",
    ])
}

fn operator_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&["In", "NotIn", "Exists", "DoesNotExist"])
}

fn target_kind_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&["Server", "Namespace"])
}

fn authentication_kind_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&[
        "MeshTLSAuthentication",
        "NetworkAuthentication",
        "ServiceAccount",
    ])
}

fn identity_kind_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&["ServiceAccount", "Namespace"])
}

/// As the API server has it for its own kinds.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string"},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string"},
                "message": {"type": "string"},
                "observedGeneration": {"type": "integer", "format": "int64"},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
            },
        },
    })
}

fn one_of(values: &[&str]) -> Schema {
    json_schema!({"type": "string", "enum": values})
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_server_is_read_as_people_write_it() {
        let written = json!({
            "podSelector": {"matchLabels": {"app": "web"}},
            "port": "http",
            "accessPolicy": "deny",
        });
        let server: ServerSpec = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(server.port, IntOrString::String("http".into()));
        assert_eq!(serde_json::to_value(server).unwrap(), written);
    }

    #[test]
    fn an_unknown_word_is_the_api_server_s_to_refuse_and_can_be_read() {
        let odd = json!({"podSelector": {}, "port": 80, "accessPolicy": "perhaps"});
        let server: ServerSpec = serde_json::from_value(odd).unwrap();
        assert_eq!(server.access_policy.as_deref(), Some("perhaps"));

        let definition = serde_json::to_value(Server::crd()).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let spec = definition.pointer(spec).unwrap();
        let access = &spec["properties"]["accessPolicy"]["enum"];
        assert!(access.as_array().unwrap().contains(&Value::from("deny")));
        assert_eq!(
            spec["properties"]["port"]["x-kubernetes-int-or-string"],
            true
        );
        assert_eq!(spec["required"], json!(["podSelector", "port"]));
    }

    #[test]
    fn every_kind_has_a_status_that_is_written_apart_from_the_object() {
        let definitions = [
            Server::crd(),
            AuthorizationPolicy::crd(),
            MeshTLSAuthentication::crd(),
            NetworkAuthentication::crd(),
        ];
        for definition in definitions {
            let definition = serde_json::to_value(definition).unwrap();
            let version = &definition["spec"]["versions"][0];
            assert_eq!(version["subresources"], json!({"status": {}}));
            let conditions = "/schema/openAPIV3Schema/properties/status/properties/conditions";
            let conditions = version.pointer(conditions).unwrap();
            assert_eq!(
                conditions["items"]["properties"]["status"]["type"],
                "string"
            );
        }
    }
}
