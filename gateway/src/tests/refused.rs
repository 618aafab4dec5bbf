use http::{Method, StatusCode};
use mesh_core::endpoint::EndpointId;
use mesh_testing::ca::{Issued, TestRoot};
use mesh_tls::{ALPN_H2, ALPN_MESH, Certificate, Clock, Tls};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::world::{EXPORTED, GATEWAY, LONG, WEB, World, connect, connect_endpoint};
use crate::{fixtures::id, unfinished::Unfinished};

#[tokio::test]
async fn g1_no_answer_tells_what_is_exported_to_others() {
    let world = World::new().await;
    let mut web = world.raw(&world.client(WEB)).await;
    let unknown = web.ask(connect_endpoint(EndpointId(99))).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    assert_eq!(unknown.1["mesh-error"], "unknown-endpoint");
    for other in [2, 3] {
        assert_eq!(web.ask(connect_endpoint(EndpointId(other))).await, unknown);
    }
    assert_eq!(web.ask(connect_endpoint(EXPORTED)).await.0, StatusCode::OK);
    let refused = r#"tunnels_refused_total{trust_domain="west",reason="unknown-endpoint",link="west",client="spiffe://west/ns/shop/sa/web"} 3"#;
    world.shows(refused).await;
}

#[tokio::test]
async fn g1_our_own_trust_domain_may_only_ask_whether_the_gateway_lives() {
    let world = World::new().await;
    let mut own = world.raw(&world.east.tls(WEB_OF_EAST)).await;
    let (status, _) = own.ask(connect_endpoint(EXPORTED)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(own.ask(connect("exports")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(own.ask(connect("probe")).await.0, StatusCode::OK);
}

const WEB_OF_EAST: &str = "spiffe://east/ns/shop/sa/web";

#[tokio::test]
async fn g2_g3_names_and_addresses_lead_nowhere() {
    let world = World::new().await;
    let mut web = world.raw(&world.client(WEB)).await;
    for authority in [
        "127.0.0.1:4191",
        "10.0.0.1:6443",
        "10.0.0.1:10250",
        "localhost:4143",
        "kubernetes.default:443",
        "mesh-control.mesh-system.svc:8086",
    ] {
        let (status, headers) = web.ask(connect(authority)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{authority}");
        assert_eq!(headers["mesh-error"], "bad-request");
    }
    world
        .shows(r#"reason="bad-request",link="west",client="spiffe://west/ns/shop/sa/web"} 6"#)
        .await;
}

#[tokio::test]
async fn g15_other_methods_are_refused() {
    let world = World::new().await;
    let mut web = world.raw(&world.client(WEB)).await;
    for method in [Method::GET, Method::POST, Method::OPTIONS] {
        let request = http::Request::builder()
            .method(method)
            .uri("https://endpoint/")
            .body(())
            .unwrap();
        let (status, headers) = web.ask(request).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers["mesh-error"], "bad-request");
    }
    world
        .shows(r#"reason="method",link="west",client="spiffe://west/ns/shop/sa/web"} 3"#)
        .await;
}

#[tokio::test]
async fn g15_plain_http_gets_no_http_answer() {
    let world = World::new().await;
    for hello in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut tcp = TcpStream::connect(world.address).await.unwrap();
        tcp.write_all(hello.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = timeout(LONG, tcp.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    world
        .shows(r#"handshakes_refused_total{reason="protocol"} 2"#)
        .await;
}

#[tokio::test]
async fn g15_another_application_protocol_is_refused() {
    let world = World::new().await;
    for alpn in [ALPN_H2, b"http/1.1"] {
        assert!(!enters(&world, &world.client(WEB), alpn).await);
    }
    world
        .shows(r#"handshakes_refused_total{reason="alpn"} 2"#)
        .await;
}

#[tokio::test]
async fn g5_who_shows_no_certificate_stays_outside() {
    let world = World::new().await;
    let nobody = Tls::new(world.west.trusting(&[&world.east]), Clock::SYSTEM);
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let session = nobody
        .connect_unauthenticated(tcp, &[id(GATEWAY)], ALPN_MESH)
        .await;
    if let Ok(mut session) = session {
        assert!(timeout(LONG, session.read_u8()).await.unwrap().is_err());
    }
    world
        .shows(r#"handshakes_refused_total{reason="no_certificate"} 1"#)
        .await;
}

#[tokio::test]
async fn g5_certificates_out_of_their_time_are_refused() {
    let world = World::new().await;
    let now = OffsetDateTime::from(Clock::SYSTEM.now());
    let expired = world.west.issue_with(WEB, |leaf| {
        leaf.not_after = now - Duration::minutes(1);
    });
    let early = world.west.issue_with(WEB, |leaf| {
        leaf.not_before = now + Duration::minutes(5);
    });
    for (issued, reason) in [(expired, "expired"), (early, "not_yet_valid")] {
        let shown = issued.certificate().shown_regardless();
        refuses(&world, shown, reason).await;
    }
}

#[tokio::test]
async fn g5_an_unknown_root_is_refused() {
    let world = World::new().await;
    // It has the name of west's root, and another key.
    let other = TestRoot::new("west").issue(WEB);
    refuses(&world, other, "signature").await;
    let nowhere = TestRoot::new("nowhere").issue("spiffe://nowhere/ns/shop/sa/web");
    refuses(&world, nowhere, "unknown_trust_domain").await;
}

#[tokio::test]
async fn g6_a_root_speaks_for_its_own_trust_domain_only() {
    let world = World::new().await;
    // East's own root, and that of a cluster that is linked: none may speak
    // for west.
    let forged: Issued = world.east.issue_with(WEB, |_| ());
    refuses(&world, forged.certificate(), "unknown_issuer").await;
    let forged = world.west.issue_with(WEB_OF_EAST, |_| ());
    refuses(&world, forged.certificate(), "unknown_issuer").await;
}

#[tokio::test]
async fn g10_silent_connections_of_one_address_are_bounded() {
    let world = World::with(|gateway| gateway.unfinished = Unfinished::new(10, 2)).await;
    let _silent = [
        TcpStream::connect(world.address).await.unwrap(),
        TcpStream::connect(world.address).await.unwrap(),
    ];
    let mut third = TcpStream::connect(world.address).await.unwrap();
    let end = timeout(LONG, third.read_u8()).await.unwrap();
    assert!(end.is_err(), "not closed");
    world
        .shows(r#"handshakes_refused_total{reason="too_many_from_address"} 1"#)
        .await;
}

/// Asserts that the gateway does not let in whoever shows `certificate`.
async fn refuses(world: &World, certificate: Certificate, reason: &str) {
    let client = Tls::new(world.west.trusting(&[&world.east]), Clock::SYSTEM);
    client.set_certificate(certificate);
    assert!(!enters(world, &client, ALPN_MESH).await, "{reason}");
    world
        .shows(&format!(r#"handshakes_refused_total{{reason="{reason}"}}"#))
        .await;
}

/// Whether the gateway speaks HTTP/2 with this client. With TLS 1.3 a client
/// learns only after its handshake that it is refused.
async fn enters(world: &World, tls: &Tls, alpn: &[u8]) -> bool {
    says(world, tls, alpn, HTTP2).await.is_ok()
}

/// The beginning of HTTP/2: its preface, and SETTINGS without any.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The first byte of what the gateway says to a client that begins so.
async fn says(world: &World, tls: &Tls, alpn: &[u8], hello: &[u8]) -> std::io::Result<u8> {
    let tcp = TcpStream::connect(world.address).await.unwrap();
    let connected = tls.connect(tcp, &[id(GATEWAY)], None, alpn).await;
    let mut session = connected.map_err(std::io::Error::other)?;
    session.write_all(hello).await?;
    session.flush().await?;
    timeout(LONG, session.read_u8()).await.unwrap()
}

#[tokio::test]
async fn g15_a_verified_client_that_speaks_no_http2_is_refused() {
    let world = World::new().await;
    let tls = world.client(WEB);
    assert!(enters(&world, &tls, ALPN_MESH).await);
    for hello in [
        &b"GET / HTTP/1.1\r\nhost: probe\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n",
        b"x",
    ] {
        assert!(says(&world, &tls, ALPN_MESH, hello).await.is_err());
    }
    world
        .shows(r#"handshakes_refused_total{reason="not_http2"} 3"#)
        .await;
}
