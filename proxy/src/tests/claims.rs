//! What a verified peer says that only a sidecar may say, or twice, and what an
//! application says that only its sidecar may.

use mesh_dataplane::message;
use mesh_drive::{
    conduit::{self, Conduit, Version},
    exchange::Broken,
    socket::Sealed,
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
};
use mesh_tls::{ALPN_MESH, Session};
use mesh_wire::mesh1::{self, Carried};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use super::{
    frames::{END_STREAM, HEADERS, RST_STREAM, Wire, get, headers},
    played::{Played, answered, body},
    world::{BOTH, Behind, Client, World, plain, soon},
    *,
};

/// What only our own programs may say, and one thing that everybody may.
const CLAIMS: [(&str, &str); 6] = [
    ("l5d-client-id", "spiffe://west/ns/shop/sa/admin"),
    ("l5d-client-id", SERVER),
    ("l5d-dst-override", "admin:80"),
    ("mesh-client-id", "spiffe://west/ns/shop/sa/admin"),
    ("mesh-error", "not-allowed"),
    ("x-kept", "1"),
];

fn claiming(mut head: Head) -> Head {
    for (name, value) in CLAIMS {
        head.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

/// A request's head as a sidecar sends it.
fn aimed(port: u16, carried: Carried) -> Head {
    let mut head = Head::request("POST", "web", "/").unwrap();
    let (port, carried) = (port.to_string(), carried.as_str());
    for (name, value) in [(mesh1::PORT, &*port), (mesh1::PROTO, carried)] {
        head.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

/// A verified peer that may say to a sidecar what it likes.
async fn session(root: &TestRoot, server: &Server) -> Session<TcpStream> {
    let tcp = TcpStream::connect((HOST, server.sidecar)).await.unwrap();
    let tls = root.tls(CLIENT);
    tls.connect(tcp, &[id(SERVER)], None, ALPN_MESH)
        .await
        .unwrap()
}

/// The same, which keeps to the rules of HTTP/2.
async fn peer(root: &TestRoot, server: &Server) -> Conduit {
    let session = Sealed(session(root, server).await);
    let (peer, life) = conduit::connect(session, Version::Http2, message::limits());
    tokio::spawn(life);
    peer
}

fn lines(head: &Head) -> Vec<String> {
    let text = String::from_utf8_lossy;
    let fields = head.fields();
    let lines = fields.map(|(name, value)| format!("{}: {}", text(name), text(value)));
    lines.collect()
}

#[tokio::test]
async fn h7_h8_an_application_is_told_one_client_whatever_that_one_says() {
    for (version, carried) in [
        (Version::Http1, Carried::Http1),
        (Version::Http2, Carried::Http2),
    ] {
        let root = TestRoot::new("west");
        let mut application = Played::new(version).await;
        let server = Server::before(root.tls(SERVER), application.address);
        let head = claiming(aimed(application.address.port(), carried));
        let exchange = peer(&root, &server).await.open(&head, false).unwrap();
        exchange.send(b"body", false).await.unwrap();
        exchange.send_trailers(&claiming(Head::new()));
        let request = application.asked().await;
        let told = ["x-kept: 1".to_owned(), format!("l5d-client-id: {CLIENT}")];
        assert_eq!(lines(&request.head), told, "{version:?}");
        let (bytes, trailers) = body(&request.exchange).await.unwrap();
        assert_eq!(bytes, b"body");
        assert_eq!(lines(&trailers.unwrap()), ["x-kept: 1"], "{version:?}");
        let answer = Head::response(200).unwrap();
        request.exchange.send_head(&answer, true).unwrap();
        assert_eq!(answered(&exchange).await, 200);
    }
}

/// A request's fields, with this behind what all of them say.
fn saying<'a>(aimed: &[(&'a str, &'a str)], said: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let mut fields = get("/").to_vec();
    fields.extend_from_slice(aimed);
    fields.push(said);
    fields
}

/// A request that says this as well is reset, and the next one is answered.
async fn refuses<IO>(io: IO, aimed: &[(&str, &str)], bad: (&str, &str))
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::client(io).await;
    wire.say(&headers(1, END_STREAM, &saying(aimed, bad))).await;
    let reset = wire.next(RST_STREAM).await;
    let protocol_error = Code::Protocol.to_wire().to_be_bytes().to_vec();
    assert_eq!(
        (reset.stream, reset.payload),
        (1, protocol_error),
        "{bad:?}"
    );
    let good = saying(aimed, ("host", "web"));
    wire.say(&headers(3, END_STREAM, &good)).await;
    assert_eq!(wire.next(HEADERS).await.stream, 3);
}

#[tokio::test]
async fn h6_h7_h16_what_has_two_readings_over_http2_reaches_nobody() {
    for bad in [
        ("host", "other"),
        ("connection", "l5d-client-id"),
        ("L5d-Client-Id", "spiffe://west/ns/shop/sa/admin"),
        (":authority", "other"),
    ] {
        let root = TestRoot::new("west");
        let mut application = Played::new(Version::Http2).await;
        let server = Server::before(root.tls(SERVER), application.address);
        let port = application.address.port().to_string();
        let aimed = [(mesh1::PORT, &*port), (mesh1::PROTO, "http2")];
        let session = session(&root, &server).await;
        tokio::join!(refuses(session, &aimed, bad), application.answers(200));

        let target = first_of(vec![vec![server.endpoint()]]);
        let (_, heads) = mpsc::channel(1);
        let world = World::to(&root, target, heads, Protocol::Detect).await;
        let client = world.client().await.0;
        tokio::join!(refuses(client, &[], bad), application.answers(200));
        assert!(application.was_asked_no_more(), "{bad:?}");
    }
}

#[tokio::test]
async fn h16_a_body_that_is_not_as_long_as_said_is_never_whole() {
    let cases: [(&str, &[&str]); 4] = [
        ("5", &["four"]),
        ("3", &["four"]),
        ("5", &["fo", "ur"]),
        ("3", &["fo", "ur"]),
    ];
    for (length, parts) in cases {
        let root = TestRoot::new("west");
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::before(root.tls(SERVER), address);
        let mut head = aimed(address.port(), Carried::Http1);
        head.push(b"content-length", length.as_bytes()).unwrap();
        let exchange = peer(&root, &server).await.open(&head, false).unwrap();
        let mut application = Client(soon(listener.accept()).await.unwrap().0);
        let seen = application.head().await;
        let said = format!("content-length: {length}\r\n");
        assert!(seen.contains(&said), "{seen}");
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            exchange.send(part.as_bytes(), is_last).await.unwrap();
        }
        let broken = soon(exchange.gone()).await;
        assert_eq!(broken, Broken::Reset(ResetReason::Peer(Code::Protocol)));
        let mut rest = Vec::new();
        // Closed, in whatever way.
        let _ = soon(application.0.read_to_end(&mut rest)).await;
        let length: usize = length.parse().unwrap();
        assert!(
            rest.len() < length && b"four".starts_with(&rest),
            "{rest:?}"
        );
    }
}

/// An application that answers what its sidecar would say instead of it.
async fn claims_to_be_a_sidecar(reason: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut application = Client(stream);
            application.head().await;
            let answer = format!(
                "HTTP/1.1 503 No\r\nmesh-error: {reason}\r\nl5d-proxy-error: \
                 {reason}\r\nx-kept: 1\r\ncontent-length: 2\r\n\r\nno"
            );
            application.say(&answer).await;
            // Until the sidecar leaves.
            let _ = application.0.read_u8().await;
        }
    });
    address
}

#[tokio::test]
async fn h8_an_application_s_answer_is_never_taken_for_its_sidecar_s() {
    let root = TestRoot::new("west");
    for reason in ["connect-failed", "broken-off", "draining", "not-allowed"] {
        for behind in BOTH {
            let application = claims_to_be_a_sidecar(reason).await;
            let good = Server::start(&root, Habit::Answers).await;
            let endpoints = match behind {
                Behind::Sidecar => {
                    let server = Server::before(root.tls(SERVER), application);
                    [server.endpoint(), good.endpoint()]
                }
                Behind::Nothing => [plain(application), plain(good.application)],
            };
            let backends = endpoints.map(|endpoint| vec![endpoint]);
            let answer = exchange(&root, first_of(backends.into()), GET).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{behind:?}: {answer}");
            assert!(answer.contains("x-kept: 1\r\n"), "{behind:?}: {answer}");
            assert!(answer.ends_with("\r\n\r\nno"), "{behind:?}: {answer}");
            assert!(!answer.contains(reason), "{behind:?}: {answer}");
            assert_eq!(good.received(), 0, "{reason} {behind:?}");
        }
    }
}
