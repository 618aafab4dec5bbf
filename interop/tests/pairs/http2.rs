//! HTTP/2 with prior knowledge, by the `h2` crate: a server and a client.

use std::{
    future::poll_fn,
    net,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, ext::Protocol, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::{
    net::TcpStream,
    task::{LocalSet, spawn_local},
};

use crate::{
    origin::{Origin, answer},
    place::Place,
    wire::{Head, Message},
};

/// A stream's window: more than a sidecar's, so that those are what counts.
const WINDOW: u32 = 1 << 20;
/// A connection's. One stream that is not read must not fill it.
const ALL_WINDOWS: u32 = 16 * WINDOW;

/// Requests whose client gave up before there was an answer, of all servers here.
static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);

/// The server of [`answer`], for HTTP/2.
pub(crate) fn origin(place: &Place, port: u16) -> Origin {
    Origin::start(place, port, serve)
}

async fn serve(socket: TcpStream) -> Result<()> {
    let port = socket.local_addr()?.port();
    let mut builder = server::Builder::new();
    builder.enable_connect_protocol();
    let mut connection = builder.handshake::<_, Bytes>(socket).await?;
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream?;
        if request.uri().path() == "/goaway" {
            connection.graceful_shutdown();
        }
        spawn_local(async move {
            // What goes wrong is the client's to notice.
            let _ = exchange(request, respond, port).await;
        });
    }
    Ok(())
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    port: u16,
) -> Result<()> {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/wait" => {
            poll_fn(|cx| respond.poll_reset(cx)).await?;
            GIVEN_UP.fetch_add(1, Ordering::Relaxed);
        }
        "/gone" => respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        "/reset" => {
            let mut sending = respond.send_response(Response::new(()), false)?;
            sending.send_data(Bytes::from_static(b"a beginning"), false)?;
            // The client has that before it ends its request.
            receive(body).await?;
            sending.send_reset(Reason::ENHANCE_YOUR_CALM);
        }
        "/refused" => {
            let refusal = Response::builder().status(403).body(())?;
            let mut sending = respond.send_response(refusal, false)?;
            sending.send_data(Bytes::from_static(b"no"), true)?;
        }
        _ if head.method == http::Method::CONNECT => {
            let sending = respond.send_response(Response::new(()), false)?;
            echo(body, sending).await?;
        }
        path => {
            let request = message(&head, body).await?;
            let is_head = head.method == http::Method::HEAD;
            respond_with(&mut respond, answer_to(&request, path, port), is_head)?;
        }
    }
    Ok(())
}

/// As all our servers answer; and how many have given up, and which server this is.
fn answer_to(request: &Message, path: &str, port: u16) -> Message {
    let mut answer = answer(request, if path == "/goaway" { "/many" } else { path });
    let number = match path {
        "/given-up" => GIVEN_UP.load(Ordering::Relaxed),
        "/port" => port.into(),
        _ => return answer,
    };
    answer.head.first = "HTTP/2 200".to_owned();
    answer.body = number.to_string().into_bytes();
    answer
}

/// A request as [`answer`] takes it.
async fn message(head: &http::request::Parts, body: RecvStream) -> Result<Message> {
    let (body, trailers) = receive(body).await?;
    Ok(Message {
        head: Head {
            first: format!("{} {} HTTP/2", head.method, head.uri),
            fields: fields(&head.headers),
        },
        body,
        trailers: fields(&trailers),
    })
}

fn respond_with(
    respond: &mut server::SendResponse<Bytes>,
    answer: Message,
    is_head: bool,
) -> Result<()> {
    let status = answer.head.status()?;
    let mut head = Response::builder().status(status).body(())?;
    *head.headers_mut() = headers(&answer.head.fields)?;
    if status != 204 && status != 304 && answer.trailers.is_empty() {
        head.headers_mut()
            .insert("content-length", answer.body.len().into());
    }
    let ends = is_head || matches!(status, 204 | 304);
    let mut sending = respond.send_response(head, ends)?;
    if !ends {
        send(&mut sending, answer.body, &answer.trailers)?;
    }
    Ok(())
}

/// Sends a body and its trailers; what does not fit into windows waits.
fn send(
    sending: &mut SendStream<Bytes>,
    body: Vec<u8>,
    trailers: &[(String, String)],
) -> Result<()> {
    sending.send_data(body.into(), trailers.is_empty())?;
    if !trailers.is_empty() {
        sending.send_trailers(headers(trailers)?)?;
    }
    Ok(())
}

async fn echo(mut body: RecvStream, mut sending: SendStream<Bytes>) -> Result<()> {
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        sending.send_data(piece, false)?;
    }
    Ok(sending.send_data(Bytes::new(), true)?)
}

/// A body and its trailers.
async fn receive(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap)> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend(piece);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

fn headers(fields: &[(String, String)]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse()?;
        let value = HeaderValue::from_bytes(&crate::wire::bytes_of(value))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// In order of each name.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|b| char::from(*b)).collect();
    let fields = headers.iter();
    fields.map(|(n, v)| (n.to_string(), text(v))).collect()
}

/// A connection of a client. To be used inside of [`on_local`].
#[derive(Clone)]
pub(crate) struct Client {
    requests: client::SendRequest<Bytes>,
}

impl Client {
    /// The connection's life is a task of its own.
    pub(crate) async fn new(socket: net::TcpStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(ALL_WINDOWS);
        let socket = TcpStream::from_std(socket)?;
        let (requests, connection) = builder.handshake(socket).await?;
        spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Self { requests })
    }

    /// Sends a request; returns the answer, whole.
    pub(crate) async fn ask(&self, request: Message) -> Result<Message> {
        let (answer, mut sending) = self.begin(&request, Ends::No).await?;
        send(&mut sending, request.body, &request.trailers)?;
        let (head, body) = answer.await?.into_parts();
        let (body, trailers) = receive(body).await?;
        Ok(Message {
            head: Head {
                first: format!("HTTP/2 {}", head.status.as_u16()),
                fields: fields(&head.headers),
            },
            body,
            trailers: fields(&trailers),
        })
    }

    /// A request without a body.
    pub(crate) async fn get(&self, path: &str) -> Result<Message> {
        self.ask(request("GET", path)).await
    }

    /// Sends a request's head.
    pub(crate) async fn begin(
        &self,
        message: &Message,
        ends: Ends,
    ) -> Result<(client::ResponseFuture, SendStream<Bytes>)> {
        let (method, path) = message.head.first.split_once(' ').context("two words")?;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://web{path}"));
        let mut request = request.body(())?;
        *request.headers_mut() = headers(&message.head.fields)?;
        self.begin_with(request, ends).await
    }

    /// Asks for a websocket (RFC 8441), and for what is sent to come back.
    pub(crate) async fn websocket(&self, path: &str, sent: &[u8]) -> Result<(u16, Vec<u8>)> {
        // The server's settings come first.
        self.get("/many").await?;
        ensure!(
            self.requests.is_extended_connect_protocol_enabled(),
            "extended CONNECT is not offered"
        );
        let request = Request::builder().method("CONNECT");
        let mut request = request.uri(format!("http://web{path}")).body(())?;
        let protocol = Protocol::from_static("websocket");
        request.extensions_mut().insert(protocol);
        self.tunnel(request, sent).await
    }

    /// Asks for a tunnel to somewhere, and for what is sent to come back.
    pub(crate) async fn connect(&self, authority: &str, sent: &[u8]) -> Result<(u16, Vec<u8>)> {
        let request = Request::builder().method("CONNECT").uri(authority);
        self.tunnel(request.body(())?, sent).await
    }

    /// The status, and all that comes back.
    async fn tunnel(&self, request: Request<()>, sent: &[u8]) -> Result<(u16, Vec<u8>)> {
        let (answer, mut sending) = self.begin_with(request, Ends::No).await?;
        let answer = answer.await?;
        let status = answer.status().as_u16();
        if status == 200 {
            sending.send_data(Bytes::copy_from_slice(sent), true)?;
        }
        Ok((status, receive(answer.into_body()).await?.0))
    }

    async fn begin_with(
        &self,
        request: Request<()>,
        ends: Ends,
    ) -> Result<(client::ResponseFuture, SendStream<Bytes>)> {
        let mut requests = self.requests.clone().ready().await?;
        Ok(requests.send_request(request, ends == Ends::Yes)?)
    }
}

/// Whether a request ends with its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Yes,
    No,
}

/// A request without fields and body.
pub(crate) fn request(method: &str, path: &str) -> Message {
    Message {
        head: Head {
            first: format!("{method} {path}"),
            fields: Vec::new(),
        },
        ..Message::default()
    }
}

/// Lets a client have tasks of its own.
pub(crate) fn on_local<T>(act: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    crate::wire::block_on(async {
        let local = LocalSet::new();
        local.run_until(act()).await
    })
}
