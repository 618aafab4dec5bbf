//! Who stands between a load and its server, and does wrong by some requests.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, Version, request};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};

use super::send;
use crate::client::{Answer, Call, Protocol};
use crate::id::RequestId;

/// What the middle man does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request is not delivered.
    Drop,
    /// It is delivered, and its answer is lost.
    DropAnswer,
    /// It is delivered twice, and answered once.
    Twice,
    /// It gets the answer to another request.
    OtherId,
    /// Its answer ends in the middle, with the connection or stream.
    Cut,
}

/// The numbers of the requests that have the fault.
pub(super) const FAULTY: [u64; 2] = [3, 7];

/// The number of the request whose answer they get.
const OTHER: u64 = 4;

/// What he relays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speech {
    /// Any version, gRPC too.
    Http,
    /// Connections that send an id and this text.
    Tcp(&'static str),
}

struct MiddleMan {
    server: SocketAddr,
    speech: Speech,
    fault: Option<Fault>,
}

/// A middle man at work, until this is dropped.
pub(super) struct Relaying {
    pub(super) at: SocketAddr,
    _connections: JoinSet<()>,
}

pub(super) async fn relay(server: SocketAddr, speech: Speech, fault: Option<Fault>) -> Relaying {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("it is bound");
    let man = Arc::new(MiddleMan {
        server,
        speech,
        fault,
    });
    let mut connections = JoinSet::new();
    connections.spawn(man.accept(listener));
    Relaying {
        at,
        _connections: connections,
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl MiddleMan {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            connections.spawn(self.clone().connection(io));
        }
    }

    /// Errors are what he does on purpose; others show as failures of the load.
    async fn connection(self: Arc<Self>, io: TcpStream) {
        match self.speech {
            Speech::Http => {
                let service = service_fn(move |request| self.clone().http(request));
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(io), service).await;
            }
            Speech::Tcp(text) => drop(self.tcp(io, text).await),
        }
    }

    async fn http(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let id = RequestId::of_headers(&head.headers).ok_or_else(gone)?;
        let fault = self.fault_of(&id);
        let body = body.collect().await.map_err(io::Error::other)?;
        let call = self.call(&head, body.to_bytes())?;
        let mut answer = None;
        for _ in 0..deliveries(fault) {
            answer = Some(send(&call).await.map_err(io::Error::other)?);
        }
        let answer = answer.filter(|_| fault != Some(Fault::DropAnswer));
        Ok(response(fault, &id, answer.ok_or_else(gone)?))
    }

    /// The request as he sends it on.
    fn call(&self, head: &request::Parts, body: Bytes) -> io::Result<Call> {
        let url = format!("http://{}{}", self.server, head.uri.path());
        let headers = head.headers.iter();
        Ok(Call {
            url: url.parse().map_err(io::Error::other)?,
            protocol: match head.version {
                Version::HTTP_2 => Protocol::Http2,
                _ => Protocol::Http1,
            },
            method: head.method.clone(),
            headers: headers.map(|(n, v)| (n.clone(), v.clone())).collect(),
            body,
        })
    }

    async fn tcp(&self, mut client: TcpStream, text: &str) -> io::Result<()> {
        let mut said = Vec::new();
        let id = loop {
            if client.read_buf(&mut said).await? == 0 {
                return Err(gone());
            }
            let id = RequestId::of_tcp(&said).filter(|_| said.ends_with(text.as_bytes()));
            if let Some(id) = id {
                break id;
            }
        };
        let fault = self.fault_of(&id);
        let mut answer = None;
        for _ in 0..deliveries(fault) {
            answer = Some(self.ask(&said).await?);
        }
        let answer = answer.filter(|_| fault != Some(Fault::DropAnswer));
        let answer = answer.ok_or_else(gone)?;
        client.write_all(&tampered(fault, &id, &answer)).await
    }

    async fn ask(&self, said: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server).await?;
        server.write_all(said).await?;
        server.shutdown().await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    fn fault_of(&self, id: &RequestId) -> Option<Fault> {
        self.fault.filter(|_| FAULTY.contains(&id.number))
    }
}

fn response(fault: Option<Fault>, id: &RequestId, answer: Answer) -> Response<Body> {
    let data = Frame::data(tampered(fault, id, &answer.body).into());
    let end = match fault {
        Some(Fault::Cut) => Err(gone()),
        _ => Ok(Frame::trailers(answer.trailers)),
    };
    let end = async {
        // A reset overtakes what is not written; the connection's task, which
        // was woken before, writes it now.
        yield_now().await;
        end
    };
    let frames = stream::once(ready(Ok(data))).chain(stream::once(end));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// How often a request is delivered.
fn deliveries(fault: Option<Fault>) -> usize {
    match fault {
        Some(Fault::Drop) => 0,
        Some(Fault::DropAnswer | Fault::OtherId | Fault::Cut) | None => 1,
        Some(Fault::Twice) => 2,
    }
}

/// The bytes of an answer as the client gets them. The ids of the requests
/// have the same length, so that lengths in the answer stay true.
fn tampered(fault: Option<Fault>, id: &RequestId, answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    match fault {
        Some(Fault::OtherId) => {
            let (own, other) = (id.to_string(), format!("{}/{OTHER}", id.run));
            for at in 0..answer.len() {
                if answer[at..].starts_with(own.as_bytes()) {
                    answer[at..][..own.len()].copy_from_slice(other.as_bytes());
                }
            }
        }
        Some(Fault::Cut) => answer.truncate(answer.len() / 2),
        Some(Fault::Drop | Fault::DropAnswer | Fault::Twice) | None => {}
    }
    answer
}

/// Ends a connection, or an HTTP/2 stream.
fn gone() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
