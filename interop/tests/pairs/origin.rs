//! Our own servers: in a namespace, on a thread that ends with its owner.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use mesh_pair::namespace::{Namespace, Side};
use nix::sys::socket::{Backlog, listen};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
    task::{LocalSet, spawn_local},
};

use crate::{
    content::content,
    place::Place,
    wire::{Head, Message, Wire, bytes_of},
};

/// A server that runs until it is dropped.
pub(crate) struct Origin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Answers each connection to `port` on B's side with `serve`. That a
    /// connection ends badly is the client's to notice.
    pub(crate) fn start<Serving>(
        place: &Place,
        port: u16,
        serve: impl Fn(TcpStream) -> Serving + Send + 'static,
    ) -> Self
    where
        Serving: Future<Output = Result<()>> + 'static,
    {
        Self::start_at(place, (Side::B, port), serve)
    }

    /// The same, on either side.
    pub(crate) fn start_at<Serving>(
        place: &Place,
        (side, port): (Side, u16),
        serve: impl Fn(TcpStream) -> Serving + Send + 'static,
    ) -> Self
    where
        Serving: Future<Output = Result<()>> + 'static,
    {
        let namespace = place.pair.site().of(side);
        let listener = bind(namespace, port).unwrap();
        let (stop, stopped) = oneshot::channel();
        let handle = namespace.handle();
        let thread = std::thread::spawn(move || {
            handle.join().unwrap();
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    served = accept(listener, serve) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The HTTP/1 server of [`answer`].
    pub(crate) fn http1(place: &Place, port: u16) -> Self {
        Self::start(place, port, http1)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(namespace: &Namespace, port: u16) -> Result<std::net::TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let listener = namespace.enter(|| std::net::TcpListener::bind(address))?;
    let listener = listener.with_context(|| address.to_string())?;
    // Thousands may come at once, and one that has to come again is late.
    listen(&listener, Backlog::MAXALLOWABLE)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept<Serving>(
    listener: std::net::TcpListener,
    serve: impl Fn(TcpStream) -> Serving,
) -> io::Result<()>
where
    Serving: Future<Output = Result<()>> + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let serving = serve(socket);
        spawn_local(async move {
            let _ = serving.await;
        });
    }
}

/// What a path gets, in every version of HTTP.
pub(crate) fn answer(request: &Message, path: &str) -> Message {
    let path = path.trim_start_matches('/');
    let (what, argument) = path.split_once('/').unwrap_or((path, ""));
    let number = || argument.parse::<usize>().unwrap_or_default();
    match what {
        // What was sent.
        "echo" | "hinted" => with(200, &[], request.body.clone()),
        // So many bytes.
        "bytes" => with(200, &[("etag", "\"content\"")], content(number())),
        // The head that arrived, and trailers behind it.
        "head" => with(200, &[], bytes_of(&text(request))),
        // Trailers, as they arrived and of our own.
        "trailers" => Message {
            trailers: [request.trailers.clone(), vec![field("x-of-server", "yes")]].concat(),
            ..with(200, &[("trailer", "x-of-server")], request.body.clone())
        },
        // Names that are there more than once.
        "many" | "hints" => with(200, MANY, b"many".to_vec()),
        // Names that are not a server's to say, in head and trailers.
        "ours" => Message {
            trailers: OURS.iter().map(|(n, v)| field(n, v)).collect(),
            ..with(200, OURS, b"ours".to_vec())
        },
        "status" => with(u16::try_from(number()).unwrap_or(500), &[], Vec::new()),
        _ => with(404, &[], b"no such path".to_vec()),
    }
}

/// Fields that must not be merged, nor change places with those of their name.
pub(crate) const MANY: &[(&str, &str)] = &[
    ("set-cookie", "a=1; Path=/"),
    ("x-many", "first"),
    ("set-cookie", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
    ("x-other", "between"),
    ("x-many", "second, with a comma"),
    ("x-many", ""),
    ("set-cookie", "c=3"),
];

/// Fields that are for sidecars alone, and one that is not.
const OURS: &[(&str, &str)] = &[
    ("l5d-client-id", "somebody"),
    ("L5D-CLIENT-ID", "somebody else"),
    ("mesh-error", "connect-failed"),
    ("mesh-status", "404"),
    ("mesh-port", "1"),
    ("mesh-anything", "1"),
    ("l5d-dst-override", "10.211.0.10:8002"),
    ("l5d-remote-ip", "127.0.0.1"),
    ("x-kept", "1"),
];

/// A request as it is told to its client.
fn text(request: &Message) -> String {
    let trailers = request.trailers.iter();
    let trailers: String = trailers.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    request.head.text() + &trailers
}

fn with(status: u16, fields: &[(&str, &str)], body: Vec<u8>) -> Message {
    Message {
        head: Head {
            first: format!("HTTP/1.1 {status} Whatever"),
            fields: fields.iter().map(|(n, v)| field(n, v)).collect(),
        },
        body,
        trailers: Vec::new(),
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// One connection of HTTP/1.
async fn http1(socket: TcpStream) -> Result<()> {
    let port = socket.local_addr()?.port();
    let mut wire = Wire::new(socket);
    while let Some(head) = wire.head().await? {
        let mut words = head.first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or_default();
        if leaves_http(&mut wire, &head, method, path).await? {
            return Ok(());
        }
        if matches!(path, "/hints" | "/hinted") {
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
            wire.send(hints).await?;
        }
        if head.get("expect").is_some() {
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let request = wire.request_body(&head).await?;
        let said = match path {
            // Which server this is.
            "/port" => with(200, &[], port.to_string().into_bytes()),
            path => answer(&request, path),
        };
        write(&mut wire, method, said).await?;
        let is_last = head.get("connection").is_some_and(|value| value == "close");
        if is_last || head.first.ends_with("HTTP/1.0") {
            return Ok(wire.finish().await?);
        }
    }
    Ok(())
}

/// What ends with the connection, if the request is for such.
async fn leaves_http(wire: &mut Wire, head: &Head, method: &str, path: &str) -> Result<bool> {
    match (method, path) {
        (_, "/upgrade") => {
            let protocol = head.get("upgrade").unwrap_or("nothing");
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Upgrade: {protocol}\r\n{}\r\n",
                accept_key(head)
            );
            wire.send(switch).await?;
            wire.echo().await?;
        }
        ("CONNECT", "refused.example:443") => {
            let refusal = "HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            wire.send(refusal).await?;
            wire.finish().await?;
        }
        ("CONNECT", _) => {
            wire.send("HTTP/1.1 200 Connected\r\n\r\n").await?;
            wire.echo().await?;
        }
        // An HTTP/1.0 server, whose body ends with the connection.
        (_, "/close") => {
            wire.send("HTTP/1.0 200 OK\r\n\r\n").await?;
            wire.send(content(UNTIL_CLOSED)).await?;
        }
        // Without looking at the body.
        (_, "/refuse") => {
            let refusal = "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            wire.send(refusal).await?;
            wire.finish().await?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The length of what `/close` answers.
pub(crate) const UNTIL_CLOSED: usize = 1000;

/// The field that websocket clients wait for. The value is that of RFC 6455 §1.3,
/// whose key all ours send.
fn accept_key(head: &Head) -> &'static str {
    match head.get("sec-websocket-key") {
        Some("dGhlIHNhbXBsZSBub25jZQ==") => {
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        }
        _ => "",
    }
}

/// Writes an answer. Names are in mixed case, as servers write them.
async fn write(wire: &mut Wire, method: &str, mut answer: Message) -> Result<()> {
    let status = answer.head.status()?;
    for (name, _) in &mut answer.head.fields {
        *name = capitalized(name);
    }
    let has_body = method != "HEAD" && !matches!(status, 204 | 304);
    if !answer.trailers.is_empty() {
        let coding = field("Transfer-Encoding", "chunked");
        answer.head.fields.push(coding);
    } else if !matches!(status, 204 | 304) {
        let length = field("Content-Length", &answer.body.len().to_string());
        answer.head.fields.push(length);
    }
    wire.send(bytes_of(&answer.head.text())).await?;
    if has_body && answer.trailers.is_empty() {
        wire.send(&answer.body).await?;
    } else if has_body {
        write_chunks(wire, &answer).await?;
    }
    Ok(())
}

async fn write_chunks(wire: &mut Wire, answer: &Message) -> Result<()> {
    // A prime, so that chunks end where nothing else does.
    const CHUNK: usize = 4099;
    for chunk in answer.body.chunks(CHUNK) {
        wire.send(format!("{:x}\r\n", chunk.len())).await?;
        wire.send(chunk).await?;
        wire.send("\r\n").await?;
    }
    let trailers = answer.trailers.iter();
    let trailers: String = trailers.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    Ok(wire.send(format!("0\r\n{trailers}\r\n")).await?)
}

/// `set-cookie` as `Set-Cookie`.
fn capitalized(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}
