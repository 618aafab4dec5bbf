//! What is said after a handshake, with another implementation at the other end.

use std::sync::Arc;

use mesh_testing::{
    ca::{TestRoot, id},
    chance::Chance,
};
use mesh_tls::ALPN_MESH;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    join,
    time::{Duration, timeout},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client::TlsStream as TheirClient, server::TlsStream as TheirServer,
};

use crate::hostile::{TLS13_ONLY, client, honest, server};

const CALLER: &str = "spiffe://west/ns/shop/sa/caller";
const LENGTH: usize = 3_000_000;
const PIECE: usize = 100_000;
const PIPE: usize = 64 * 1024;

fn pattern() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// Something of theirs whose keys can be replaced.
trait Refresh {
    fn refresh(&mut self);
}

impl Refresh for TheirClient<DuplexStream> {
    fn refresh(&mut self) {
        self.get_mut().1.refresh_traffic_keys().unwrap();
    }
}

impl Refresh for TheirServer<DuplexStream> {
    fn refresh(&mut self) {
        self.get_mut().1.refresh_traffic_keys().unwrap();
    }
}

/// Sends back what comes, under a new key every now and then, which it asks the
/// other side for as well.
async fn echo(mut theirs: impl AsyncRead + AsyncWrite + Refresh + Unpin) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = theirs.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        theirs.write_all(&buffer[..read]).await.unwrap();
        theirs.flush().await.unwrap();
        theirs.refresh();
    }
    theirs.shutdown().await.unwrap();
}

async fn all_comes_back(ours: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(ours);
    let sent = pattern();
    let writing = async {
        for piece in sent.chunks(PIECE) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (read, ()) = join!(reader.read_to_end(&mut back), writing);
    read.unwrap();
    assert!(back == sent, "{} bytes", back.len());
}

#[tokio::test]
async fn a_client_of_others_is_understood_under_changing_keys() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let connector = TlsConnector::from(Arc::new(client(TLS13_ONLY, Some(&shown), &[ALPN_MESH])));
    let (near, far) = duplex(PIPE);
    let name = ServerName::try_from("web.shop").unwrap();
    let theirs = async { echo(connector.connect(name, far).await.unwrap()).await };
    let ours = async {
        let (session, peer) = tls.accept(near, ALPN_MESH).await.unwrap();
        assert_eq!(peer, id(CALLER));
        all_comes_back(session).await;
    };
    join!(theirs, ours);
}

#[tokio::test]
async fn a_server_of_others_is_understood_under_changing_keys() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    // It hands out tickets, which nobody wants.
    let acceptor = TlsAcceptor::from(Arc::new(server(TLS13_ONLY, &shown, &[ALPN_MESH])));
    let (near, far) = duplex(PIPE);
    let expected = [id(CALLER)];
    let theirs = async {
        let stream = acceptor.accept(far).await.unwrap();
        assert_eq!(stream.get_ref().1.server_name(), Some("web.shop"));
        echo(stream).await;
    };
    let ours = async {
        let session = tls.connect(near, &expected, Some("web.shop"), ALPN_MESH);
        all_comes_back(session.await.unwrap()).await;
    };
    join!(theirs, ours);
}

/// A client may say all that it has to say, and goodbye, before it is heard.
#[tokio::test]
async fn who_leaves_in_one_breath_with_its_handshake_is_heard() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let connector = TlsConnector::from(Arc::new(client(TLS13_ONLY, Some(&shown), &[ALPN_MESH])));
    for said in ["", "hello"] {
        let (near, far) = duplex(PIPE);
        let name = ServerName::try_from("web.shop").unwrap();
        let theirs = async {
            let mut stream = connector.connect(name, far).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ours = async {
            let (mut session, _) = tls.accept(near, ALPN_MESH).await.unwrap();
            let mut heard = String::new();
            session.read_to_string(&mut heard).await.unwrap();
            session.write_all(b"bye").await.unwrap();
            session.shutdown().await.unwrap();
            heard
        };
        let (answer, heard) = join!(theirs, ours);
        assert_eq!((&*answer, &*heard), ("bye", said));
    }
}

/// A client may say the first thing in one breath with the end of its handshake.
#[tokio::test]
async fn what_comes_with_the_handshakes_end_is_read() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let connector = TlsConnector::from(Arc::new(client(TLS13_ONLY, Some(&shown), &[ALPN_MESH])));
    let (near, far) = duplex(PIPE);
    let name = ServerName::try_from("web.shop").unwrap();
    let theirs = async {
        let hello = b"hello".repeat(1000);
        let connecting = connector.connect_with(name, far, |session| {
            use std::io::Write as _;
            session.writer().write_all(&hello).unwrap();
        });
        let mut stream = connecting.await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let ours = async {
        let (mut session, _) = tls.accept(near, ALPN_MESH).await.unwrap();
        let mut read = String::new();
        session.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "hello".repeat(1000));
    };
    join!(theirs, ours);
}

/// What a client says first.
async fn hello() -> Vec<u8> {
    let west = TestRoot::new("west");
    let (near, mut far) = duplex(PIPE);
    let tls = honest(&west, &[]);
    let expected = [id(CALLER)];
    let calling = tls.connect(near, &expected, Some("web.shop"), ALPN_MESH);
    let mut hello = vec![0; PIPE];
    let listening = async {
        let length = far.read(&mut hello).await.unwrap();
        hello.truncate(length);
        drop(far);
    };
    let (called, ()) = join!(calling, listening);
    assert_eq!(called.unwrap_err().reason(), "io");
    hello
}

#[tokio::test]
async fn h20_bytes_that_are_no_handshake_end_it() {
    let west = TestRoot::new("west");
    let tls = honest(&west, &[]);
    let hello = hello().await;
    let mut chance = Chance::new(0x2545_f491_4f6c_dd1d);
    for _ in 0..1000 {
        let mut said = hello.clone();
        for _ in 0..chance.below(4) {
            let at = chance.below(said.len());
            said[at] = chance.below(256) as u8;
        }
        // In records that end in the middle of a message, or are cut off.
        let cut = chance.below(said.len());
        match chance.below(4) {
            0 => said.truncate(cut),
            1 if cut > 9 => {
                let rest = said.split_off(cut);
                let [high, low] = ((cut - 5) as u16).to_be_bytes();
                said[3..5].copy_from_slice(&[high, low]);
                let [high, low] = (rest.len() as u16).to_be_bytes();
                said.extend([22, 3, 3, high, low]);
                said.extend(rest);
            }
            2 => said.extend([21, 3, 3, 0, 2, 2, chance.below(120) as u8]),
            _ => {}
        }
        let (near, mut far) = duplex(PIPE);
        let client = async {
            far.write_all(&said).await.unwrap();
            far.shutdown().await.unwrap();
            let _ = far.read_to_end(&mut Vec::new()).await;
        };
        let serving = timeout(Duration::from_secs(10), tls.accept(near, ALPN_MESH));
        let (served, ()) = join!(serving, client);
        assert!(served.unwrap().is_err());
    }
}
