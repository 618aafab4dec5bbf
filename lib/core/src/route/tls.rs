//! TLS routes: connections that are passed on as they are, by the server name
//! that their ClientHello asks for (RFC 6066 §3).

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use super::Shares;

/// Host names of all TLS routes of one Service, at most: each takes memory in
/// every sidecar that calls it.
pub const MOST_HOSTNAMES: usize = 4096;

/// The longest host name (RFC 1035 §2.3.4), without the dot at its end.
const LONGEST: usize = 253;

/// The TLS routes of one Service, in order of precedence among equal host names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsRoutes {
    routes: Vec<TlsRoute>,
    /// Positions of routes by what they are for.
    exact: HashMap<Arc<str>, usize>,
    /// The same by what stands behind `*.`.
    wildcards: HashMap<Arc<str>, usize>,
}

/// One TLSRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoute {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The server names that it is for.
    pub hostnames: Vec<Hostname>,
    /// Where their connections go.
    pub shares: Shares,
}

/// A server name, or all that end in one (`*.example.com`, which is not
/// `example.com` itself); in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname {
    is_wildcard: bool,
    name: Arc<str>,
}

/// Not a host name as the Gateway API wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no host name")]
pub struct InvalidHostname;

impl TlsRoutes {
    /// Routes of which the earlier wins where their host names are equal (the
    /// older one, then by name).
    #[must_use]
    pub fn new(routes: Vec<TlsRoute>) -> Self {
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        for (at, route) in routes.iter().enumerate() {
            for Hostname { is_wildcard, name } in &route.hostnames {
                let known = if *is_wildcard {
                    &mut wildcards
                } else {
                    &mut exact
                };
                known.entry(name.clone()).or_insert(at);
            }
        }
        Self {
            routes,
            exact,
            wildcards,
        }
    }

    /// Whether the Service has no route at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes, in order.
    #[must_use]
    pub fn routes(&self) -> &[TlsRoute] {
        &self.routes
    }

    /// The route of connections to `server_name`, which is in lower case: the one
    /// that names it, else the one with the longest end of it. None if no route
    /// is for it; a connection that names no server is in none.
    #[must_use]
    pub fn pick(&self, server_name: Option<&str>) -> Option<&TlsRoute> {
        let name = server_name?;
        let ends = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let mut by_end = ends.filter_map(|end| self.wildcards.get(end));
        let at = self.exact.get(name).or_else(|| by_end.next())?;
        self.routes.get(*at)
    }
}

impl FromStr for Hostname {
    type Err = InvalidHostname;

    /// Labels of lower-case letters, digits and inner `-`, with a first one of
    /// `*` for any number of others.
    fn from_str(text: &str) -> Result<Self, InvalidHostname> {
        let suffix = text.strip_prefix("*.");
        let name = suffix.unwrap_or(text);
        if text.len() <= LONGEST && name.split('.').all(is_label) {
            Ok(Self {
                is_wildcard: suffix.is_some(),
                name: name.into(),
            })
        } else {
            Err(InvalidHostname)
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = if self.is_wildcard { "*." } else { "" };
        write!(f, "{wildcard}{}", self.name)
    }
}

/// RFC 1123 §2.1.
fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !label.is_empty()
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Distribution;

    fn routes(hostnames: &[&[&str]]) -> TlsRoutes {
        let routes = hostnames.iter().enumerate().map(|(at, names)| TlsRoute {
            namespace: "shop".into(),
            name: at.to_string().into(),
            hostnames: names.iter().map(|name| name.parse().unwrap()).collect(),
            shares: Shares {
                distribution: Distribution::RandomAvailable,
                backends: Vec::new(),
            },
        });
        TlsRoutes::new(routes.collect())
    }

    #[test]
    fn the_name_itself_wins_then_the_longest_end_then_the_older_route() {
        let routes = routes(&[
            &["*.example.com", "a.example.com"],
            &["*.b.example.com", "example.com"],
            &["a.example.com", "*.example.com", "other.org"],
            &["a.b.example.com"],
        ]);
        let picked = |name| routes.pick(name).map(|route| &*route.name);
        for (name, expected) in [
            ("a.example.com", Some("0")),
            ("z.example.com", Some("0")),
            ("z.y.example.com", Some("0")),
            ("example.com", Some("1")),
            ("z.b.example.com", Some("1")),
            ("z.y.b.example.com", Some("1")),
            ("b.example.com", Some("0")),
            ("a.b.example.com", Some("3")),
            ("other.org", Some("2")),
            ("x.other.org", None),
            ("xexample.com", None),
            (".example.com", Some("0")),
            ("example.com.", None),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(picked(Some(name)), expected, "{name}");
        }
        assert_eq!(picked(None), None);
        assert!(TlsRoutes::default().pick(Some("example.com")).is_none());
    }

    #[test]
    fn names_are_host_names() {
        for name in ["a", "a-b.c9", "*.example.com", "xn--mnchen-3ya.de"] {
            assert_eq!(name.parse::<Hostname>().unwrap().to_string(), name);
        }
        let long = format!("{}.com", "a.".repeat(125));
        for name in [
            "", "*", "*.", "a.*", "a*.b", "*.*.a", "A", "a..b", ".a", "a.", "-a", "a-", "a_b",
            "a b", "é.com", &long,
        ] {
            assert_eq!(name.parse::<Hostname>(), Err(InvalidHostname), "{name}");
        }
    }
}
