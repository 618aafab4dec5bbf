//! Sidecar to sidecar through the gateway: the inner session ends at the
//! target, and the gateway has no part in it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mesh_core::endpoint::EndpointId;
use mesh_dataplane::{
    message::{self, Body, Incoming, upgrade},
    peer::{Peer, PeerAddress, PeerConnection, PeerError, Peers},
};
use mesh_drive::exchange::Chunk;
use mesh_http::head::Head;
use mesh_tls::{ALPN_MESH, Tls};
use mesh_wire::mesh1::{Carried, Reason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::world::{LONG, WEB, World};
use crate::fixtures::id;

pub(super) const TARGET: &str = "spiffe://east/ns/shop/sa/web";
pub(super) const POD: EndpointId = EndpointId(6);

/// East's gateway with one meshed pod behind it, and the peers of west.
async fn world() -> (World, Peers) {
    let world = World::new().await;
    let tls = world.east.tls_trusting(TARGET, &[&world.west]);
    world.expose(POD, sidecar(tls).await);
    let peers = Peers::new(world.client(WEB), world.tunnels(WEB));
    (world, peers)
}

fn linked(world: &World, identity: &str) -> Peer {
    Peer {
        address: PeerAddress::Linked(Arc::new(world.link()), POD),
        identity: id(identity).into(),
    }
}

#[tokio::test]
async fn requests_reach_the_target_and_it_sees_who_asks() {
    let (world, peers) = world().await;
    let peer = linked(&world, TARGET);
    for body in ["", "small", &"large ".repeat(100_000)] {
        let connection = peers.connection(&peer).await.unwrap();
        let answer = post(&connection, body).await;
        let seen = |name: &[u8]| answer.head.get_single(name).map(<[u8]>::to_vec);
        assert_eq!(seen(b"seen-port").unwrap(), b"8080");
        assert_eq!(seen(b"seen-client").unwrap(), WEB.as_bytes());
        let back = answer.body.collect().await.unwrap().to_bytes();
        assert!(back == body, "{} bytes came back", back.len());
    }
    world.shows("mesh_gateway_tunnels_opened_total").await;
    let opened = r#"tunnels_opened_total{trust_domain="west",service="shop/web",link="west",client="spiffe://west/ns/shop/sa/web"} 1"#;
    assert!(world.metrics().contains(opened), "one tunnel serves all");
}

#[tokio::test]
async fn a_tcp_stream_ends_one_way_and_goes_on_the_other() {
    let (world, peers) = world().await;
    let connection = peers.connection(&linked(&world, TARGET)).await.unwrap();
    let mut stream = connection.tcp(5432).await.unwrap();
    stream.write_all(b"select").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    timeout(LONG, stream.read_to_string(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(back, "select");
}

#[tokio::test]
async fn h12_an_upgrade_goes_through_like_any_bytes() {
    let (world, peers) = world().await;
    let connection = peers.connection(&linked(&world, TARGET)).await.unwrap();
    let mut head = Head::request("GET", "web", "/chat").unwrap();
    head.set_upgrade(Some(b"websocket")).unwrap();
    upgrade::wrap(&mut head).unwrap();
    assert!(connection.takes_protocols().await);
    let asking = connection.request(8080, Carried::Http1, &mut head, Body::empty());
    let answer = timeout(LONG, asking).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let tunnel = answer.body.exchange();
    assert!(tunnel.is_tunnel());
    for text in ["ahoy", "and more"] {
        tunnel.send(text.as_bytes(), false).await.unwrap();
        let Chunk::Data(back) = timeout(LONG, tunnel.chunk()).await.unwrap().unwrap() else {
            panic!("an end");
        };
        assert_eq!(back, text.as_bytes());
    }
    tunnel.send(b"", true).await.unwrap();
    let end = timeout(LONG, tunnel.chunk()).await.unwrap();
    assert!(matches!(end, Ok(Chunk::End)), "{end:?}");
}

#[tokio::test]
async fn another_pod_at_the_endpoint_is_not_the_peer() {
    let (world, peers) = world().await;
    let peer = linked(&world, "spiffe://east/ns/shop/sa/other");
    let refused = peers.connection(&peer).await.err().unwrap();
    assert_eq!(refused.reason(), "unexpected_identity", "{refused}");
}

#[tokio::test]
async fn what_the_gateway_refuses_was_not_sent() {
    let (world, peers) = world().await;
    world.expose(EndpointId(7), "127.0.0.1:1".parse().unwrap());
    let refused = peers.connection(&linked(&world, TARGET)).await.err();
    let why = refused.as_ref().and_then(PeerError::refused_by_gateway);
    assert_eq!(why, Some(Reason::UnknownEndpoint), "{refused:?}");
}

/// What is answered to a request with `body`.
pub(super) async fn post(connection: &PeerConnection, body: &str) -> message::Response<Incoming> {
    let mut head = Head::request("POST", "web", "/").unwrap();
    let body = Body::from(body.to_owned());
    let asking = connection.request(8080, Carried::Http1, &mut head, body);
    asking.await.unwrap()
}

/// A sidecar that sends back what it gets, and says what it saw. Its HTTP/2 is
/// another implementation than the one that it is asked with.
pub(super) async fn sidecar(tls: Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(tls.clone(), stream));
        }
    });
    address
}

async fn serve(tls: Tls, stream: TcpStream) {
    let Ok((session, client)) = tls.accept(stream, ALPN_MESH).await else {
        return;
    };
    let mut builder = h2::server::Builder::new();
    let handshake = builder.enable_connect_protocol().handshake(session);
    let mut connection = handshake.await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let client = client.to_string();
        tokio::spawn(answer(client, request, respond));
    }
}

async fn answer(client: String, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let port = request.headers()["mesh-port"].clone();
    let mut body = request.into_body();
    let answer = Response::builder()
        .header("seen-port", port)
        .header("seen-client", client)
        .body(())
        .unwrap();
    let mut send = respond.send_response(answer, false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        send.send_data(data, false).unwrap();
    }
    send.send_data(Bytes::new(), true).unwrap();
}

#[tokio::test]
async fn g13_peers_of_a_gateway_that_goes_move_to_the_next_and_lose_nothing() {
    let (world, peers) = world().await;
    let peer = linked(&world, TARGET);
    let connection = peers.connection(&peer).await.unwrap();
    let mut running = connection.tcp(5432).await.unwrap();
    drop(connection);

    let next = world.replace_gateway();
    let going = world.gateway.clone();
    let drained = tokio::spawn(async move { going.drain(LONG).await });
    let moved = async {
        while !next.metrics().contains("tunnels_opened_total{") {
            let connection = peers.connection(&peer).await.unwrap();
            let answer = post(&connection, "x").await;
            answer.body.collect().await.unwrap();
        }
    };
    timeout(LONG, moved).await.expect("still on the old one");

    running.write_all(b"the rest").await.unwrap();
    running.shutdown().await.unwrap();
    let mut back = String::new();
    let reading = timeout(LONG, running.read_to_string(&mut back));
    reading.await.unwrap().unwrap();
    assert_eq!(back, "the rest");
    drop(running);
    assert!(drained.await.unwrap(), "the old gateway still has tunnels");
}
