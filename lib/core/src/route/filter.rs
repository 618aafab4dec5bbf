//! What a rule does to messages.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::matching::{PathMatch, RequestMatch, after_prefix};

/// Headers that are set, added and removed, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// No rule may change this header: it frames messages, or is for our own
/// programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} cannot be changed by a route")]
pub struct UnchangeableHeader(HeaderName);

/// What happens to a request's target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The new authority.
    pub authority: Option<Authority>,
    /// The new path.
    pub path: Option<PathChange>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// In place of the whole.
    Full(Arc<str>),
    /// In place of the prefix that matched.
    Prefix(Arc<str>),
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme, if not the request's.
    pub scheme: Option<Scheme>,
    /// The host, if not the request's.
    pub host: Option<Arc<str>>,
    /// The path, if not the request's.
    pub path: Option<PathChange>,
    /// The port, if not that of the scheme, or of the request.
    pub port: Option<u16>,
    /// The answer's status, 3xx.
    pub status: StatusCode,
}

impl HeaderChanges {
    /// Changes of headers that a route may change.
    ///
    /// # Errors
    /// Names the header that it may not.
    pub fn new(
        set: Vec<(HeaderName, HeaderValue)>,
        add: Vec<(HeaderName, HeaderValue)>,
        remove: Vec<HeaderName>,
    ) -> Result<Self, UnchangeableHeader> {
        let names = set.iter().chain(&add).map(|(name, _)| name);
        match names.chain(&remove).find(|name| !is_changeable(name)) {
            Some(name) => Err(UnchangeableHeader(name.clone())),
            None => Ok(Self { set, add, remove }),
        }
    }

    /// Headers that get this one value.
    #[must_use]
    pub fn set(&self) -> &[(HeaderName, HeaderValue)] {
        &self.set
    }

    /// Values beside those that are there.
    #[must_use]
    pub fn add(&self) -> &[(HeaderName, HeaderValue)] {
        &self.add
    }

    /// Headers that go.
    #[must_use]
    pub fn remove(&self) -> &[HeaderName] {
        &self.remove
    }

    /// Changes `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn is_changeable(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 9] = [
        CONNECTION,
        CONTENT_LENGTH,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    // The names of `mesh/1` and of the identity that an application is told.
    let ours = name.as_str().starts_with("mesh-") || name == "l5d-client-id";
    !ours && !FRAMING.contains(name)
}

impl PathChange {
    /// What `path` becomes, because it is `matched`.
    #[must_use]
    pub fn changed(&self, path: &str, matched: &RequestMatch) -> String {
        match (self, &matched.path) {
            (Self::Full(new), _) => new.to_string(),
            (Self::Prefix(new), PathMatch::Prefix(prefix)) => {
                let rest = after_prefix(path, prefix).unwrap_or(path);
                let new = new.strip_suffix('/').unwrap_or(new);
                let changed = format!("{new}{rest}");
                if changed.is_empty() {
                    "/".to_owned()
                } else {
                    changed
                }
            }
            (Self::Prefix(_), PathMatch::Exact(_) | PathMatch::Pattern(_)) => path.to_owned(),
        }
    }

    /// The same with the query; none if that is no target.
    #[must_use]
    pub fn target(&self, target: &PathAndQuery, matched: &RequestMatch) -> Option<PathAndQuery> {
        let mut changed = self.changed(target.path(), matched);
        if let Some(query) = target.query() {
            changed.push('?');
            changed.push_str(query);
        }
        changed.try_into().ok()
    }
}

impl Redirect {
    /// Where the client is sent from `http://authority/target`; none if that
    /// cannot be written as a header.
    #[must_use]
    pub fn location(
        &self,
        authority: &Authority,
        target: &PathAndQuery,
        matched: &RequestMatch,
    ) -> Option<HeaderValue> {
        let scheme = self.scheme.as_ref().unwrap_or(&Scheme::HTTP);
        let host = self.host.as_deref().unwrap_or_else(|| authority.host());
        let well_known = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = self.port.or_else(|| match self.scheme {
            Some(_) => None,
            None => authority.port_u16(),
        });
        let port = match port.filter(|port| *port != well_known) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let target = match &self.path {
            Some(change) => change.target(target, matched)?,
            None => target.clone(),
        };
        format!("{scheme}://{host}{port}{target}").try_into().ok()
    }
}
