//! `HTTPRoute` and `TLSRoute` of the Gateway API, `gateway.networking.k8s.io/v1`: the
//! fields that mean something when the parent is a Service.
//!
//! Their definitions are not ours to install. The API server checks objects against
//! them; here every field may be missing, and words that are not known are kept,
//! so that one odd route cannot hide the others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as KubeCondition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of a parent's or backend's `kind` that means a Service.
pub const SERVICE_KIND: &str = "Service";

/// What we are called in the status of a route.
pub const CONTROLLER_NAME: &str = "mesh.dev/control";

/// Rules for the HTTP requests that go to Services.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    schema = "disabled",
    status = "RouteStatus",
    namespaced
)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What the rules are attached to.
    pub parent_refs: Vec<ParentRef>,
    /// In order.
    pub rules: Vec<HttpRouteRule>,
}

/// Where TLS connections to Services go, by the server name that they ask for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "TLSRoute",
    plural = "tlsroutes",
    schema = "disabled",
    status = "RouteStatus",
    namespaced
)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRouteSpec {
    /// What the rules are attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Server names, or `*.` and their end.
    pub hostnames: Vec<String>,
    /// One.
    pub rules: Vec<TlsRouteRule>,
}

/// Where connections go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRouteRule {
    /// Who takes them.
    pub backend_refs: Vec<BackendRef>,
}

/// What controllers say of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// A [`RouteParentStatus`] for each parent and controller. They are kept as
    /// they are written: those of others are not ours to understand or change.
    pub parents: Vec<Value>,
}

/// What one controller says of a route, as far as one parent is concerned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent, as the route names it.
    pub parent_ref: ParentRef,
    /// The controller; ours is [`CONTROLLER_NAME`].
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs`, `PartiallyInvalid`.
    #[serde(default)]
    pub conditions: Vec<KubeCondition>,
}

/// What a route is attached to: of interest are Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// The API group; missing means the Gateway API's own, empty means core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Missing means a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace, if not the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The name of the only port that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The only port that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// What is done with some requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteRule {
    /// Any of them; none means every request.
    pub matches: Vec<HttpRouteMatch>,
    /// What happens to requests and answers.
    pub filters: Vec<HttpRouteFilter>,
    /// Who answers; nobody named means the parent.
    pub backend_refs: Vec<BackendRef>,
    /// How long that may take.
    pub timeouts: HttpRouteTimeouts,
    /// When a request is tried again; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Value>,
    /// Which requests stay with one endpoint; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<Value>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteMatch {
    /// On the path.
    pub path: Option<Condition>,
    /// On headers.
    pub headers: Vec<Condition>,
    /// On parameters of the query.
    pub query_params: Vec<Condition>,
    /// On the method.
    pub method: Option<String>,
}

/// A condition on a path, header or parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// `Exact`, `PathPrefix` or `RegularExpression`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Of which header or parameter.
    pub name: String,
    /// The value, or the expression that describes it.
    pub value: Option<String>,
}

/// What happens to a request or its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteFilter {
    /// Which of the following it is, or another.
    #[serde(rename = "type")]
    pub type_: String,
    /// `RequestHeaderModifier`.
    pub request_header_modifier: Option<HeaderModifier>,
    /// `ResponseHeaderModifier`.
    pub response_header_modifier: Option<HeaderModifier>,
    /// `RequestRedirect`.
    pub request_redirect: Option<RequestRedirect>,
    /// `URLRewrite`.
    pub url_rewrite: Option<UrlRewrite>,
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderModifier {
    /// Headers that get one value.
    pub set: Vec<Header>,
    /// Values beside those that are there.
    pub add: Vec<Header>,
    /// Headers that go.
    pub remove: Vec<String>,
}

/// A header's line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port.
    pub port: Option<i32>,
    /// The answer's status.
    pub status_code: Option<u16>,
}

/// Another target for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// The authority.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// Another path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub type_: String,
    /// In place of the whole.
    pub replace_full_path: Option<String>,
    /// In place of the prefix that matched.
    pub replace_prefix_match: Option<String>,
}

/// Who answers some of a rule's requests, or takes some of its connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendRef {
    /// The API group; missing and empty mean core.
    pub group: Option<String>,
    /// Missing means a Service.
    pub kind: Option<String>,
    /// The namespace, if not the route's.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The Service's port.
    pub port: Option<i32>,
    /// Its share; missing means 1.
    pub weight: Option<i32>,
    /// What happens to its requests alone; only in an HTTPRoute.
    pub filters: Vec<HttpRouteFilter>,
}

/// Durations as the Gateway API writes them (`1h30m`, `500ms`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteTimeouts {
    /// For everything, attempts at other endpoints too.
    pub request: Option<String>,
    /// For one attempt; not supported.
    pub backend_request: Option<String>,
}

impl ParentRef {
    /// Whether it is a Service.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.group.as_deref() == Some("") && self.kind.as_deref() == Some(SERVICE_KIND)
    }
}

impl BackendRef {
    /// Whether it is a Service.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.group.as_deref().unwrap_or_default().is_empty()
            && self.kind.as_deref().unwrap_or(SERVICE_KIND) == SERVICE_KIND
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_of_the_gateway_api_is_read() {
        let route: HTTPRoute = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "hostnames": ["ignored.example"],
                "parentRefs": [
                    {"group": "", "kind": "Service", "name": "web", "port": 80},
                    {"name": "gateway"},
                ],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "filters": [{
                        "type": "URLRewrite",
                        "urlRewrite": {"path": {
                            "type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}},
                    }],
                    "backendRefs": [{"name": "web-east", "port": 80, "weight": 90}],
                    "timeouts": {"request": "10s", "backendRequest": "2s"},
                }],
            },
            "status": {"parents": [{"controllerName": "example.com/other", "odd": 1}]},
        }))
        .unwrap();
        let services = route.spec.parent_refs.iter().map(ParentRef::is_service);
        assert_eq!(services.collect::<Vec<_>>(), [true, false]);
        let rule = &route.spec.rules[0];
        assert!(rule.backend_refs[0].is_service());
        assert_eq!(rule.timeouts.request.as_deref(), Some("10s"));
        let others = route.status.unwrap().parents;
        assert_eq!(others[0]["odd"], 1);
        let rewrite = rule.filters[0].url_rewrite.as_ref().unwrap();
        let path = rewrite.path.as_ref().unwrap();
        assert_eq!(path.replace_prefix_match.as_deref(), Some("/v2"));
    }

    #[test]
    fn a_tls_route_of_the_gateway_api_is_read() {
        let route: TLSRoute = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "TLSRoute",
            "metadata": {"name": "vault", "namespace": "shop"},
            "spec": {
                "useDefaultGateways": "None",
                "parentRefs": [{"group": "", "kind": "Service", "name": "vault", "port": 443}],
                "hostnames": ["vault.example.com", "*.vault.example.com"],
                "rules": [{
                    "name": "all",
                    "backendRefs": [{"name": "vault-east", "port": 443, "weight": 90}],
                }],
            },
            "status": {"parents": [{"controllerName": "example.com/other", "odd": 1}]},
        }))
        .unwrap();
        assert!(route.spec.parent_refs[0].is_service());
        assert_eq!(route.spec.hostnames[1], "*.vault.example.com");
        let backend = &route.spec.rules[0].backend_refs[0];
        assert!(backend.is_service());
        assert_eq!((backend.port, backend.weight), (Some(443), Some(90)));
        assert_eq!(route.status.unwrap().parents[0]["odd"], 1);
    }
}
