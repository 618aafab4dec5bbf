pub(super) mod tls;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, uri::Scheme};
use linkerd2_proxy_api::{http_route as stock, http_types};
use mesh_core::route::{
    Action, Forward, HttpRoute, HttpRoutes, Rule, RuleBackend, Shares,
    filter::{HeaderChanges, PathChange, Redirect, Rewrite},
    matching::{HeaderMatch, PathMatch, QueryMatch, RequestMatch, ValueMatch},
    pattern::{MOST_PATTERNS, Pattern},
};

use super::{
    InvalidMessage,
    destination::{distribution_from_proto, distribution_to_proto},
    parse, port_from_proto,
};
use crate::v1;

/// Routes of one Service, and what they may hold. The Gateway API allows fewer.
const MOST_ROUTES: usize = 128;
const MOST_RULES: usize = 64;
const MOST_MATCHES: usize = 128;
const MOST_CONDITIONS: usize = 64;
const MOST_BACKENDS: usize = 64;

/// Routes that lead to the first `backends` route backends.
pub(super) fn routes_from_proto(
    messages: Vec<v1::HttpRoute>,
    backends: usize,
) -> Result<HttpRoutes, InvalidMessage> {
    let messages = at_most("http_routes", messages, MOST_ROUTES)?;
    // Before any is compiled.
    if messages.iter().map(expressions).sum::<usize>() > MOST_PATTERNS {
        let reason = format!("more than {MOST_PATTERNS} regular expressions");
        return Err(InvalidMessage::new("http_routes", reason));
    }
    let routes = messages.into_iter().map(|message| {
        let rules = at_most("rules", message.rules, MOST_RULES)?;
        let rules = rules
            .into_iter()
            .map(|rule| rule_from_proto(rule, backends));
        Ok(HttpRoute {
            namespace: message.namespace.into(),
            name: message.name.into(),
            rules: rules.collect::<Result<_, InvalidMessage>>()?,
        })
    });
    Ok(HttpRoutes::new(
        routes.collect::<Result<_, InvalidMessage>>()?,
    ))
}

pub(super) fn routes_to_proto(routes: &HttpRoutes) -> Vec<v1::HttpRoute> {
    let route = |route: &HttpRoute| v1::HttpRoute {
        namespace: route.namespace.to_string(),
        name: route.name.to_string(),
        rules: route.rules.iter().map(rule_to_proto).collect(),
    };
    routes.routes().iter().map(route).collect()
}

/// How many regular expressions a route has.
fn expressions(message: &v1::HttpRoute) -> usize {
    use stock::{header_match::Value as Header, path_match::Kind, query_param_match::Value};
    let matches = message.rules.iter().flat_map(|rule| &rule.matches);
    let of_match = |found: &stock::HttpRouteMatch| {
        let path = found
            .path
            .iter()
            .filter(|path| matches!(path.kind, Some(Kind::Regex(_))));
        let headers = found
            .headers
            .iter()
            .filter(|header| matches!(header.value, Some(Header::Regex(_))));
        let parameters = found
            .query_params
            .iter()
            .filter(|parameter| matches!(parameter.value, Some(Value::Regex(_))));
        path.count() + headers.count() + parameters.count()
    };
    matches.map(of_match).sum()
}

fn at_most<T>(field: &'static str, items: Vec<T>, most: usize) -> Result<Vec<T>, InvalidMessage> {
    if items.len() > most {
        return Err(InvalidMessage::new(field, format!("more than {most}")));
    }
    Ok(items)
}

fn rule_from_proto(message: v1::HttpRule, backends: usize) -> Result<Rule, InvalidMessage> {
    use v1::http_rule::Action as Message;
    let matches = at_most("matches", message.matches, MOST_MATCHES)?;
    let action = match message
        .action
        .ok_or_else(|| InvalidMessage::missing("action"))?
    {
        Message::Forward(forward) => Action::Forward(forward_from_proto(forward, backends)?),
        Message::Redirect(redirect) => Action::Redirect(redirect_from_proto(redirect)?),
        Message::Fail(_) => Action::Fail,
    };
    let request = message.request_headers.unwrap_or_default();
    let response = message.response_headers.unwrap_or_default();
    Ok(Rule {
        matches: matches
            .into_iter()
            .map(match_from_proto)
            .collect::<Result<_, _>>()?,
        request_headers: changes(request.set, request.add, request.remove)?,
        response_headers: changes(response.set, response.add, response.remove)?,
        action,
    })
}

fn rule_to_proto(rule: &Rule) -> v1::HttpRule {
    use v1::http_rule::Action as Message;
    let request = &rule.request_headers;
    let response = &rule.response_headers;
    let action = match &rule.action {
        Action::Forward(forward) => Message::Forward(forward_to_proto(forward)),
        Action::Redirect(redirect) => Message::Redirect(redirect_to_proto(redirect)),
        Action::Fail => Message::Fail(v1::HttpFail {}),
    };
    v1::HttpRule {
        matches: rule.matches.iter().map(match_to_proto).collect(),
        request_headers: Some(stock::RequestHeaderModifier {
            add: headers_to_proto(request.add()),
            set: headers_to_proto(request.set()),
            remove: names_to_proto(request.remove()),
        }),
        response_headers: Some(stock::ResponseHeaderModifier {
            add: headers_to_proto(response.add()),
            set: headers_to_proto(response.set()),
            remove: names_to_proto(response.remove()),
        }),
        action: Some(action),
    }
}

fn match_from_proto(message: stock::HttpRouteMatch) -> Result<RequestMatch, InvalidMessage> {
    use stock::path_match::Kind;
    let path = match message.path.and_then(|path| path.kind) {
        None => PathMatch::default(),
        Some(Kind::Exact(path)) => PathMatch::Exact(path.into()),
        Some(Kind::Prefix(prefix)) => PathMatch::Prefix(prefix.into()),
        Some(Kind::Regex(text)) => PathMatch::Pattern(pattern("match.path", &text)?),
    };
    let method = message.method.map(Method::try_from).transpose();
    let headers = at_most("match.headers", message.headers, MOST_CONDITIONS)?;
    let query = at_most("match.query_params", message.query_params, MOST_CONDITIONS)?;
    Ok(RequestMatch {
        path,
        method: method.map_err(|error| InvalidMessage::new("match.method", error))?,
        headers: headers
            .into_iter()
            .map(header_match_from_proto)
            .collect::<Result<_, _>>()?,
        query: query
            .into_iter()
            .map(query_match_from_proto)
            .collect::<Result<_, _>>()?,
    })
}

fn match_to_proto(found: &RequestMatch) -> stock::HttpRouteMatch {
    use stock::{header_match, path_match::Kind, query_param_match};
    let kind = match &found.path {
        PathMatch::Exact(path) => Kind::Exact(path.to_string()),
        PathMatch::Prefix(prefix) => Kind::Prefix(prefix.to_string()),
        PathMatch::Pattern(pattern) => Kind::Regex(pattern.as_str().to_owned()),
    };
    let header = |header: &HeaderMatch| stock::HeaderMatch {
        name: header.name.to_string(),
        value: Some(match &header.value {
            ValueMatch::Exact(value) => header_match::Value::Exact(value.as_bytes().to_vec()),
            ValueMatch::Pattern(pattern) => header_match::Value::Regex(pattern.as_str().to_owned()),
        }),
    };
    let parameter = |parameter: &QueryMatch| stock::QueryParamMatch {
        name: parameter.name.to_string(),
        value: Some(match &parameter.value {
            ValueMatch::Exact(value) => query_param_match::Value::Exact(value.to_string()),
            ValueMatch::Pattern(pattern) => {
                query_param_match::Value::Regex(pattern.as_str().to_owned())
            }
        }),
    };
    stock::HttpRouteMatch {
        path: Some(stock::PathMatch { kind: Some(kind) }),
        headers: found.headers.iter().map(header).collect(),
        query_params: found.query.iter().map(parameter).collect(),
        method: found.method.clone().map(Into::into),
    }
}

fn header_match_from_proto(message: stock::HeaderMatch) -> Result<HeaderMatch, InvalidMessage> {
    use stock::header_match::Value;
    const FIELD: &str = "match.headers";
    let value = match message
        .value
        .ok_or_else(|| InvalidMessage::missing(FIELD))?
    {
        Value::Exact(value) => {
            let value = String::from_utf8(value);
            ValueMatch::Exact(value.map_err(|e| InvalidMessage::new(FIELD, e))?.into())
        }
        Value::Regex(text) => ValueMatch::Pattern(pattern(FIELD, &text)?),
    };
    Ok(HeaderMatch {
        name: parse(FIELD, &message.name)?,
        value,
    })
}

fn query_match_from_proto(message: stock::QueryParamMatch) -> Result<QueryMatch, InvalidMessage> {
    use stock::query_param_match::Value;
    const FIELD: &str = "match.query_params";
    let value = match message
        .value
        .ok_or_else(|| InvalidMessage::missing(FIELD))?
    {
        Value::Exact(value) => ValueMatch::Exact(value.into()),
        Value::Regex(text) => ValueMatch::Pattern(pattern(FIELD, &text)?),
    };
    Ok(QueryMatch {
        name: message.name.into(),
        value,
    })
}

fn pattern(field: &'static str, text: &str) -> Result<Pattern, InvalidMessage> {
    Pattern::new(text).map_err(|error| InvalidMessage::new(field, error))
}

fn changes(
    set: Option<http_types::Headers>,
    add: Option<http_types::Headers>,
    remove: Vec<String>,
) -> Result<HeaderChanges, InvalidMessage> {
    const FIELD: &str = "header modifier";
    let pairs = |headers: Option<http_types::Headers>| {
        let headers = at_most(FIELD, headers.unwrap_or_default().headers, MOST_CONDITIONS)?;
        let pairs = headers.into_iter().map(|header| {
            let value = HeaderValue::from_bytes(&header.value);
            let value = value.map_err(|error| InvalidMessage::new(FIELD, error))?;
            Ok((parse(FIELD, &header.name)?, value))
        });
        pairs.collect::<Result<Vec<_>, InvalidMessage>>()
    };
    let remove = at_most(FIELD, remove, MOST_CONDITIONS)?;
    let remove = remove.iter().map(|name| parse(FIELD, name));
    HeaderChanges::new(pairs(set)?, pairs(add)?, remove.collect::<Result<_, _>>()?)
        .map_err(|error| InvalidMessage::new(FIELD, error))
}

fn headers_to_proto(pairs: &[(HeaderName, HeaderValue)]) -> Option<http_types::Headers> {
    let headers = pairs
        .iter()
        .map(|(name, value)| http_types::headers::Header {
            name: name.to_string(),
            value: value.as_bytes().to_vec(),
        });
    let headers: Vec<_> = headers.collect();
    (!headers.is_empty()).then_some(http_types::Headers { headers })
}

fn names_to_proto(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn forward_from_proto(
    message: v1::HttpForward,
    backends: usize,
) -> Result<Forward, InvalidMessage> {
    let distribution = message.distribution();
    let timeout = message.timeout_milliseconds;
    Ok(Forward {
        rewrite: Rewrite {
            authority: match message.host.as_str() {
                "" => None,
                host => Some(parse("forward.host", host)?),
            },
            path: message.path.map(path_change).transpose()?,
        },
        timeout: (timeout != 0).then(|| Duration::from_millis(timeout)),
        shares: shares_from_proto(distribution, message.backends, backends)?,
    })
}

fn shares_from_proto(
    distribution: v1::Distribution,
    members: Vec<v1::RouteBackend>,
    backends: usize,
) -> Result<Shares, InvalidMessage> {
    let members = at_most("backends", members, MOST_BACKENDS)?;
    Ok(Shares {
        distribution: distribution_from_proto(distribution),
        backends: members
            .into_iter()
            .map(|member| rule_backend(member, backends))
            .collect::<Result<_, _>>()?,
    })
}

fn rule_backend(message: v1::RouteBackend, backends: usize) -> Result<RuleBackend, InvalidMessage> {
    let position = message.position.map(|position| {
        usize::try_from(position)
            .ok()
            .filter(|position| *position < backends)
            .ok_or_else(|| InvalidMessage::new("backend.position", "there is no such backend"))
    });
    Ok(RuleBackend {
        backend: position.transpose()?,
        weight: message.weight,
    })
}

fn forward_to_proto(forward: &Forward) -> v1::HttpForward {
    let host = forward.rewrite.authority.as_ref();
    let timeout = forward.timeout.map_or(0, |timeout| timeout.as_millis());
    v1::HttpForward {
        host: host.map_or_else(String::new, ToString::to_string),
        path: forward.rewrite.path.as_ref().map(path_change_to_proto),
        timeout_milliseconds: u64::try_from(timeout).unwrap_or(u64::MAX),
        distribution: distribution_to_proto(forward.shares.distribution).into(),
        backends: backends_to_proto(&forward.shares),
    }
}

fn backends_to_proto(shares: &Shares) -> Vec<v1::RouteBackend> {
    let backend = |member: &RuleBackend| v1::RouteBackend {
        position: member.backend.and_then(|at| u32::try_from(at).ok()),
        weight: member.weight,
    };
    shares.backends.iter().map(backend).collect()
}

fn path_change(message: stock::PathModifier) -> Result<PathChange, InvalidMessage> {
    use stock::path_modifier::Replace;
    match message
        .replace
        .ok_or_else(|| InvalidMessage::missing("path.replace"))?
    {
        Replace::Full(path) => Ok(PathChange::Full(path.into())),
        Replace::Prefix(prefix) => Ok(PathChange::Prefix(prefix.into())),
    }
}

fn path_change_to_proto(change: &PathChange) -> stock::PathModifier {
    use stock::path_modifier::Replace;
    stock::PathModifier {
        replace: Some(match change {
            PathChange::Full(path) => Replace::Full(path.to_string()),
            PathChange::Prefix(prefix) => Replace::Prefix(prefix.to_string()),
        }),
    }
}

fn redirect_from_proto(message: stock::RequestRedirect) -> Result<Redirect, InvalidMessage> {
    let status = u16::try_from(message.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(StatusCode::is_redirection)
        .ok_or_else(|| InvalidMessage::new("redirect.status", "is no redirection"))?;
    Ok(Redirect {
        scheme: message.scheme.map(scheme).transpose()?,
        host: (!message.host.is_empty()).then(|| message.host.into()),
        path: message.path.map(path_change).transpose()?,
        port: match message.port {
            0 => None,
            port => Some(port_from_proto("redirect.port", port)?),
        },
        status,
    })
}

fn redirect_to_proto(redirect: &Redirect) -> stock::RequestRedirect {
    stock::RequestRedirect {
        scheme: redirect.scheme.as_ref().map(Into::into),
        host: redirect.host.as_deref().unwrap_or_default().to_owned(),
        path: redirect.path.as_ref().map(path_change_to_proto),
        port: redirect.port.unwrap_or_default().into(),
        status: redirect.status.as_u16().into(),
    }
}

fn scheme(message: http_types::Scheme) -> Result<Scheme, InvalidMessage> {
    message
        .try_into()
        .map_err(|error: http_types::InvalidScheme| InvalidMessage::new("redirect.scheme", error))
}

#[cfg(test)]
mod tests {
    use mesh_core::destination::Distribution;

    use super::*;

    fn changes() -> HeaderChanges {
        let pair = || {
            let name = HeaderName::from_static("x-a");
            vec![(name, HeaderValue::from_static("1"))]
        };
        HeaderChanges::new(pair(), pair(), vec![HeaderName::from_static("x-b")]).unwrap()
    }

    fn matches() -> Vec<RequestMatch> {
        let regex = || ValueMatch::Pattern(Pattern::new("[a-z]+").unwrap());
        let paths = [
            PathMatch::Exact("/a".into()),
            PathMatch::Prefix("/a".into()),
            PathMatch::Pattern(Pattern::new("/[ab]").unwrap()),
        ];
        let one = |path| RequestMatch {
            path,
            method: Some(Method::GET),
            headers: vec![HeaderMatch {
                name: HeaderName::from_static("x-a"),
                value: regex(),
            }],
            query: [regex(), ValueMatch::Exact("1".into())]
                .map(|value| QueryMatch {
                    name: "q".into(),
                    value,
                })
                .to_vec(),
        };
        paths.map(one).to_vec()
    }

    fn actions() -> Vec<Action> {
        let path = Some(PathChange::Prefix("/b".into()));
        vec![
            Action::Forward(Forward {
                rewrite: Rewrite {
                    authority: Some("other:80".parse().unwrap()),
                    path: path.clone(),
                },
                timeout: Some(Duration::from_millis(1500)),
                shares: Shares {
                    distribution: Distribution::RandomAvailable,
                    backends: [Some(1), None]
                        .map(|backend| RuleBackend { backend, weight: 7 })
                        .to_vec(),
                },
            }),
            Action::Redirect(Redirect {
                scheme: Some(Scheme::HTTPS),
                host: Some("web".into()),
                path,
                port: Some(443),
                status: StatusCode::FOUND,
            }),
            Action::Fail,
        ]
    }

    fn routes() -> HttpRoutes {
        let rules = actions().into_iter().map(|action| Rule {
            matches: matches(),
            request_headers: changes(),
            response_headers: HeaderChanges::default(),
            action,
        });
        HttpRoutes::new(vec![HttpRoute {
            namespace: "shop".into(),
            name: "web".into(),
            rules: rules.collect(),
        }])
    }

    #[test]
    fn routes_survive_their_messages() {
        assert_eq!(
            routes_from_proto(routes_to_proto(&routes()), 2),
            Ok(routes())
        );
    }

    #[test]
    fn impossible_routes_are_refused() {
        assert!(routes_from_proto(routes_to_proto(&routes()), 1).is_err());
        let refused = |change: fn(&mut v1::HttpRule)| {
            let mut messages = routes_to_proto(&routes());
            messages[0].rules.iter_mut().for_each(change);
            routes_from_proto(messages, 2).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|rule| rule.action = None));
        assert!(refused(|rule| {
            let headers = rule.request_headers.as_mut().unwrap();
            headers.remove = vec!["mesh-port".to_owned()];
        }));
        assert!(refused(|rule| {
            rule.matches[0].headers[0].value =
                Some(stock::header_match::Value::Regex("(".to_owned()));
        }));
        assert!(refused(
            |rule| rule.matches = vec![rule.matches[0].clone(); 1000]
        ));
    }

    #[test]
    fn routes_with_more_expressions_than_a_service_may_have_are_refused() {
        // Each match has one in a header and one in the query; the third has
        // one as its path.
        let read = |pairs: usize, paths: usize| {
            let mut messages = routes_to_proto(&routes());
            messages[0].rules.truncate(2);
            let pair = match_to_proto(&matches()[0]);
            let mut path = match_to_proto(&matches()[2]);
            path.headers.clear();
            path.query_params.clear();
            messages[0].rules[0].matches = vec![pair; pairs];
            messages[0].rules[1].matches = vec![path; paths];
            routes_from_proto(messages, 2).map(drop)
        };
        assert_eq!(read(120, 16), Ok(()));
        assert!(read(120, 17).is_err());
    }
}
