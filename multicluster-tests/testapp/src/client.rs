//! An HTTP client connection: HTTP/1 or HTTP/2 with prior knowledge, no
//! redirects, no retries.

use std::str::FromStr;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::args::{MessageArgs, RequestArgs};
use crate::dial::Dialer;
use crate::failure::Failure;
use crate::id::{self, RequestId};

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// The version that is spoken from the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Where a request goes: `http://host[:port][/path][?query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    authority: Authority,
    path: PathAndQuery,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err("want http://host[:port][/path]".into());
        }
        let parts = uri.into_parts();
        Ok(Self {
            authority: parts.authority.ok_or("no host")?,
            path: parts
                .path_and_query
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }
}

impl Url {
    /// `http://host:port/path`, for calls that are given a bare `host:port`.
    pub(crate) fn at(address: &str, path: &'static str) -> Result<Self, String> {
        let authority = address.parse().map_err(|error| format!("{error}"))?;
        Ok(Self {
            authority,
            path: PathAndQuery::from_static(path),
        })
    }

    fn host(&self) -> &str {
        self.authority.host()
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }
}

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) url: Url,
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl From<&RequestArgs> for Call {
    fn from(args: &RequestArgs) -> Self {
        Self::new(args.url.clone(), args.message.protocol(), &args.message)
    }
}

type Body = Full<Bytes>;

impl Call {
    pub(crate) fn new(url: Url, protocol: Protocol, args: &MessageArgs) -> Self {
        let default_method = if args.data.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        Self {
            url,
            protocol,
            method: args.method.clone().unwrap_or(default_method),
            headers: args.headers.clone(),
            body: args.data.clone().unwrap_or_default().into(),
        }
    }

    /// The same call as a load's request `id`.
    pub(crate) fn with_id(&self, id: &RequestId) -> Self {
        let value = HeaderValue::try_from(id.to_string()).expect("ids are plain text");
        let mut call = self.clone();
        call.headers
            .push((HeaderName::from_static(id::HEADER), value));
        call
    }

    /// The request as the protocol wants it: HTTP/1 has the authority in
    /// `host`, HTTP/2 in the URI. A `host` header of the caller takes its
    /// place in both.
    fn request(&self) -> Request<Body> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let mut authority = self.url.authority.clone();
        for (name, value) in &self.headers {
            match Authority::try_from(value.as_bytes()) {
                Ok(replaced) if name == HOST => authority = replaced,
                _ => drop(request.headers_mut().append(name, value.clone())),
            }
        }
        match self.protocol {
            Protocol::Http1 => {
                if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                    request.headers_mut().insert(HOST, host);
                }
                *request.uri_mut() = self.url.path.clone().into();
            }
            Protocol::Http2 => {
                let mut parts = http::uri::Parts::default();
                parts.scheme = Some(Scheme::HTTP);
                parts.authority = Some(authority);
                parts.path_and_query = Some(self.url.path.clone());
                *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            }
        }
        request
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: http::Version,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An open connection. The task that drives it ends with the last `Connection`
/// that shares it.
#[derive(Debug)]
pub(crate) enum Connection {
    Http1(http1::SendRequest<Body>),
    /// May be cloned: requests share it.
    Http2(http2::SendRequest<Body>),
}

/// Why a request that was handed to a connection has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// Nothing of it was sent: the connection had ended before.
    NotSent,
    Failed(Failure),
}

impl Connection {
    /// Opens a connection for `call` before `deadline`.
    pub(crate) async fn open(
        dialer: &Dialer,
        call: &Call,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let io = dialer
            .connect(call.url.host(), call.url.port(), deadline)
            .await?;
        timeout_at(deadline, Self::handshake(call.protocol, io))
            .await
            .map_err(|_| Failure::ConnectTimeout)?
            .map_err(|error| Failure::of_http(&error))
    }

    async fn handshake(protocol: Protocol, io: TcpStream) -> hyper::Result<Self> {
        let io = TokioIo::new(io);
        match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await?;
                tokio::spawn(driver);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await?;
                tokio::spawn(driver);
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Sends `call` and reads the whole answer before `deadline`. Without an
    /// answer an HTTP/1 connection is not usable any more.
    pub(crate) async fn send(
        &mut self,
        call: &Call,
        deadline: Instant,
    ) -> Result<Answer, SendError> {
        timeout_at(deadline, self.exchange(call.request()))
            .await
            .unwrap_or(Err(SendError::Failed(Failure::Timeout)))
    }

    /// Whether another request may be tried on it.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Another handle on a connection that requests can share.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Answer, SendError> {
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(|_| SendError::NotSent)?;
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await.map_err(|_| SendError::NotSent)?;
                sender.try_send_request(request).await
            }
        };
        read(response.map_err(send_error)?)
            .await
            .map_err(SendError::Failed)
    }
}

/// Sends `call` on the connection in `slot`; opens one when there is none or
/// it has ended unused. What can be used again is left in `slot`.
pub(crate) async fn exchange(
    slot: &mut Option<Connection>,
    dialer: &Dialer,
    call: &Call,
    deadline: Instant,
) -> Result<Answer, Failure> {
    if let Some(connection) = slot.take().filter(Connection::is_open) {
        match send_and_keep(slot, connection, call, deadline).await {
            Err(SendError::NotSent) => {}
            Err(SendError::Failed(failure)) => return Err(failure),
            Ok(answer) => return Ok(answer),
        }
    }
    let connection = Connection::open(dialer, call, deadline).await?;
    send_and_keep(slot, connection, call, deadline)
        .await
        .map_err(|error| match error {
            SendError::NotSent => Failure::Closed,
            SendError::Failed(failure) => failure,
        })
}

async fn send_and_keep(
    slot: &mut Option<Connection>,
    mut connection: Connection,
    call: &Call,
    deadline: Instant,
) -> Result<Answer, SendError> {
    let outcome = connection.send(call, deadline).await;
    let shared = matches!(connection, Connection::Http2(_));
    if outcome.is_ok() || shared {
        *slot = Some(connection);
    }
    outcome
}

fn send_error(mut error: TrySendError<Request<Body>>) -> SendError {
    if error.take_message().is_some() {
        SendError::NotSent
    } else {
        SendError::Failed(Failure::of_http(error.error()))
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| Failure::of_body(&*error))?;
    Ok(Answer {
        version: head.version,
        status: head.status,
        headers: head.headers,
        trailers: body.trailers().cloned().unwrap_or_default(),
        body: body.to_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(protocol: Protocol, headers: &[(&'static str, &'static str)]) -> Call {
        Call {
            url: "http://web.shop:81/a?b=c".parse().unwrap(),
            protocol,
            method: Method::GET,
            headers: headers
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn urls_have_a_scheme_a_host_and_defaults() {
        let url: Url = "http://web-east".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path.as_str()),
            ("web-east", 80, "/")
        );
        let url: Url = "http://[fd00::1]:81/a?b".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path.as_str()),
            ("[fd00::1]", 81, "/a?b")
        );
        for bad in ["web", "https://web", "http://", "/a"] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_authority_stands_where_the_protocol_has_it() {
        let http1 = call(Protocol::Http1, &[]).request();
        assert_eq!(http1.uri(), "/a?b=c");
        assert_eq!(http1.headers()[HOST], "web.shop:81");
        let http2 = call(Protocol::Http2, &[]).request();
        assert_eq!(http2.uri(), "http://web.shop:81/a?b=c");
        assert!(http2.headers().is_empty());
    }

    #[test]
    fn a_host_header_replaces_the_authority() {
        let headers = [("host", "other"), ("x-a", "1"), ("x-a", "2")];
        let http1 = call(Protocol::Http1, &headers).request();
        assert_eq!(http1.headers()[HOST], "other");
        assert_eq!(http1.headers().get_all("x-a").iter().count(), 2);
        let http2 = call(Protocol::Http2, &headers).request();
        assert_eq!(http2.uri().authority().unwrap(), "other");
    }
}
