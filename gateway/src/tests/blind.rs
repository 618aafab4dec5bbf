//! What the gateway can read of what it carries: nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt as _;
use mesh_core::endpoint::EndpointId;
use mesh_dataplane::peer::{Peer, PeerAddress, Peers};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    peers::{TARGET, post, sidecar},
    world::{GATEWAY, WEB, World},
};
use crate::fixtures::id;

const POD: EndpointId = EndpointId(6);
const SECRET: &str = "a secret of the application";

fn target(world: &World) -> Peer {
    Peer {
        address: PeerAddress::Linked(Arc::new(world.link()), POD),
        identity: id(TARGET).into(),
    }
}

/// Everything that the gateway passed on, one way.
type Seen = Arc<Mutex<Vec<u8>>>;

#[tokio::test]
async fn g14_what_passes_through_is_ciphertext() {
    let world = World::new().await;
    let tls = world.east.tls_trusting(TARGET, &[&world.west]);
    let (up, down) = (Seen::default(), Seen::default());
    let recorder = record(sidecar(tls).await, up.clone(), down.clone()).await;
    world.expose(POD, recorder);
    let peers = Peers::new(world.client(WEB), world.tunnels(WEB));
    let connection = peers.connection(&target(&world)).await.unwrap();
    let answer = post(&connection, SECRET).await;
    let back = answer.body.collect().await.unwrap().to_bytes();
    assert_eq!(back, SECRET);

    for seen in [up, down] {
        let seen = seen.lock().unwrap().clone();
        for plain in [SECRET, "mesh-port", "PRI * HTTP/2.0", "spiffe://"] {
            let holds = seen
                .windows(plain.len())
                .any(|part| part == plain.as_bytes());
            assert!(!holds, "{plain} can be read");
        }
        // After the hello nothing but encrypted records: not even a certificate.
        let records = records(&seen);
        assert_eq!(records[0], HANDSHAKE);
        let rest = &records[1..];
        assert!(rest.contains(&APPLICATION_DATA));
        let hidden = |kind: &u8| matches!(*kind, APPLICATION_DATA | CHANGE_CIPHER_SPEC);
        assert!(rest.iter().all(hidden), "{records:?}");
    }
}

#[tokio::test]
async fn g14_the_gateways_own_key_opens_no_inner_session() {
    let world = World::new().await;
    // A gateway that was broken into answers in the target's place.
    world.expose(POD, sidecar(world.gateway.tls.clone()).await);
    let peers = Peers::new(world.client(WEB), world.tunnels(WEB));
    let refused = peers.connection(&target(&world)).await.err().unwrap();
    assert_eq!(refused.reason(), "unexpected_identity", "{refused}");
    assert_eq!(world.gateway.tls.id(), Some(id(GATEWAY)));
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The types of the TLS records in `bytes` (RFC 8446 §5.1).
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    kinds
}

/// A port that leads to `server` and keeps a copy of what passes.
async fn record(server: SocketAddr, up: Seen, down: Seen) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::spawn(tee(from_client, to_server, up.clone()));
            tokio::spawn(tee(from_server, to_client, down.clone()));
        }
    });
    address
}

async fn tee(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Seen,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        seen.lock().unwrap().extend_from_slice(&buffer[..count]);
        to.write_all(&buffer[..count]).await?;
    }
}
