//! Tunnels that an application's peer asks for, as policy sees them.

use mesh_drive::exchange::{Chunk, Exchange};

use super::*;

/// A request of a peer's sidecar, answered.
async fn asked(
    peer: &PeerConnection,
    port: u16,
    carried: Carried,
    head: Head,
) -> Response<Incoming> {
    let mut head = head;
    assert!(peer.takes_protocols().await);
    let asking = peer.request(port, carried, &mut head, Body::empty());
    timeout(SOON, asking).await.expect("in time").unwrap()
}

fn upgrade() -> Head {
    let mut head = Head::request("CONNECT", "web", "").unwrap();
    head.set_scheme(b"http").unwrap();
    head.set_path(b"/switch").unwrap();
    head.set_protocol(Some(b"other")).unwrap();
    head
}

fn connect(authority: &str) -> Head {
    Head::request("CONNECT", authority, "").unwrap()
}

async fn echoes(tunnel: &Exchange) {
    tunnel.send(b"ahoy", false).await.unwrap();
    let mut back = Vec::new();
    while back.len() < 4 {
        match timeout(SOON, tunnel.chunk()).await.expect("in time") {
            Ok(Chunk::Data(data)) => back.extend(data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, b"ahoy");
}

#[tokio::test]
async fn c4_a_tunnel_ends_with_its_policy() {
    let world = World::with(named(OWN)).await;
    let peer = world.peer(OWN).await;
    let mut tunnels = Vec::new();
    for head in [upgrade(), connect("shop:443")] {
        let answer = asked(&peer, world.port(), Carried::Http1, head).await;
        assert_eq!(told(&answer), ADMITTED);
        tunnels.push(answer.body.exchange().clone());
    }
    // A change that still admits the client leaves them alone.
    world.say(named("spiffe://east/*"));
    for tunnel in &tunnels {
        echoes(tunnel).await;
    }
    world.say(named(FOREIGN));
    for tunnel in &tunnels {
        let end = timeout(SOON, tunnel.gone()).await;
        end.expect("an end in time");
    }
    for head in [upgrade(), connect("shop:443")] {
        let answer = asked(&peer, world.port(), Carried::Http1, head).await;
        assert_eq!(told(&answer), REFUSED);
    }
}

/// Only `mesh-proto` makes a CONNECT ours, and no application can say it: its
/// sidecar has taken that out.
#[tokio::test]
async fn h12_an_application_s_connect_is_never_taken_for_a_stream_of_bytes() {
    let world = World::with(named(OWN)).await;
    let peer = world.peer(OWN).await;
    let answer = asked(&peer, world.port(), Carried::Http1, connect("mesh.tcp:0")).await;
    assert_eq!(told(&answer), ADMITTED);
    let text = |counter: &str| format!("mesh_proxy_{counter}{{direction=\"inbound\"");
    let counted = world.counted();
    assert!(counted.contains(&text("requests_total")), "{counted}");
    assert!(!counted.contains(&text("tcp_streams_total")), "{counted}");

    // What says that it is one, and is another's.
    let bad = (400, Some(Reason::BadRequest));
    for head in [connect("shop:443"), upgrade()] {
        let answer = asked(&peer, world.port(), Carried::Tcp, head).await;
        assert_eq!(told(&answer), bad);
    }
    let mut both = connect("mesh.tcp:0");
    both.push(b"mesh-proto", b"tcp").unwrap();
    let answer = asked(&peer, world.port(), Carried::Http1, both).await;
    assert_eq!(told(&answer), bad);
    assert!(peer.tcp(world.port()).await.is_ok());
    assert!(world.counted().contains(&text("tcp_streams_total")));
}

#[tokio::test]
async fn h12_nobody_gets_a_tunnel_for_asking_how_the_pod_is() {
    let world = World::with(Vec::new()).await;
    for (lines, expected) in [
        ("", "HTTP/1.1 200"),
        ("connection: upgrade\r\nupgrade: other\r\n", "HTTP/1.1 403"),
    ] {
        let mut stream = world.unmeshed().await;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: web\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = timeout(SOON, stream.read_exact(&mut answer)).await;
        read.expect("an answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
}

#[tokio::test]
async fn h12_a_client_without_a_sidecar_has_tunnels_for_as_long_as_policy_admits_it() {
    let world = World::new(InboundPolicy::default()).await;
    world.say(
        DefaultPolicy::AllUnauthenticated
            .rule()
            .into_iter()
            .collect(),
    );
    let mut stream = world.unmeshed().await;
    let request = "GET /switch HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: \
                   other\r\nl5d-client-id: forged\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(SOON, stream.read_u8()).await;
        head.push(byte.expect("an answer").unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b"ahoy").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ahoy");
    world.say(named(OWN));
    let end = timeout(SOON, stream.read(&mut echo)).await;
    assert!(matches!(end.expect("an end in time"), Ok(0) | Err(_)));
}
