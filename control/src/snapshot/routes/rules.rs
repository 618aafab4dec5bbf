//! The rules of an HTTPRoute, from what people write to what sidecars do.

use std::{collections::BTreeMap, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    uri::{Authority, Scheme},
};
use kube::ResourceExt as _;
use mesh_api::route::{self as api, BackendRef, HTTPRoute, HttpRouteRule, ParentRef, RouteStatus};
use mesh_core::{
    destination::Protocol,
    route::{
        Action, Forward, HttpRoute, Rule,
        filter::{HeaderChanges, PathChange, Redirect, Rewrite},
        matching::{HeaderMatch, PathMatch, QueryMatch, RequestMatch, ValueMatch},
        pattern::{MOST_PATTERNS, Pattern},
    },
};

use super::{
    Converted, Effect, Name, Problem, Route, RouteKind, RouteObject, Snapshot, members::Members,
};

/// Rules of one route that count; there is a limit to what sidecars take.
const MOST_RULES: usize = 64;
/// Regular expressions of one route that count: each takes memory here and in
/// every sidecar that calls its Service.
const MOST_EXPRESSIONS: usize = 64;

impl RouteKind for HTTPRoute {
    type Meaning = HttpRoute;

    const MOST_SIZE: usize = MOST_PATTERNS;

    const UNFOLLOWED: (&'static str, &'static str) = (
        "opaque",
        "routes are for HTTP, and for ports where it is looked for",
    );

    fn of(snapshot: &Snapshot) -> &BTreeMap<Name, RouteObject<Self>> {
        &snapshot.route_objects
    }

    fn parent_refs(&self) -> &[ParentRef] {
        &self.spec.parent_refs
    }

    fn backend_refs(&self) -> impl Iterator<Item = &BackendRef> {
        self.spec.rules.iter().flat_map(|rule| &rule.backend_refs)
    }

    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }

    fn is_followed(protocol: Protocol) -> bool {
        protocol != Protocol::Opaque
    }

    fn convert(&self) -> Converted<HttpRoute> {
        let mut reading = Reading {
            members: Members::of(self),
            number: 0,
            patterns: 0,
            problems: Vec::new(),
        };
        let mut rules = Vec::new();
        for rule in &self.spec.rules {
            reading.number += 1;
            match reading.rule(rule) {
                Ok(rule) => rules.push(rule),
                Err(reason) => reading.problem(Effect::Dropped, reason),
            }
        }
        let is_usable = |rule: &Rule| !matches!(rule.action, Action::Fail);
        Converted {
            is_usable: rules.iter().any(is_usable),
            route: Route {
                route: HttpRoute {
                    namespace: self.namespace().unwrap_or_default().into(),
                    name: self.name_any().into(),
                    rules,
                },
                services: reading.members.services,
                size: reading.patterns,
            },
            problems: reading.problems,
        }
    }
}

/// A route that is being read.
struct Reading {
    members: Members,
    /// Which of its rules it is, from 1 on.
    number: usize,
    /// Regular expressions of the rules so far, usable or not.
    patterns: usize,
    problems: Vec<Problem>,
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
        if self.number > MOST_RULES {
            return Err(format!("a route may have {MOST_RULES} rules at most"));
        }
        // Before any is compiled.
        let patterns = self.patterns + expressions(rule);
        if patterns > MOST_EXPRESSIONS {
            return Err(format!(
                "the route has too many regular expressions: {MOST_EXPRESSIONS} are allowed"
            ));
        }
        self.patterns = patterns;
        let matches = rule.matches.iter().map(request_match);
        let matches: Vec<_> = matches.collect::<Result<_, _>>()?;
        let timeout = rule.timeouts.request.as_deref().map(duration);
        let timeout = timeout.transpose()?.filter(|timeout| !timeout.is_zero());
        let filters = match filters(rule, &matches) {
            Ok(filters) => filters,
            // A filter is never left out: its requests fail instead.
            Err(reason) => {
                self.problem(Effect::Failing, reason);
                return Ok(Rule {
                    matches,
                    request_headers: HeaderChanges::default(),
                    response_headers: HeaderChanges::default(),
                    action: Action::Fail,
                });
            }
        };
        self.ignored(rule);
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
        for member in rule.backend_refs.iter().filter(|m| !m.filters.is_empty()) {
            let reason = format!("filters of {} alone are not supported", member.name);
            self.problem(Effect::FailingShare, reason);
        }
        Forward {
            rewrite,
            timeout,
            shares: self.members.shares(&rule.backend_refs),
        }
    }

    fn ignored(&mut self, rule: &HttpRouteRule) {
        let fields = [
            (
                "timeouts.backendRequest",
                rule.timeouts.backend_request.is_some(),
            ),
            ("retry", rule.retry.is_some()),
            ("sessionPersistence", rule.session_persistence.is_some()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, is_there)| *is_there) {
            self.problem(Effect::None, format!("{field} is not supported"));
        }
    }

    fn problem(&mut self, effect: Effect, reason: String) {
        self.problems.push(Problem {
            rule: self.number,
            effect,
            reason,
        });
    }
}

/// How many regular expressions a rule has.
fn expressions(rule: &HttpRouteRule) -> usize {
    let conditions = rule.matches.iter().flat_map(|found| {
        let others = found.headers.iter().chain(&found.query_params);
        found.path.iter().chain(others)
    });
    let is_expression =
        |condition: &&api::Condition| condition.type_.as_deref() == Some("RegularExpression");
    conditions.filter(is_expression).count()
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
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
