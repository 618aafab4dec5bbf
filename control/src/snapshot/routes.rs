//! HTTPRoutes, as far as they are attached to Services.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    uri::{Authority, Scheme},
};
use kube::ResourceExt as _;
use mesh_api::{
    names,
    route::{self as api, HTTPRoute, HttpRouteRule},
};
use mesh_core::{
    destination::Distribution,
    route::{
        Action, Forward, HttpRoute, Rule, RuleBackend,
        filter::{HeaderChanges, PathChange, Redirect, Rewrite},
        matching::{HeaderMatch, PathMatch, Pattern, QueryMatch, RequestMatch, ValueMatch},
    },
};

use super::Name;

/// Routes of one Service that count; there is a limit to what sidecars take.
const MOST_ROUTES: usize = 100;

/// A route, for one Service that it is attached to.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// The only port that is meant.
    pub(crate) port: Option<u16>,
    pub(crate) route: Arc<Route>,
}

/// An HTTPRoute.
#[derive(Debug)]
pub(crate) struct Route {
    /// What sidecars are told, but for its backends: those are positions in
    /// `services`.
    pub(crate) route: HttpRoute,
    pub(crate) services: Vec<RouteService>,
}

/// What a backend's reference says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteService {
    /// The Service that the route is attached to.
    Parent,
    Named(Name, u16),
    /// Nothing that can be used.
    Unusable,
}

/// What a route came to.
pub(super) struct Converted {
    route: Route,
    /// What was left out, and why.
    problems: Vec<String>,
}

/// By Service, the oldest first. A route is attached to Services of its own
/// namespace only, and not at all if none of its rules can be used.
pub(super) fn routes(objects: &[Arc<HTTPRoute>]) -> HashMap<Name, Vec<Attached>> {
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_by_key(|object| {
        let made = object.metadata.creation_timestamp.clone();
        (made, object.namespace(), object.name_any())
    });
    let mut routes: HashMap<Name, Vec<Attached>> = HashMap::new();
    for object in sorted {
        let parents = parents(object);
        if parents.is_empty() {
            continue;
        }
        let Converted { route, problems } = convert(object);
        for problem in &problems {
            tracing::debug!(route = object.name_any(), problem, "HTTPRoute");
        }
        if route.route.rules.is_empty() {
            continue;
        }
        let route = Arc::new(route);
        for (service, port) in parents {
            let attached = routes.entry(service).or_default();
            if attached.len() < MOST_ROUTES {
                let route = route.clone();
                attached.push(Attached { port, route });
            }
        }
    }
    routes
}

fn parents(object: &HTTPRoute) -> Vec<(Name, Option<u16>)> {
    let namespace = object.namespace().unwrap_or_default();
    let own = |parent: &&api::ParentRef| {
        let named = parent.namespace.as_ref();
        parent.is_service() && named.is_none_or(|named| *named == namespace)
    };
    let parents = object.spec.parent_refs.iter().filter(own);
    parents
        .filter_map(|parent| {
            let port = parent.port.map(u16::try_from).transpose().ok()?;
            Some(((namespace.clone(), parent.name.clone()), port))
        })
        .collect()
}

fn convert(object: &HTTPRoute) -> Converted {
    let mut reading = Reading {
        namespace: object.namespace().unwrap_or_default(),
        primary: object.annotations().get(names::PRIMARY_SERVICE).cloned(),
        services: Vec::new(),
        problems: Vec::new(),
    };
    let mut rules = Vec::new();
    for (at, rule) in object.spec.rules.iter().enumerate() {
        match reading.rule(rule) {
            Ok(rule) => rules.push(rule),
            Err(problem) => {
                let number = at + 1;
                reading.problems.push(format!("rule {number}: {problem}"));
            }
        }
    }
    let route = HttpRoute {
        namespace: reading.namespace.into(),
        name: object.name_any().into(),
        rules,
    };
    Converted {
        route: Route {
            route,
            services: reading.services,
        },
        problems: reading.problems,
    }
}

/// A route that is being read.
struct Reading {
    namespace: String,
    /// Its backends are in order, this one first.
    primary: Option<String>,
    services: Vec<RouteService>,
    problems: Vec<String>,
}

/// What a rule does to messages.
#[derive(Default)]
struct Filters {
    request_headers: HeaderChanges,
    response_headers: HeaderChanges,
    rewrite: Rewrite,
    redirect: Option<Redirect>,
}

impl Reading {
    /// A rule; an error if it cannot be said which requests it is for.
    fn rule(&mut self, rule: &HttpRouteRule) -> Result<Rule, String> {
        let matches = rule.matches.iter().map(request_match);
        let matches: Vec<_> = matches.collect::<Result<_, _>>()?;
        let timeout = rule.timeouts.request.as_deref().map(duration);
        let timeout = timeout.transpose()?.filter(|timeout| !timeout.is_zero());
        let filters = match filters(rule, &matches) {
            Ok(filters) => filters,
            // A filter is never left out: its requests fail instead.
            Err(problem) => {
                self.problems.push(format!("answered with 500: {problem}"));
                return Ok(Rule {
                    matches,
                    request_headers: HeaderChanges::default(),
                    response_headers: HeaderChanges::default(),
                    action: Action::Fail,
                });
            }
        };
        let action = match filters.redirect {
            Some(redirect) => Action::Redirect(redirect),
            None => Action::Forward(self.forward(rule, filters.rewrite, timeout)),
        };
        Ok(Rule {
            matches,
            request_headers: filters.request_headers,
            response_headers: filters.response_headers,
            action,
        })
    }

    fn forward(
        &mut self,
        rule: &HttpRouteRule,
        rewrite: Rewrite,
        timeout: Option<Duration>,
    ) -> Forward {
        let mut members: Vec<_> = rule.backend_refs.iter().collect();
        let distribution = match &self.primary {
            None => Distribution::RandomAvailable,
            Some(primary) => {
                // A stable sort: the others keep their order.
                members.sort_by_key(|member| member.name != *primary);
                Distribution::FirstAvailable
            }
        };
        let mut backends: Vec<_> = members
            .into_iter()
            .map(|member| {
                let weight = u32::try_from(member.weight.unwrap_or(1)).unwrap_or_default();
                self.backend(self.service(member), weight)
            })
            .collect();
        if backends.is_empty() {
            backends.push(self.backend(RouteService::Parent, 1));
        }
        Forward {
            rewrite,
            timeout,
            distribution,
            backends,
        }
    }

    fn backend(&mut self, service: RouteService, weight: u32) -> RuleBackend {
        self.services.push(service);
        RuleBackend {
            backend: Some(self.services.len() - 1),
            weight,
        }
    }

    fn service(&self, member: &api::HttpBackendRef) -> RouteService {
        let port = member.port.and_then(|port| u16::try_from(port).ok());
        match port {
            Some(port) if member.is_service() && member.filters.is_empty() => {
                let namespace = member.namespace.as_ref().unwrap_or(&self.namespace);
                RouteService::Named((namespace.clone(), member.name.clone()), port)
            }
            _ => RouteService::Unusable,
        }
    }
}

fn request_match(found: &api::HttpRouteMatch) -> Result<RequestMatch, String> {
    let path = found.path.as_ref().map(path_match).transpose()?;
    let method = found.method.as_ref().map(|method| method.parse::<Method>());
    let headers = found.headers.iter().map(|condition| {
        Ok(HeaderMatch {
            name: header_name(&condition.name)?,
            value: value_match(condition)?,
        })
    });
    let query = found.query_params.iter().map(|condition| {
        Ok(QueryMatch {
            name: condition.name.as_str().into(),
            value: value_match(condition)?,
        })
    });
    Ok(RequestMatch {
        path: path.unwrap_or_default(),
        method: method.transpose().map_err(|_| "the method is malformed")?,
        headers: headers.collect::<Result<_, String>>()?,
        query: query.collect::<Result<_, String>>()?,
    })
}

fn path_match(condition: &api::Condition) -> Result<PathMatch, String> {
    let value = condition.value.as_deref().unwrap_or("/");
    match condition.type_.as_deref().unwrap_or("PathPrefix") {
        "Exact" => Ok(PathMatch::Exact(value.into())),
        "PathPrefix" => Ok(PathMatch::Prefix(value.into())),
        "RegularExpression" => Ok(PathMatch::Pattern(pattern(value)?)),
        other => Err(format!("paths cannot be matched by {other}")),
    }
}

fn value_match(condition: &api::Condition) -> Result<ValueMatch, String> {
    let value = condition.value.as_deref().unwrap_or_default();
    match condition.type_.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(ValueMatch::Exact(value.into())),
        "RegularExpression" => Ok(ValueMatch::Pattern(pattern(value)?)),
        other => Err(format!("values cannot be matched by {other}")),
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

/// What a rule's filters come to, if each of them is one that we know.
fn filters(rule: &HttpRouteRule, matches: &[RequestMatch]) -> Result<Filters, String> {
    let mut filters = Filters::default();
    for filter in &rule.filters {
        match filter.type_.as_str() {
            "RequestHeaderModifier" => {
                filters.request_headers = changes(filter.request_header_modifier.as_ref())?;
            }
            "ResponseHeaderModifier" => {
                filters.response_headers = changes(filter.response_header_modifier.as_ref())?;
            }
            "RequestRedirect" => {
                let redirect = filter.request_redirect.clone().unwrap_or_default();
                filters.redirect = Some(self::redirect(&redirect)?);
            }
            "URLRewrite" => {
                let rewrite = filter.url_rewrite.clone().unwrap_or_default();
                let authority = rewrite
                    .hostname
                    .map(|host| host.parse::<Authority>())
                    .transpose();
                filters.rewrite = Rewrite {
                    authority: authority.map_err(|_| "the new host is malformed")?,
                    path: rewrite.path.as_ref().map(path_change).transpose()?,
                };
            }
            other => return Err(format!("the filter {other} is not supported")),
        }
    }
    let redirected = filters.redirect.as_ref().and_then(|r| r.path.as_ref());
    let replaced = filters.rewrite.path.as_ref().or(redirected);
    let by_prefix = |found: &RequestMatch| matches!(found.path, PathMatch::Prefix(_));
    if matches!(replaced, Some(PathChange::Prefix(_))) && !matches.iter().all(by_prefix) {
        return Err("a prefix is replaced that no prefix match has found".to_owned());
    }
    Ok(filters)
}

fn changes(modifier: Option<&api::HeaderModifier>) -> Result<HeaderChanges, String> {
    let Some(modifier) = modifier else {
        return Ok(HeaderChanges::default());
    };
    let pairs = |headers: &[api::Header]| {
        let pairs = headers.iter().map(|header| {
            let value = header.value.parse::<HeaderValue>();
            let value = value.map_err(|_| format!("the value of {} is malformed", header.name))?;
            Ok((header_name(&header.name)?, value))
        });
        pairs.collect::<Result<Vec<_>, String>>()
    };
    let remove = modifier.remove.iter().map(|name| header_name(name));
    let remove = remove.collect::<Result<_, String>>()?;
    HeaderChanges::new(pairs(&modifier.set)?, pairs(&modifier.add)?, remove)
        .map_err(|error| error.to_string())
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse()
        .map_err(|_| format!("{name:?} is no header's name"))
}

fn redirect(redirect: &api::RequestRedirect) -> Result<Redirect, String> {
    let status = StatusCode::from_u16(redirect.status_code.unwrap_or(302));
    let scheme = redirect
        .scheme
        .as_deref()
        .map(str::parse::<Scheme>)
        .transpose();
    Ok(Redirect {
        scheme: scheme.map_err(|_| "the scheme is malformed")?,
        host: redirect.hostname.as_deref().map(Into::into),
        path: redirect.path.as_ref().map(path_change).transpose()?,
        port: redirect.port.and_then(|port| u16::try_from(port).ok()),
        status: status
            .ok()
            .filter(StatusCode::is_redirection)
            .ok_or("the status is no redirection")?,
    })
}

fn path_change(modifier: &api::PathModifier) -> Result<PathChange, String> {
    let full = modifier.replace_full_path.as_deref();
    let prefix = modifier.replace_prefix_match.as_deref();
    match (modifier.type_.as_str(), full, prefix) {
        ("ReplaceFullPath", Some(path), _) => Ok(PathChange::Full(path.into())),
        ("ReplacePrefixMatch", _, Some(prefix)) => Ok(PathChange::Prefix(prefix.into())),
        (other, ..) => Err(format!("the path modifier {other} is not supported")),
    }
}

/// `1h30m10s500ms` (GEP-2257): up to four numbers of up to five digits.
fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text} is no duration");
    let (mut rest, mut total, mut parts) = (text, Duration::ZERO, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let number: u32 = number.parse().map_err(|_| malformed())?;
        parts += 1;
        if digits > 5 || parts > 4 {
            return Err(malformed());
        }
        total += match unit {
            "h" => Duration::from_secs(3600) * number,
            "m" => Duration::from_secs(60) * number,
            "s" => Duration::from_secs(1) * number,
            "ms" => Duration::from_millis(1) * number,
            _ => return Err(malformed()),
        };
        rest = after;
    }
    if parts == 0 {
        Err(malformed())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, spec: Value, annotations: Value) -> HTTPRoute {
        let metadata = json!({
            "name": name,
            "namespace": "shop",
            "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": spec,
        });
        serde_json::from_value(route).unwrap()
    }

    fn with_rules(rules: Value) -> HTTPRoute {
        let parent = json!({"group": "", "kind": "Service", "name": "web"});
        let spec = json!({"parentRefs": [parent], "rules": rules});
        object("web", spec, json!({}))
    }

    fn actions(rules: Value) -> Vec<Action> {
        let rules = convert(&with_rules(rules)).route.route.rules;
        rules.into_iter().map(|rule| rule.action).collect()
    }

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        let good = [("1h30m", 5_400_000), ("10s500ms", 10_500), ("0s", 0)];
        for (text, milliseconds) in good {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for bad in ["", "10", "s", "1.5s", "-1s", "100000s", "1h1m1s1ms1h", "1d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_whose_match_cannot_be_read_is_left_out() {
        let bad = json!({"type": "RegularExpression", "value": "("});
        let rules = json!([
            {"matches": [{"path": bad}]},
            {"matches": [{"headers": [{"name": "x-a", "value": "1"}]}]},
            {"timeouts": {"request": "soon"}},
        ]);
        let converted = convert(&with_rules(rules));
        assert_eq!(converted.route.route.rules.len(), 1);
        assert_eq!(converted.problems.len(), 2);
        let none = with_rules(json!([{"matches": [{"path": {"type": "Glob"}}]}]));
        assert!(routes(&[Arc::new(none)]).is_empty());
    }

    #[test]
    fn a_filter_that_is_not_supported_fails_its_rule_alone() {
        let forbidden = json!({"set": [{"name": "mesh-port", "value": "1"}]});
        let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"});
        let rules = json!([
            {"filters": [{"type": "RequestMirror"}]},
            {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": forbidden}]},
            {
                "matches": [{"path": {"type": "Exact", "value": "/a"}}],
                "filters": [{"type": "URLRewrite", "urlRewrite": {"path": prefix}}],
            },
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]},
            {},
        ]);
        let actions = actions(rules);
        assert_eq!(actions[..3], [Action::Fail, Action::Fail, Action::Fail]);
        assert!(matches!(actions[3], Action::Redirect(_)));
        assert!(matches!(actions[4], Action::Forward(_)));
    }

    #[test]
    fn r1_r12_a_route_with_a_primary_is_ordered_and_one_without_is_weighted() {
        let backends = json!([
            {"name": "web", "port": 80, "weight": 10},
            {"name": "web-east", "port": 80, "weight": 90},
        ]);
        let parent = json!({"group": "", "kind": "Service", "name": "web"});
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": backends}]});
        let forward = |annotations: Value| {
            let route = convert(&object("web", spec.clone(), annotations)).route;
            let services = route.services.iter().map(|service| match service {
                RouteService::Named((_, name), _) => name.clone(),
                RouteService::Parent | RouteService::Unusable => String::new(),
            });
            let services: Vec<_> = services.collect();
            match &route.route.rules[0].action {
                Action::Forward(forward) => (forward.distribution, services),
                Action::Redirect(_) | Action::Fail => unreachable!("it has backends"),
            }
        };
        let (distribution, services) = forward(json!({"mesh.dev/primary-service": "web-east"}));
        assert_eq!(distribution, Distribution::FirstAvailable);
        assert_eq!(services, ["web-east", "web"]);
        let (distribution, services) = forward(json!({}));
        assert_eq!(distribution, Distribution::RandomAvailable);
        assert_eq!(services, ["web", "web-east"]);
    }

    #[test]
    fn a_route_is_attached_to_services_of_its_own_namespace() {
        let parents = json!([
            {"group": "", "kind": "Service", "name": "web", "port": 80},
            {"group": "", "kind": "Service", "name": "api", "namespace": "shop"},
            {"group": "", "kind": "Service", "name": "vault", "namespace": "other"},
            {"name": "gateway"},
        ]);
        let route = object(
            "web",
            json!({"parentRefs": parents, "rules": [{}]}),
            json!({}),
        );
        let routes = routes(&[Arc::new(route)]);
        let mut attached: Vec<_> = routes
            .iter()
            .map(|(name, attached)| (name.1.as_str(), attached[0].port))
            .collect();
        attached.sort_unstable();
        assert_eq!(attached, [("api", None), ("web", Some(80))]);
    }

    #[test]
    fn what_cannot_be_a_backend_fails_its_share() {
        let backends = json!([
            {"name": "web"},
            {"name": "bucket", "kind": "Bucket", "group": "example.com", "port": 80},
            {"name": "web", "port": 80, "filters": [{"type": "RequestMirror"}]},
            {"name": "web", "port": 80, "namespace": "other"},
        ]);
        let route = convert(&with_rules(json!([{"backendRefs": backends}]))).route;
        let named = RouteService::Named(("other".to_owned(), "web".to_owned()), 80);
        assert_eq!(route.services[..3], [const { RouteService::Unusable }; 3]);
        assert_eq!(route.services[3], named);
    }
}
