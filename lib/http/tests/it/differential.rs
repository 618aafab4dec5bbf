//! The same bytes to this engine and to others: hyper, the `h2` crate, HAProxy
//! and nghttpx. Whatever is taken here is taken there and understood in the same
//! way, or the list in `differences.txt` says why not.

mod answers;
mod cases1;
mod cases2;
mod frames;
mod h2;
mod hyper;
mod list;
mod proxies;
mod random;
mod raw;
mod wire;

use std::{collections::BTreeMap, fmt::Write as _};

use mesh_http::{
    event::{Event, StreamId},
    head::Head,
};

use super::side::Side;

/// The stream of the request that is sent after a case, to see whether the
/// connection is still of use.
const CANARY: u32 = 1001;

/// A request as somebody understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Understood {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    /// By name, values in their order, without those of the connection.
    pub(crate) fields: BTreeMap<String, Vec<Vec<u8>>>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: BTreeMap<String, Vec<Vec<u8>>>,
}

/// What became of an input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The requests that were whole.
    pub(crate) requests: Vec<Understood>,
    pub(crate) output: Vec<u8>,
    /// The server has ended the connection.
    pub(crate) refused: bool,
}

const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "host",
    // Of an upgrade, and made by a proxy by chance.
    "sec-websocket-key",
];

impl Understood {
    /// A request as the `http` crate has it.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let host = request.headers().get("host").map(|host| host.as_bytes());
        let host = String::from_utf8_lossy(host.unwrap_or_default()).into_owned();
        let uri = request.uri();
        Self {
            method: request.method().to_string(),
            authority: uri.authority().map_or(host, ToString::to_string),
            path: uri
                .path_and_query()
                .map_or(String::new(), ToString::to_string),
            fields: fields_of(request.headers()),
            ..Self::default()
        }
    }

    /// On one line, with what is long cut short.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{} {} {}{}",
            short(self.method.as_bytes()),
            short(self.authority.as_bytes()),
            short(self.path.as_bytes()),
            self.content()
        )
    }

    /// The same without the first line.
    pub(crate) fn content(&self) -> String {
        let mut line = String::new();
        show_fields(&self.fields, &mut line);
        if !self.body.is_empty() {
            let _ = write!(line, " \"{}\"", short(&self.body));
        }
        show_fields(&self.trailers, &mut line);
        line
    }
}

fn show_fields(fields: &BTreeMap<String, Vec<Vec<u8>>>, line: &mut String) {
    let all: Vec<String> = fields
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| format!("{}: {}", short(name.as_bytes()), short(value)))
        .collect();
    match all.len() {
        0 => {}
        1..=5 => {
            let _ = write!(line, " {{{}}}", all.join(", "));
        }
        many => {
            let _ = write!(line, " {{{} and {} more}}", all[0], many - 1);
        }
    }
}

fn short(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=60 => bytes.escape_ascii().to_string(),
        len => format!("{}...({len} bytes)", bytes[..10].escape_ascii()),
    }
}

impl Observed {
    /// The requests, and the first status that is not the one of a request that
    /// was taken.
    pub(crate) fn of_http1(&self) -> String {
        let mut said: Vec<String> = self.requests.iter().map(Understood::shown).collect();
        let statuses = wire::statuses(&self.output);
        said.extend(statuses.into_iter().find(|status| status != "204"));
        if said.is_empty() {
            return "nothing".to_owned();
        }
        said.join("; ")
    }

    /// The requests but the canary, what became of streams that were not
    /// answered, and whether the connection goes on.
    pub(crate) fn of_http2(&self) -> String {
        let mut outcome = wire::Outcome::of(&self.output);
        let mut said: Vec<String> = self.requests.iter().map(Understood::shown).collect();
        said.retain(|request| *request != frames::canary_is());
        said.sort();
        let alive = outcome.streams.remove(&CANARY).as_deref() == Some("204");
        let streams = outcome.streams.iter().filter(|(_, what)| *what != "204");
        said.extend(streams.map(|(id, what)| format!("{id} {what}")));
        said.extend(outcome.go_away.map(|code| format!("GOAWAY {code}")));
        if !alive && !said.last().is_some_and(|last| last.starts_with("GOAWAY")) {
            said.push(if self.refused { "closed" } else { "silent" }.to_owned());
        }
        if said.is_empty() {
            return "nothing".to_owned();
        }
        said.join("; ")
    }
}

pub(crate) fn fields_of(map: &http::HeaderMap) -> BTreeMap<String, Vec<Vec<u8>>> {
    let pairs = map
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    by_name(pairs)
}

pub(crate) fn by_name<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in pairs.filter(|(name, _)| !OF_THE_CONNECTION.contains(name)) {
        fields
            .entry(name.to_owned())
            .or_default()
            .push(value.to_vec());
    }
    fields
}

/// This engine, as a server whose application takes everything.
pub(crate) struct Ours {
    side: Side,
    open: BTreeMap<StreamId, Understood>,
    pub(crate) observed: Observed,
}

impl Ours {
    pub(crate) fn new(http2: bool) -> Self {
        Self {
            side: Side::server(http2),
            open: BTreeMap::new(),
            observed: Observed::default(),
        }
    }

    /// What it makes of all of `input`.
    pub(crate) fn of(http2: bool, input: &[u8]) -> Observed {
        let mut ours = Self::new(http2);
        ours.feed(input);
        ours.observed
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.side.rest);
        rest.extend_from_slice(bytes);
        let (mut input, now) = (&rest[..], self.side.now);
        loop {
            let side = &mut self.side;
            let Some(event) = side.core.poll_event(now, &mut input, &mut side.head) else {
                break;
            };
            if let Some(stream) = self.take(event) {
                let whole = self.open.remove(&stream).unwrap();
                self.observed.requests.push(whole);
                let answer = Head::response(204).unwrap();
                let side = &mut self.side;
                side.core.send_head(now, stream, &answer, true).unwrap();
                self.observed.output.extend(side.take_all());
            }
        }
        self.side.rest = input.to_vec();
        self.observed.output.extend(self.side.take_all());
    }

    /// Which stream's request is whole now.
    fn take(&mut self, event: Event<'_>) -> Option<StreamId> {
        let side = &mut self.side;
        match event {
            Event::Head { stream, end } => {
                self.open.insert(stream, of_head(&side.head));
                // A tunnel's bytes are no part of the request.
                (end || side.head.is_connect()).then_some(stream)
            }
            Event::Data { stream, bytes, end } => {
                side.core.consume(side.now, stream, bytes.len());
                let open = self.open.get_mut(&stream)?;
                open.body.extend_from_slice(bytes);
                end.then_some(stream)
            }
            Event::Trailers { stream } => {
                self.open.get_mut(&stream)?.trailers = of_head(&side.head).fields;
                Some(stream)
            }
            Event::Closed(_) => {
                self.observed.refused = true;
                None
            }
            _ => None,
        }
    }
}

/// Whether we take a path that the `http` crate does not.
pub(crate) fn is_odd(path: &str) -> bool {
    path.contains('\u{fffd}') || path.parse::<http::uri::PathAndQuery>().is_err()
}

fn of_head(head: &Head) -> Understood {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = head.fields();
    Understood {
        method: lossy(head.method()),
        authority: lossy(head.authority().unwrap_or_default()),
        path: lossy(head.path()),
        fields: by_name(pairs.map(|(name, value)| (std::str::from_utf8(name).unwrap(), value))),
        ..Understood::default()
    }
}
