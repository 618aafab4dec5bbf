//! Which requests a rule is for.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, Method};

use super::pattern::Pattern;

/// What is looked at of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, as it was sent.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestMatch {
    /// Its path.
    pub path: PathMatch,
    /// Its method; none means any.
    pub method: Option<Method>,
    /// Each must be there.
    pub headers: Vec<HeaderMatch>,
    /// Each must be there.
    pub query: Vec<QueryMatch>,
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// It is this.
    Exact(Arc<str>),
    /// It begins with these elements: `/a` is a prefix of `/a/b`, not of `/ab`.
    Prefix(Arc<str>),
    /// All of it is described by this.
    Pattern(Pattern),
}

/// A header, and the value that one of its lines has.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    /// The header's name.
    pub name: HeaderName,
    /// The wanted value.
    pub value: ValueMatch,
}

/// A parameter of the query, and the value that its first occurrence has,
/// both without percent-encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: Arc<str>,
    /// The wanted value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// It is this.
    Exact(Arc<str>),
    /// All of it is described by this.
    Pattern(Pattern),
}

/// How specific a match is; the greater wins.
pub(super) type Precedence = (u8, usize, bool, usize, usize);

impl RequestMatch {
    /// Whether `request` meets every condition.
    #[must_use]
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        let headers = |wanted: &HeaderMatch| {
            let mut lines = request.headers.get_all(&wanted.name).iter();
            lines.any(|line| wanted.value.matches(line.as_bytes()))
        };
        self.path.matches(request.path)
            && self.method.as_ref().is_none_or(|m| m == request.method)
            && self.headers.iter().all(headers)
            && self
                .query
                .iter()
                .all(|wanted| wanted.matches(request.query))
    }

    /// Exact paths, then expressions, then prefixes, longer ones first; then
    /// the method, the number of headers and the number of parameters.
    pub(super) fn precedence(&self) -> Precedence {
        let (kind, length) = match &self.path {
            PathMatch::Exact(path) => (2, path.len()),
            PathMatch::Pattern(pattern) => (1, pattern.as_str().len()),
            PathMatch::Prefix(prefix) => (0, trimmed(prefix).len()),
        };
        let method = self.method.is_some();
        (kind, length, method, self.headers.len(), self.query.len())
    }
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *path,
            Self::Prefix(prefix) => after_prefix(path, prefix).is_some(),
            Self::Pattern(pattern) => pattern.matches(path.as_bytes()),
        }
    }
}

/// What follows the elements of `prefix` in `path`: nothing, or from a slash on.
pub(super) fn after_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let prefix = trimmed(prefix);
    let rest = path.strip_prefix(prefix)?;
    // `*` is no path, and yet what everything matches is for it too.
    (prefix.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A slash at the end of a prefix means nothing.
fn trimmed(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

impl QueryMatch {
    fn matches(&self, query: Option<&str>) -> bool {
        let parameters = query.into_iter().flat_map(|query| query.split('&'));
        parameters
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .find(|(name, _)| *decoded(name) == *self.name.as_bytes())
            .is_some_and(|(_, value)| self.value.matches(&decoded(value)))
    }
}

impl ValueMatch {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted.as_bytes() == value,
            Self::Pattern(pattern) => pattern.matches(value),
        }
    }
}

/// Without percent-encoding, as forms are read; what is malformed stays.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        (rest, _) = match escaped {
            Some((high, low)) => (&after[2..], decoded.push(high << 4 | low)),
            None if *first == b'+' => (after, decoded.push(b' ')),
            None => (after, decoded.push(*first)),
        };
    }
    Cow::Owned(decoded)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
