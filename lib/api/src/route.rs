//! `HTTPRoute` of the Gateway API, `gateway.networking.k8s.io/v1`: the fields
//! that mean something when the parent is a Service.
//!
//! Its definition is not ours to install. The API server checks objects against
//! it; here every field may be missing, and words that are not known are kept,
//! so that one odd route cannot hide the others.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The value of a parent's or backend's `kind` that means a Service.
pub const SERVICE_KIND: &str = "Service";

/// Rules for the HTTP requests that go to Services.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    schema = "disabled",
    namespaced
)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What the rules are attached to.
    pub parent_refs: Vec<ParentRef>,
    /// In order.
    pub rules: Vec<HttpRouteRule>,
}

/// What a route is attached to: of interest are Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// The API group; missing means the Gateway API's own, empty means core.
    pub group: Option<String>,
    /// Missing means a Gateway.
    pub kind: Option<String>,
    /// The namespace, if not the route's.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The only port that is meant.
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
    pub backend_refs: Vec<HttpBackendRef>,
    /// How long that may take.
    pub timeouts: HttpRouteTimeouts,
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

/// Who answers some of a rule's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpBackendRef {
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
    /// What happens to its requests alone.
    pub filters: Vec<HttpRouteFilter>,
}

/// Durations as the Gateway API writes them (`1h30m`, `500ms`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpRouteTimeouts {
    /// For everything, attempts at other endpoints too.
    pub request: Option<String>,
}

impl ParentRef {
    /// Whether it is a Service.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.group.as_deref() == Some("") && self.kind.as_deref() == Some(SERVICE_KIND)
    }
}

impl HttpBackendRef {
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
            "status": {"parents": []},
        }))
        .unwrap();
        let services = route.spec.parent_refs.iter().map(ParentRef::is_service);
        assert_eq!(services.collect::<Vec<_>>(), [true, false]);
        let rule = &route.spec.rules[0];
        assert!(rule.backend_refs[0].is_service());
        assert_eq!(rule.timeouts.request.as_deref(), Some("10s"));
        let rewrite = rule.filters[0].url_rewrite.as_ref().unwrap();
        let path = rewrite.path.as_ref().unwrap();
        assert_eq!(path.replace_prefix_match.as_deref(), Some("/v2"));
    }
}
