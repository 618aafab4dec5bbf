//! T3 and G15: one version of TLS, one application protocol.

use std::sync::Arc;

use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_H2, ALPN_MESH};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    join,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::version::TLS12};

use crate::hostile::{HONEST, TLS13_ONLY, client, honest, refused_client, refused_server, server};

const CALLER: &str = "spiffe://west/ns/shop/sa/caller";

#[tokio::test]
async fn t3_g15_tls_1_2_is_refused() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let config = client(&[&TLS12], Some(&shown), &[ALPN_MESH]);
    assert_eq!(refused_client(&tls, config).await.reason(), "protocol");
    let config = server(&[&TLS12], &shown, &[ALPN_MESH]);
    let error = refused_server(&tls, &[id(CALLER)], config).await;
    assert_eq!(error.reason(), "refused_by_peer");
}

#[tokio::test]
async fn g15_another_application_protocol_is_refused() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    for alpn in [&[][..], &[ALPN_H2], &[b"http/1.1"]] {
        let config = client(TLS13_ONLY, Some(&shown), alpn);
        assert_eq!(refused_client(&tls, config).await.reason(), "alpn");
    }
}

/// Also when our part of the handshake has to be said before.
#[tokio::test]
async fn g15_a_client_of_another_application_protocol_is_told_why_it_is_refused() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let connector = TlsConnector::from(Arc::new(client(TLS13_ONLY, Some(&shown), &[ALPN_H2])));
    let (ours, theirs) = duplex(64 * 1024);
    let name = ServerName::try_from("honest.invalid").unwrap();
    let (server, client) = join!(tls.accept(ours, ALPN_MESH), connector.connect(name, theirs));
    assert_eq!(server.map(drop).unwrap_err().reason(), "alpn");
    let told = client.map(drop).unwrap_err().to_string();
    assert!(told.contains("NoApplicationProtocol"), "{told}");
}

#[tokio::test]
async fn g15_a_server_without_our_application_protocol_is_left() {
    let west = TestRoot::new("west");
    let (tls, shown) = (honest(&west, &[]), west.issue_with(CALLER, |_| ()));
    let silent = server(TLS13_ONLY, &shown, &[]);
    let (ours, theirs) = duplex(64 * 1024);
    let (expected, acceptor) = ([id(CALLER)], TlsAcceptor::from(Arc::new(silent)));
    let (client, _server) = join!(
        tls.connect(ours, &expected, None, ALPN_MESH),
        acceptor.accept(theirs)
    );
    assert_eq!(client.unwrap_err().reason(), "alpn");
}

#[tokio::test]
async fn g15_plain_http_is_refused() {
    let west = TestRoot::new("west");
    let tls = honest(&west, &[]);
    let (ours, mut theirs) = duplex(64 * 1024);
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = tls.accept(ours, ALPN_MESH).await.map(drop).unwrap_err();
    assert_eq!(error.reason(), "protocol");
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() <= 7, "more than one alert: {answer:?}");
}

#[tokio::test]
async fn key_exchange_is_hybrid_with_a_post_quantum_part() {
    let west = TestRoot::new("west");
    let (tls, expected) = (honest(&west, &[]), [id(HONEST)]);
    let (left, right) = duplex(64 * 1024);
    let (client, server) = join!(
        tls.connect(left, &expected, None, ALPN_MESH),
        tls.accept(right, ALPN_MESH)
    );
    let client = client.unwrap();
    assert_eq!(client.key_exchange(), "X25519MLKEM768");
    assert_eq!(client.cipher_suite(), "TLS13_AES_128_GCM_SHA256");
    server.unwrap();
}
