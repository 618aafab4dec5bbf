//! The same bytes to this engine and to others: whatever is taken here is taken
//! there, and understood in the same way. This engine refuses more; where it
//! takes something that another refuses, the list says why.

mod http1;
mod http2;

use std::collections::BTreeMap;

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

const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "host",
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

/// What this engine understands of a client's bytes: the requests that are
/// whole.
pub(crate) fn ours(http2: bool, input: &[u8]) -> Vec<Understood> {
    ours_and_output(http2, input).0
}

/// The same, and what it answers.
pub(crate) fn ours_and_output(http2: bool, input: &[u8]) -> (Vec<Understood>, Vec<u8>) {
    let mut output = Vec::new();
    use mesh_http::{event::Event, head::Head};
    let mut side = super::side::Side::server(http2);
    let mut open: BTreeMap<_, Understood> = BTreeMap::new();
    let (mut whole, mut rest) = (Vec::new(), input);
    let now = side.now;
    let answer = Head::response(204).unwrap();
    loop {
        let event = side.core.poll_event(now, &mut rest, &mut side.head);
        let over = match event {
            None => break,
            Some(Event::Head { stream, end }) => {
                open.insert(stream, of_head(&side.head));
                end.then_some(stream)
            }
            Some(Event::Data { stream, bytes, end }) => {
                side.core.consume(now, stream, bytes.len());
                open.get_mut(&stream).unwrap().body.extend_from_slice(bytes);
                end.then_some(stream)
            }
            Some(Event::Trailers { stream }) => {
                open.get_mut(&stream).unwrap().trailers = of_head(&side.head).fields;
                Some(stream)
            }
            Some(_) => None,
        };
        if let Some(stream) = over {
            whole.push(open.remove(&stream).unwrap());
            side.core.send_head(now, stream, &answer, true).unwrap();
            output.extend(side.take_all());
        }
    }
    output.extend(side.take_all());
    (whole, output)
}

/// Whether we take a path that the `http` crate does not.
pub(crate) fn is_odd(path: &str) -> bool {
    path.contains('\u{fffd}') || path.parse::<http::uri::PathAndQuery>().is_err()
}

fn of_head(head: &mesh_http::head::Head) -> Understood {
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
