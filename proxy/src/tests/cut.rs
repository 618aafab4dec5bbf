//! The connection between two sidecars ends without a goodbye of TLS, as whoever
//! is between them can make it: nothing that was cut may look whole.

use std::io::ErrorKind;

use mesh_dataplane::message;
use mesh_drive::{
    conduit::{self, Version},
    exchange::{Broken, Chunk},
};
use mesh_http::{fault::ResetReason, head::Head};
use mesh_net::replay::Replay;
use tokio::{
    io::{AsyncWrite, copy, copy_bidirectional, sink},
    sync::mpsc,
};

use super::{
    played::{answered, listen_to},
    world::soon,
    *,
};

/// Somebody between two sidecars.
struct Relay {
    port: u16,
    cut: watch::Sender<bool>,
}

impl Relay {
    /// Leads to this port, until it is told to cut.
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let (cut, is_cut) = watch::channel(false);
        let own = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect((HOST, port)).await.unwrap();
                tokio::spawn(carry(near, far, is_cut.clone()));
            }
        });
        Self { port: own, cut }
    }

    /// Both ends see FIN, and nothing before it.
    fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, mut far: TcpStream, mut is_cut: watch::Receiver<bool>) {
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
    // Closed with something unread they would be reset.
    let _ = tokio::join!(near.shutdown(), far.shutdown());
    let (mut none, mut nothing) = (sink(), sink());
    let _ = tokio::join!(copy(&mut near, &mut none), copy(&mut far, &mut nothing));
}

/// A client and an application, two sidecars between them, and the relay.
struct Pair {
    root: TestRoot,
    application: TcpListener,
    relay: Relay,
    _sidecar: Server,
}

/// What a client's sidecar takes its connection for.
#[derive(Clone, Copy)]
enum As {
    Http,
    Http2,
    Bytes,
}

impl Pair {
    async fn new() -> Self {
        let root = TestRoot::new("west");
        let application = TcpListener::bind((HOST, 0)).await.unwrap();
        let address = application.local_addr().unwrap();
        let sidecar = Server::before(root.tls(SERVER), address);
        Self {
            relay: Relay::to(sidecar.sidecar).await,
            root,
            application,
            _sidecar: sidecar,
        }
    }

    /// A client's connection, redirected to its sidecar.
    async fn connect(&self, spoken: As) -> TcpStream {
        let address = self.application.local_addr().unwrap();
        let target = first_of(vec![vec![endpoint(address, self.relay.port)]]);
        let outbound = outbound_of(self.root.tls(CLIENT), Metrics::default());
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (ours, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let spoken = match spoken {
                As::Bytes => {
                    let _ =
                        outbound::tcp::carry(&outbound, Replay::new(ours), Spoken::Opaque, &target)
                            .await;
                    return;
                }
                As::Http => Spoken::Http1,
                As::Http2 => Spoken::Http2,
            };
            let limits = outbound.bounds.clients();
            let answer =
                move |request| outbound::http::answer(outbound.clone(), target.clone(), request);
            serve::http(ours, spoken, limits, &Shutdown::new(), answer).await;
        });
        client.unwrap()
    }

    /// A client that has sent this, and the application, which has all of it.
    async fn carried(&self, spoken: As, sent: &str) -> (TcpStream, TcpStream) {
        let mut client = self.connect(spoken).await;
        say(&mut client, sent).await;
        let accepted = timeout(LONG, self.application.accept()).await;
        let (mut server, _) = accepted.expect("in time").unwrap();
        let end = sent.rsplit("\r\n").next().unwrap();
        hears(&mut server, end).await;
        (client, server)
    }
}

async fn say(to: &mut (impl AsyncWrite + Unpin), text: &str) {
    to.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until what has come ends so.
async fn hears(from: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let heard = async {
        while !String::from_utf8_lossy(&all).ends_with(end) || all.is_empty() {
            assert_ne!(from.read_buf(&mut all).await.unwrap(), 0, "{all:?}");
        }
    };
    timeout(LONG, heard).await.expect("it comes in time");
    String::from_utf8(all).unwrap()
}

/// What comes until the end, and whether that was a reset.
async fn rest(from: &mut TcpStream) -> (String, bool) {
    let mut all = Vec::new();
    let read = timeout(LONG, from.read_to_end(&mut all)).await;
    let is_reset = match read.expect("an end in time") {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            true
        }
    };
    (String::from_utf8(all).unwrap(), is_reset)
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

#[tokio::test]
async fn t4_half_an_answer_that_was_cut_off_is_not_whole() {
    for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.carried(As::Http, ASK).await;
        let half = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n");
        say(&mut server, &half).await;
        let seen = hears(&mut client, "half\r\n").await;
        assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
        pair.relay.cut();
        // Less than was announced, and no last chunk.
        assert_eq!(rest(&mut client).await.0, "", "{framing}");
    }
}

/// Whose end is the end of the connection: only a reset tells that there was more.
#[tokio::test]
async fn t4_an_answer_until_the_end_that_was_cut_off_is_a_reset() {
    let pair = Pair::new().await;
    let ask = "GET / HTTP/1.0\r\nhost: web\r\n\r\n";
    let (mut client, mut server) = pair.carried(As::Http, ask).await;
    say(&mut server, "HTTP/1.0 200 OK\r\n\r\nhalf").await;
    hears(&mut client, "half").await;
    pair.relay.cut();
    assert_eq!(rest(&mut client).await, (String::new(), true));
}

#[tokio::test]
async fn t4_half_a_request_that_was_cut_off_is_not_whole() {
    for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
        let pair = Pair::new().await;
        // More than is kept to be sent again.
        let half = format!("{:x}\r\n{}", 70_000, "h".repeat(70_000));
        let post = format!("POST / HTTP/1.1\r\nhost: web\r\n{framing}\r\n\r\n{half}");
        let mut client = pair.connect(As::Http).await;
        say(&mut client, &post).await;
        let accepted = timeout(LONG, pair.application.accept()).await;
        let (mut server, _) = accepted.expect("in time").unwrap();
        let seen = hears(&mut server, "hhhh").await;
        assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
        pair.relay.cut();
        let (more, _) = rest(&mut server).await;
        assert!(!more.contains("0\r\n\r\n"), "{framing}: {more}");
        let (answer, _) = rest(&mut client).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn t4_bytes_that_were_cut_off_are_reset_at_both_ends() {
    let pair = Pair::new().await;
    let (mut client, mut server) = pair.carried(As::Bytes, "bytes").await;
    say(&mut server, "half").await;
    hears(&mut client, "half").await;
    pair.relay.cut();
    assert_eq!(rest(&mut client).await, (String::new(), true));
    assert_eq!(rest(&mut server).await, (String::new(), true));
}

#[tokio::test]
async fn t4_streams_that_were_cut_off_are_reset_at_both_ends() {
    let pair = Pair::new().await;
    let socket = pair.connect(As::Http2).await;
    let (client, life) = conduit::connect(socket, Version::Http2, message::limits());
    tokio::spawn(life);
    let open = |method, end| {
        let head = Head::request(method, "web", "/").unwrap();
        client.open(&head, end).unwrap()
    };
    // Half an answer, and half a request.
    let asked = open("GET", true);
    let (socket, _) = soon(pair.application.accept()).await.unwrap();
    let (tell, mut requests) = mpsc::channel(2);
    listen_to(socket, Version::Http2, tell);
    let answering = soon(requests.recv()).await.unwrap().exchange;
    let head = Head::response(200).unwrap();
    answering.send_head(&head, false).unwrap();
    answering.send(b"half", false).await.unwrap();
    assert_eq!(answered(&asked).await, 200);
    assert!(matches!(soon(asked.chunk()).await, Ok(Chunk::Data(_))));
    let asking = open("POST", false);
    asking.send(b"half", false).await.unwrap();
    let receiving = soon(requests.recv()).await.unwrap().exchange;
    assert!(matches!(soon(receiving.chunk()).await, Ok(Chunk::Data(_))));
    pair.relay.cut();
    for exchange in [&asked, &answering, &receiving] {
        let broken = soon(exchange.gone()).await;
        let is_reset = matches!(broken, Broken::Reset(ResetReason::Peer(_)));
        assert!(is_reset, "{broken}");
    }
    assert_eq!(answered(&asking).await, 502);
}
