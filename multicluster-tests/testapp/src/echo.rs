//! What the server says about a request or connection it saw, as JSON.

use std::net::SocketAddr;

use http::{HeaderMap, Version};
use serde::Serialize;

/// Who answers; empty where the pod was not told.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Place {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) node: String,
}

/// The answer to an HTTP request.
#[derive(Debug, Serialize)]
pub(crate) struct Echo<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    /// The id of a request of a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// The authority of an HTTP/2 request, or of an absolute HTTP/1 target.
    pub(crate) authority: Option<&'a str>,
    /// The `host` header.
    pub(crate) host: Option<&'a str>,
    pub(crate) version: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) peer: SocketAddr,
    pub(crate) body_length: u64,
    /// The body, when it is short text.
    pub(crate) body: Option<&'a str>,
}

impl Echo<'_> {
    /// The JSON, padded with a last member `padding` to `size` bytes when that
    /// is more than it needs.
    pub(crate) fn render(&self, size: usize) -> Vec<u8> {
        padded(json(self), size)
    }
}

/// The line that a TCP port sends before it echoes.
#[derive(Debug, Serialize)]
pub(crate) struct TcpEcho<'a> {
    #[serde(flatten)]
    pub(crate) place: &'a Place,
    /// The id that a load's connection began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) peer: SocketAddr,
}

impl TcpEcho<'_> {
    /// The JSON and a line feed.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut line = json(self);
        line.push(b'\n');
        line
    }
}

/// Names and values in the order they came, names in lower case, bytes that
/// are not text replaced.
pub(crate) fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        })
        .collect()
}

/// `HTTP/1.1` and so on.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/3",
    }
}

/// The JSON of our own records.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers under string keys are always JSON")
}

fn padded(mut object: Vec<u8>, size: usize) -> Vec<u8> {
    const OPEN: &[u8] = br#","padding":""#;
    const CLOSE: &[u8] = br#""}"#;

    // The object's closing brace goes, `CLOSE` brings it back.
    let smallest = object.len() - 1 + OPEN.len() + CLOSE.len();
    if size >= smallest {
        object.pop();
        object.extend_from_slice(OPEN);
        object.resize(object.len() + size - smallest, b'.');
        object.extend_from_slice(CLOSE);
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn echo(place: &Place) -> Echo<'_> {
        Echo {
            place,
            id: None,
            method: "GET",
            path: "/a",
            query: "b=c",
            authority: None,
            host: Some("web"),
            version: version_name(Version::HTTP_11),
            headers: vec![("host".into(), "web".into())],
            trailers: vec![],
            peer: "10.0.0.1:99".parse().unwrap(),
            body_length: 0,
            body: None,
        }
    }

    #[test]
    fn the_answer_names_who_saw_what() {
        let place = Place {
            pod: "web-1".into(),
            cluster: "east".into(),
            ..Place::default()
        };
        let got: Value = serde_json::from_slice(&echo(&place).render(0)).unwrap();
        let want = json!({
            "pod": "web-1", "namespace": "", "cluster": "east", "node": "",
            "method": "GET", "path": "/a", "query": "b=c", "authority": null, "host": "web",
            "version": "HTTP/1.1", "headers": [["host", "web"]], "trailers": [],
            "peer": "10.0.0.1:99", "body_length": 0, "body": null,
        });
        assert_eq!(got, want);
    }

    #[test]
    fn padding_makes_the_size_exact() {
        let place = Place::default();
        let bare = echo(&place).render(0).len();
        for (size, want) in [
            (0, bare),
            (bare, bare),
            (bare + 13, bare + 13),
            (65536, 65536),
        ] {
            let body = echo(&place).render(size);
            assert_eq!(body.len(), want);
            assert!(serde_json::from_slice::<Value>(&body).unwrap().is_object());
        }
    }

    #[test]
    fn headers_keep_their_order_and_repeat() {
        let mut headers = HeaderMap::new();
        headers.append("b", "1".parse().unwrap());
        headers.append("a", "2".parse().unwrap());
        headers.append("b", "3".parse().unwrap());
        let got = header_list(&headers);
        let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        // The map keeps values of one name together.
        assert_eq!(got, [("b", "1"), ("b", "3"), ("a", "2")]);
    }
}
