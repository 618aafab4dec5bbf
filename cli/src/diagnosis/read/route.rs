//! The HTTPRoutes and TLSRoutes of a Service, as the user may read them.

use std::{collections::HashMap, fmt::Debug};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use mesh_api::{
    names,
    route::{
        BackendRef, CONTROLLER_NAME, HTTPRoute, HttpRouteMatch, HttpRouteRule, ParentRef,
        RouteParentStatus, RouteStatus, TLSRoute,
    },
};
use serde::de::DeserializeOwned;

use super::{
    super::facts::{Accepted, Goal, Read, Route, RouteKind, RouteRule, RuleBackend, Target},
    call::Named,
};
use crate::{check::state::text, cluster::Cluster};

/// Names of servers that are shown of one route.
const MOST_NAMES: usize = 3;

/// The routes of the port of a Service; none where nobody has installed them.
pub(super) async fn routes(
    cluster: &Cluster,
    target: &Target,
    port: Option<u16>,
) -> Read<Vec<Route>> {
    let http: Vec<HTTPRoute> = listed(cluster, target).await?;
    let tls: Vec<TLSRoute> = listed(cluster, target).await?;
    let mut routes = attached(http, target, port);
    routes.extend(attached(tls, target, port));
    Ok(routes)
}

async fn listed<K: Written>(cluster: &Cluster, target: &Target) -> Read<Vec<K>> {
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &target.namespace);
    let listing = async {
        match api.list(&ListParams::default()).await {
            Ok(listed) => Ok(listed.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    let what = format!("list {}s in {}", K::kind(&()), target.namespace);
    cluster.ask(&what, listing).await.map_err(text)
}

/// A kind of routes, as it is written.
trait Written:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
    const KIND: RouteKind;

    fn parent_refs(&self) -> &[ParentRef];

    fn status(&self) -> Option<&RouteStatus>;

    /// What its rules are for and lead to, as far as nobody says anything against it.
    fn rules(&self, target: &Target, port: Option<u16>) -> Vec<RouteRule>;
}

impl Written for HTTPRoute {
    const KIND: RouteKind = RouteKind::Http;

    fn parent_refs(&self) -> &[ParentRef] {
        &self.spec.parent_refs
    }

    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }

    fn rules(&self, target: &Target, port: Option<u16>) -> Vec<RouteRule> {
        let primary = self.annotations().get(names::PRIMARY_SERVICE);
        let rules = self.spec.rules.iter();
        rules
            .map(|rule| RouteRule {
                requests: requests(rule),
                goal: goal(rule, primary, target, port),
            })
            .collect()
    }
}

impl Written for TLSRoute {
    const KIND: RouteKind = RouteKind::Tls;

    fn parent_refs(&self) -> &[ParentRef] {
        &self.spec.parent_refs
    }

    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }

    fn rules(&self, target: &Target, port: Option<u16>) -> Vec<RouteRule> {
        let primary = self.annotations().get(names::PRIMARY_SERVICE);
        let rules = self.spec.rules.iter();
        rules
            .map(|rule| RouteRule {
                requests: connections(&self.spec.hostnames),
                goal: members(&rule.backend_refs, primary, target, port),
            })
            .collect()
    }
}

/// Those that are attached, the oldest first.
fn attached<K: Written>(mut objects: Vec<K>, target: &Target, port: Option<u16>) -> Vec<Route> {
    objects.sort_by_key(|object| {
        let made = object.meta().creation_timestamp.clone();
        (made, object.name_any())
    });
    let routes = objects.iter().filter_map(|object| {
        let mut parents = object.parent_refs().iter();
        let parent = parents.find(|parent| is_of(parent, target, port))?;
        Some(route(object, parent, target, port))
    });
    routes.collect()
}

fn is_of(parent: &ParentRef, target: &Target, port: Option<u16>) -> bool {
    let named = parent.namespace.as_ref();
    let is_port = |wanted: i32| port.is_none_or(|port| i32::from(port) == wanted);
    parent.is_service()
        && parent.name == target.name
        && named.is_none_or(|named| *named == target.namespace)
        && parent.port.is_none_or(is_port)
}

fn route<K: Written>(object: &K, parent: &ParentRef, target: &Target, port: Option<u16>) -> Route {
    let accepted = accepted(object, parent);
    let mut said = match &accepted {
        Some(Accepted::Partially(message)) => leading_nowhere(message),
        Some(Accepted::Yes | Accepted::No(_)) | None => HashMap::new(),
    };
    let mut rules = object.rules(target, port);
    for (rule, number) in rules.iter_mut().zip(1..) {
        if let Some(goal) = said.remove(&number) {
            rule.goal = goal;
        }
    }
    Route {
        kind: K::KIND,
        namespace: target.namespace.clone(),
        name: object.name_any(),
        is_ordered: object.annotations().contains_key(names::PRIMARY_SERVICE),
        rules,
        accepted,
    }
}

/// The rules that mesh-control drops, or answers with 500, by their numbers from
/// 1 on, as far as its message can be read.
fn leading_nowhere(message: &str) -> HashMap<usize, Goal> {
    let sentences = message.split(". ");
    let rules = sentences.filter_map(|sentence| {
        let sentence = sentence.trim_end_matches('.');
        let (number, goal) = if let Some(rest) = sentence.strip_prefix("Dropped Rule ") {
            (rest.split_once(':')?.0, Goal::Dropped)
        } else {
            let rest = sentence.strip_prefix("Rule ")?;
            let (number, why) = rest.split_once(" answers with 500: ")?;
            (number, Goal::Failing(why.to_owned()))
        };
        Some((number.parse::<usize>().ok()?, goal))
    });
    rules.collect()
}

/// What mesh-control says of the route as it is now.
fn accepted<K: Written>(object: &K, parent: &ParentRef) -> Option<Accepted> {
    let entries = object
        .status()
        .into_iter()
        .flat_map(|status| &status.parents);
    let mut entries = entries
        .filter(|entry| entry["controllerName"] == CONTROLLER_NAME)
        .filter_map(|entry| serde_json::from_value::<RouteParentStatus>(entry.clone()).ok());
    let ours = entries.find(|entry| entry.parent_ref == *parent)?;
    let condition = |kind: &str| -> Option<&Condition> {
        let mut current = ours
            .conditions
            .iter()
            .filter(|condition| condition.observed_generation == object.meta().generation);
        current.find(|condition| condition.type_ == kind)
    };
    let accepted = condition("Accepted")?;
    Some(match condition("PartiallyInvalid") {
        _ if accepted.status != "True" => Accepted::No(accepted.message.clone()),
        Some(partially) if partially.status == "True" => {
            Accepted::Partially(partially.message.clone())
        }
        Some(_) | None => Accepted::Yes,
    })
}

/// Filters that mesh-control knows; it answers what has another with 500.
const FILTERS: [&str; 4] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
];

fn goal(
    rule: &HttpRouteRule,
    primary: Option<&String>,
    target: &Target,
    port: Option<u16>,
) -> Goal {
    let mut filters = rule.filters.iter().map(|filter| filter.type_.as_str());
    if let Some(unknown) = filters.clone().find(|filter| !FILTERS.contains(filter)) {
        return Goal::Failing(format!("the filter {unknown} is not supported"));
    }
    if filters.any(|filter| filter == "RequestRedirect") {
        return Goal::Redirect;
    }
    members(&rule.backend_refs, primary, target, port)
}

/// The backends of a rule; nobody named means the Service itself.
fn members(
    named: &[BackendRef],
    primary: Option<&String>,
    target: &Target,
    port: Option<u16>,
) -> Goal {
    if named.is_empty() {
        return Goal::Backends(vec![RuleBackend {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            port,
            weight: 1,
        }]);
    }
    let mut members: Vec<&BackendRef> = named.iter().collect();
    if let Some(primary) = primary {
        // A stable sort: the others keep their order.
        members.sort_by_key(|member| member.name != *primary);
    }
    let backends = members.into_iter().map(|member| {
        let port = member.port.and_then(|port| u16::try_from(port).ok());
        let weight = member.weight.unwrap_or(1);
        RuleBackend {
            namespace: member
                .namespace
                .as_ref()
                .unwrap_or(&target.namespace)
                .clone(),
            name: member.name.clone(),
            port: port.filter(|_| member.is_service() && member.filters.is_empty()),
            weight: u32::try_from(weight).unwrap_or_default(),
        }
    });
    Goal::Backends(backends.collect())
}

/// Which connections a TLSRoute is for.
fn connections(hostnames: &[String]) -> String {
    let shown: Vec<&str> = hostnames
        .iter()
        .take(MOST_NAMES)
        .map(String::as_str)
        .collect();
    let shown = shown.join(" or ");
    match hostnames.len().saturating_sub(MOST_NAMES) {
        0 => format!("TLS for {shown}"),
        more => format!("TLS for {shown} or {more} more"),
    }
}

/// Which requests a rule is for.
fn requests(rule: &HttpRouteRule) -> String {
    let matches: Vec<_> = rule.matches.iter().map(one_match).collect();
    if matches.is_empty() {
        "/".to_owned()
    } else {
        matches.join(" or ")
    }
}

fn one_match(found: &HttpRouteMatch) -> String {
    let path = found.path.as_ref();
    let value = path.and_then(|path| path.value.as_deref()).unwrap_or("/");
    let path = match path.and_then(|path| path.type_.as_deref()) {
        Some("Exact") => format!("={value}"),
        Some("RegularExpression") => format!("~{value}"),
        _ => value.to_owned(),
    };
    let method = found.method.iter().cloned();
    let headers = found
        .headers
        .iter()
        .map(|header| format!("header {}", header.name));
    let query = found
        .query_params
        .iter()
        .map(|one| format!("?{}", one.name));
    let parts: Vec<_> = method.chain([path]).chain(headers).chain(query).collect();
    parts.join(" ")
}

/// The Services that requests go to by the rules of those `routes` that count.
pub(super) fn backends(routes: &Read<Vec<Route>>) -> Vec<Named> {
    let mut found = Vec::new();
    let counting = routes.iter().flatten().filter(|route| route.counts());
    for route in counting {
        let used = route.rules.iter().flat_map(|rule| route.used(rule));
        for backend in used.filter(|backend| backend.port.is_some()) {
            let named = Named {
                namespace: backend.namespace.clone(),
                name: backend.name.clone(),
                port: backend.port,
            };
            if !found.contains(&named) {
                found.push(named);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn target() -> Target {
        Target {
            asked: "web".into(),
            namespace: "shop".into(),
            name: "web".into(),
            alias: None,
        }
    }

    fn object(parent: Value, annotations: Value, status: Value) -> HTTPRoute {
        let rules = json!([
            {
                "matches": [
                    {"path": {"type": "Exact", "value": "/a"}, "method": "GET"},
                    {"headers": [{"name": "x-new", "value": "1"}]},
                ],
                "backendRefs": [
                    {"name": "web", "port": 80, "weight": 10},
                    {"name": "web-east", "port": 80, "weight": 90},
                    {"name": "logs", "kind": "Bucket", "group": "example.com"},
                ],
            },
            {"filters": [{"type": "RequestRedirect"}]},
            {},
        ]);
        let route = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "generation": 2, "annotations": annotations,
            },
            "spec": {"parentRefs": [parent], "rules": rules},
            "status": {"parents": status},
        });
        serde_json::from_value(route).unwrap()
    }

    fn web(port: Option<u16>) -> Value {
        json!({"group": "", "kind": "Service", "name": "web", "port": port})
    }

    #[test]
    fn routes_are_those_of_the_service_and_port() {
        for (parent, port, count) in [
            (web(None), Some(80), 1),
            (web(Some(80)), Some(80), 1),
            (web(Some(81)), Some(80), 0),
            (json!({"name": "web"}), Some(80), 0),
            (
                json!({"group": "", "kind": "Service", "name": "api"}),
                Some(80),
                0,
            ),
        ] {
            let route = object(parent.clone(), json!({}), json!([]));
            let routes = attached(vec![route], &target(), port);
            assert_eq!(routes.len(), count, "{parent}");
        }
    }

    #[test]
    fn rules_say_what_they_are_for_and_what_they_lead_to() {
        let annotations = json!({"mesh.dev/primary-service": "web-east"});
        let route = object(web(None), annotations, json!([]));
        let mut routes = attached(vec![route], &target(), Some(80));
        let named: Vec<_> = backends(&Ok(routes.clone()))
            .into_iter()
            .map(|named| named.name)
            .collect();
        assert_eq!(named, ["web-east", "web"]);
        let route = routes.remove(0);
        assert!(route.is_ordered);
        assert_eq!(route.rules[0].requests, "GET =/a or / header x-new");
        assert!(matches!(route.rules[1].goal, Goal::Redirect));
        let Goal::Backends(itself) = &route.rules[2].goal else {
            panic!("it has no backends, and so its parent");
        };
        assert_eq!((itself[0].name.as_str(), itself[0].port), ("web", Some(80)));
    }

    /// The goals of a route of three rules, all of which lead to Services.
    fn goals(filters: &Value, message: Option<&str>) -> Vec<Goal> {
        let conditions = message.map(|message| {
            let condition = |kind: &str, message: &str| {
                json!({
                    "type": kind, "status": "True", "reason": "R", "message": message,
                    "observedGeneration": 2, "lastTransitionTime": "2026-11-20T10:00:00Z",
                })
            };
            vec![
                condition("Accepted", ""),
                condition("PartiallyInvalid", message),
            ]
        });
        let status = json!([{
            "controllerName": CONTROLLER_NAME, "parentRef": web(None),
            "conditions": conditions.unwrap_or_default(),
        }]);
        let mut object = object(web(None), json!({}), status);
        let first = json!({"filters": filters});
        let rules = json!([first, {}, {}]);
        object.spec.rules = serde_json::from_value(rules).unwrap();
        let route = attached(vec![object], &target(), Some(80)).remove(0);
        route.rules.into_iter().map(|rule| rule.goal).collect()
    }

    #[test]
    fn a_filter_that_is_not_supported_fails_its_rule() {
        let known = json!([{"type": "URLRewrite"}, {"type": "ResponseHeaderModifier"}]);
        let redirect = json!([{"type": "RequestRedirect"}]);
        for (filters, expected) in [
            (json!([]), "Backends"),
            (known, "Backends"),
            (redirect, "Redirect"),
            (json!([{"type": "RequestMirror"}]), "Failing"),
            (json!([{"type": "ExtensionRef"}]), "Failing"),
            (
                json!([{"type": "RequestRedirect"}, {"type": "CORS"}]),
                "Failing",
            ),
        ] {
            let goal = format!("{:?}", goals(&filters, None)[0]);
            assert!(goal.starts_with(expected), "{filters}: {goal}");
        }
    }

    #[test]
    fn rules_of_which_mesh_control_says_so_lead_nowhere() {
        for (message, expected) in [
            ("", ["Backends", "Backends", "Backends"]),
            (
                "Dropped Rule 1: the method is malformed. Rule 3 answers with 500: a prefix is \
                 replaced that no prefix match has found.",
                [
                    "Dropped",
                    "Backends",
                    "Failing(\"a prefix is replaced that no prefix match has found\")",
                ],
            ),
            (
                "Rule 2 answers its share with 500: filters of web alone are not supported.",
                ["Backends", "Backends", "Backends"],
            ),
            (
                "Rule 1: retry is not supported and has no effect. Dropped Rule 2: a. b. Dro…",
                ["Backends", "Dropped", "Backends"],
            ),
            (
                "Dropped Rule 0: a. Dropped Rule 4: a. Dropped Rule x: a. Dropped Rule 3.",
                ["Backends", "Backends", "Backends"],
            ),
        ] {
            let goals = goals(&json!([]), Some(message));
            for (goal, expected) in goals.iter().zip(expected) {
                let goal = format!("{goal:?}");
                assert!(goal.starts_with(expected), "{message}: {goal}");
            }
        }
    }

    #[test]
    fn only_backends_that_get_requests_are_looked_at() {
        let names = |route: &Route| -> Vec<String> {
            let found = backends(&Ok(vec![route.clone()]));
            found.into_iter().map(|named| named.name).collect()
        };
        let object = object(web(None), json!({}), json!([]));
        let mut route = attached(vec![object], &target(), Some(80)).remove(0);
        assert_eq!(names(&route), ["web", "web-east"]);
        let Goal::Backends(of_first) = &mut route.rules[0].goal else {
            panic!("it has backends");
        };
        of_first[1].weight = 0;
        assert_eq!(names(&route), ["web"]);
        route.is_ordered = true;
        assert_eq!(names(&route), ["web", "web-east"]);
        for (accepted, count) in [
            (Accepted::Yes, 2),
            (Accepted::Partially("why".into()), 2),
            (Accepted::No("why".into()), 0),
        ] {
            route.accepted = Some(accepted);
            assert_eq!(names(&route).len(), count, "{:?}", route.accepted);
        }
    }

    #[test]
    fn only_what_we_said_of_the_route_as_it_is_now_counts() {
        let entry = |controller: &str, generation: i64, status: &str| {
            json!([{
                "controllerName": controller,
                "parentRef": {"group": "", "kind": "Service", "name": "web"},
                "conditions": [{
                    "type": "Accepted", "status": status, "reason": "R", "message": "why",
                    "observedGeneration": generation,
                    "lastTransitionTime": "2026-11-20T10:00:00Z",
                }],
            }])
        };
        for (status, expected) in [
            (json!([]), None),
            (entry("example.com/other", 2, "True"), None),
            (entry("mesh.dev/control", 1, "True"), None),
            (entry("mesh.dev/control", 2, "True"), Some(Accepted::Yes)),
            (
                entry("mesh.dev/control", 2, "False"),
                Some(Accepted::No("why".into())),
            ),
        ] {
            let parent = json!({"group": "", "kind": "Service", "name": "web"});
            let route = object(parent, json!({}), status.clone());
            let routes = attached(vec![route], &target(), Some(80));
            assert_eq!(routes[0].accepted, expected, "{status}");
        }
    }

    #[test]
    fn a_tls_route_says_its_names_and_what_it_leads_to() {
        let object = |names: &[&str]| -> TLSRoute {
            let rule = json!({"backendRefs": [
                {"name": "web", "port": 443}, {"name": "web-east", "port": 443}]});
            let route = json!({
                "metadata": {
                    "name": "web", "namespace": "shop",
                    "annotations": {"mesh.dev/primary-service": "web-east"},
                },
                "spec": {"parentRefs": [web(Some(443))], "hostnames": names, "rules": [rule]},
            });
            serde_json::from_value(route).unwrap()
        };
        for (names, expected) in [
            (&["a.example"][..], "TLS for a.example"),
            (
                &["a.example", "*.b.example", "c", "d", "e"],
                "TLS for a.example or *.b.example or c or 2 more",
            ),
        ] {
            let routes = attached(vec![object(names)], &target(), Some(443));
            assert_eq!(routes[0].kind, RouteKind::Tls);
            assert_eq!(routes[0].rules[0].requests, expected);
            let named = backends(&Ok(routes));
            let named: Vec<_> = named
                .iter()
                .map(|named| (&*named.name, named.port))
                .collect();
            assert_eq!(named, [("web-east", Some(443)), ("web", Some(443))]);
        }
        assert!(attached(vec![object(&["a"])], &target(), Some(80)).is_empty());
    }
}
