//! Tunnels that applications ask for: upgrades and CONNECTs, from a client through
//! its sidecar to an application, behind a sidecar of its own or without one.

mod application;
mod log;
mod routes;

use mesh_dataplane::message;
use mesh_drive::{
    conduit::{self, Version},
    exchange::{Answer, Exchange},
    stream::ByteStream,
};
use mesh_http::head::Head;
use tokio::sync::mpsc;

use self::application::{BYE, extended, http1, refuser};
use super::{
    world::{BOTH, Behind, Client, Heads, World, soon},
    *,
};

/// Before an application that agrees to tunnels.
async fn agreeable(behind: Behind) -> World {
    let (application, heads) = http1().await;
    World::before(behind, application, heads, Protocol::Detect).await
}

/// A request to upgrade.
fn upgrade(method: &str, path: &str, protocol: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: \
         {protocol}\r\nmesh-upgrade: forged\r\nmesh-method: PUT\r\n{length}\r\n{body}"
    )
}

const PLAIN_GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

/// Says something, and the end; what the application says then comes all the same.
async fn talks(client: &mut Client) {
    for text in ["ahoy", "and more"] {
        client.say(text).await;
        client.hear(text).await;
    }
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, BYE);
}

#[tokio::test]
async fn h12_an_upgrade_behind_a_request_is_a_tunnel() {
    for behind in BOTH {
        for (method, protocol, body) in [
            ("GET", "websocket", ""),
            ("GET", "SPDY/3.1", ""),
            ("POST", "tcp", "with a body"),
        ] {
            let mut world = agreeable(behind).await;
            let mut client = world.client().await;
            client.say(PLAIN_GET).await;
            assert!(client.head().await.starts_with("HTTP/1.1 200 "));
            client.hear("good").await;
            client.say(&upgrade(method, "/chat", protocol, body)).await;
            let answer = client.head().await;
            let expected = format!("connection: upgrade\r\nupgrade: {protocol}\r\n");
            assert!(answer.starts_with("HTTP/1.1 101 "), "{behind:?}: {answer}");
            assert!(
                answer.contains(&expected) && !answer.contains("mesh-"),
                "{answer}"
            );
            talks(&mut client).await;
            world.head().await;
            let head = world.head().await;
            assert!(head.starts_with(&format!("{method} /chat ")), "{head}");
            assert!(
                head.contains(&expected) && !head.contains("mesh-"),
                "{head}"
            );
            assert!(head.ends_with(&format!("\r\n\r\n{body}")), "{head}");
            let counted = counted(&world.registry);
            assert!(counted.contains("status=\"1xx\"} 1"), "{counted}");
            assert!(!counted.contains("tcp_streams_total{"), "{counted}");
        }
    }
}

#[tokio::test]
async fn h12_a_declared_port_is_no_other() {
    let (application, heads) = http1().await;
    let world = World::before(Behind::Sidecar, application, heads, Protocol::Http1).await;
    let mut client = world.client().await;
    client.say(&upgrade("GET", "/chat", "websocket", "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    world.has_under_way(1).await;
    talks(&mut client).await;
    world.has_under_way(0).await;
    let counted = counted(&world.registry);
    assert!(counted.contains("status=\"1xx\"} 1"), "{counted}");
}

#[tokio::test]
async fn h12_an_upgrade_that_is_declined_leaves_http_as_it_is() {
    for behind in BOTH {
        let world = agreeable(behind).await;
        let mut client = world.client().await;
        for (path, status, named) in [
            ("/declined", "200", None),
            ("/nothing", "204", None),
            ("/required", "426", Some("upgrade: websocket\r\n")),
            ("/declined", "200", None),
        ] {
            client.say(&upgrade("GET", path, "other", "")).await;
            let answer = client.head().await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{behind:?}: {answer}");
            let kept = !answer.contains("connection: close") && !answer.contains("mesh-");
            assert!(kept && answer.contains(named.unwrap_or("")), "{answer}");
            if status != "204" {
                client.hear("good").await;
            }
        }
        client.say(PLAIN_GET).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn h12_what_comes_early_behind_a_refusal_is_no_request() {
    for behind in BOTH {
        for request in [
            upgrade("GET", "/declined", "other", ""),
            "CONNECT refused:1 HTTP/1.1\r\nhost: refused:1\r\n\r\n".to_owned(),
        ] {
            let mut world = agreeable(behind).await;
            let mut client = world.client().await;
            client.say(&format!("{request}{PLAIN_GET}")).await;
            let answer = client.head().await;
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert!(!client.rest().await.contains("HTTP/1.1"));
            world.head().await;
            assert!(
                world.heads.try_recv().is_err(),
                "it was taken for a request"
            );
        }
    }
}

#[tokio::test]
async fn h12_a_connect_reaches_the_application_as_one_and_leads_nowhere_else() {
    for behind in BOTH {
        // The last is what our own streams of bytes look like.
        for authority in ["shop.example:443", "[fd00::1]:1", "mesh.tcp:0"] {
            let mut world = agreeable(behind).await;
            let mut client = world.client().await;
            let request = format!(
                "CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nmesh-proto: \
                 tcp\r\nmesh-port: 1\r\nx-kept: 1\r\n\r\n"
            );
            client.say(&request).await;
            assert!(client.head().await.starts_with("HTTP/1.1 200 "));
            talks(&mut client).await;
            let head = world.head().await;
            let expected = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n");
            assert!(head.starts_with(&expected), "{behind:?}: {head}");
            assert!(
                head.contains("x-kept: 1\r\n") && !head.contains("mesh-p"),
                "{head}"
            );
        }
    }
}

#[tokio::test]
async fn h12_a_connect_in_a_wrong_form_reaches_nobody() {
    let mut world = agreeable(Behind::Sidecar).await;
    for target in ["/", "web", "http://web:80/", "web:80/x", "web:"] {
        let mut client = world.client().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: web:80\r\n\r\n");
        client.say(&request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert!(world.heads.try_recv().is_err());
}

#[tokio::test]
async fn h12_an_upgrade_that_is_not_carried_is_a_request_like_any_other() {
    let websocket = upgrade("GET", "/chat", "websocket", "");
    let old = websocket.replace("HTTP/1.1", "HTTP/1.0");
    for behind in BOTH {
        let mut world = agreeable(behind).await;
        for request in [
            upgrade("GET", "/chat", "h2c", ""),
            upgrade("GET", "/chat", "websocket, h2c", ""),
            upgrade("POST", "/chat", "websocket", &"x".repeat(64 * 1024 + 1)),
            old.clone(),
        ] {
            let mut client = world.client().await;
            client.say(&request).await;
            let answer = client.head().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{behind:?}: {answer}");
            let head = world.head().await;
            assert!(!head.contains("upgrade"), "{head}");
        }
    }
}

#[tokio::test]
async fn h12_a_tunnel_that_breaks_off_breaks_off() {
    for behind in BOTH {
        let world = agreeable(behind).await;
        let mut client = world.client().await;
        client.say(&upgrade("GET", "/reset", "other", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.say("x").await;
        let error = soon(client.0.read_u8()).await.unwrap_err();
        let expected = std::io::ErrorKind::ConnectionReset;
        assert_eq!(error.kind(), expected, "{behind:?}");
    }
}

#[tokio::test]
async fn h12_sidecars_that_leave_let_a_tunnel_end_by_itself() {
    let root = TestRoot::new("west");
    let (application, heads) = http1().await;
    let server = Server::before(root.tls(SERVER), application);
    let target = first_of(vec![vec![server.endpoint()]]);
    let world = World::to(&root, target, heads, Protocol::Detect).await;
    let mut client = world.client().await;
    client.say(&upgrade("GET", "/chat", "websocket", "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    let mut idle = world.client().await;
    idle.say(PLAIN_GET).await;
    assert!(idle.head().await.starts_with("HTTP/1.1 200 "));
    idle.hear("good").await;
    world.leaving.trigger();
    server.leaving.trigger();
    // By then they have begun to leave.
    assert_eq!(idle.rest().await, "");
    talks(&mut client).await;
    soon(server.ended()).await;
}

/// An application that reads a request and leaves.
async fn leaves() -> (SocketAddr, Arc<AtomicUsize>) {
    let received = Arc::new(AtomicUsize::new(0));
    (
        application(Habit::BreaksOff, received.clone()).await,
        received,
    )
}

#[tokio::test]
async fn h12_nobody_is_asked_for_a_tunnel_twice() {
    let root = TestRoot::new("west");
    for behind in BOTH {
        let ((leaving, received), (good, heads)) = (leaves().await, http1().await);
        let endpoints = [leaving, good].map(|application| behind.endpoint(&root, application));
        let backends = endpoints.into_iter().map(|endpoint| vec![endpoint]);
        let target = first_of(backends.collect());
        let mut world = World::to(&root, target, heads, Protocol::Http1).await;
        let mut client = world.client().await;
        client.say(&upgrade("GET", "/chat", "other", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 502 "));
        assert_eq!(received.load(Ordering::SeqCst), 1);
        assert!(world.heads.try_recv().is_err());
    }
}

#[tokio::test]
async fn h12_a_tunnel_that_nobody_has_heard_of_is_asked_for_elsewhere() {
    let root = TestRoot::new("west");
    let (application, heads) = http1().await;
    let (dead, _) = dead().await;
    // Its sidecar is there, and its application is not.
    let closed = TcpListener::bind((HOST, 0)).await.unwrap();
    let gone = Server::before(root.tls(SERVER), closed.local_addr().unwrap()).endpoint();
    drop(closed);
    let good = Server::before(root.tls(SERVER), application).endpoint();
    let target = first_of(vec![vec![dead], vec![gone], vec![good]]);
    let world = World::to(&root, target, heads, Protocol::Http1).await;
    for request in [
        upgrade("POST", "/chat", "other", "body"),
        "CONNECT shop:1 HTTP/1.1\r\nhost: shop:1\r\n\r\n".to_owned(),
    ] {
        let mut client = world.client().await;
        client.say(&request).await;
        let answer = client.head().await;
        let agreed = ["HTTP/1.1 101 ", "HTTP/1.1 200 "];
        assert!(
            agreed.iter().any(|line| answer.starts_with(line)),
            "{answer}"
        );
        talks(&mut client).await;
    }
}

fn connect(authority: &str) -> Head {
    Head::request("CONNECT", authority, "").unwrap()
}

fn websocket() -> Head {
    let mut head = connect("web");
    head.set_scheme(b"http").unwrap();
    head.set_path(b"/chat").unwrap();
    head.set_protocol(Some(b"websocket")).unwrap();
    head
}

async fn answered(exchange: &Exchange) -> u16 {
    loop {
        if let Answer::Final { head, .. } = soon(exchange.answer()).await.unwrap() {
            return head.status().unwrap();
        }
    }
}

#[tokio::test]
async fn h12_a_connect_of_http2_reaches_the_application_as_it_was() {
    for behind in BOTH {
        let (application, heads) = extended().await;
        let mut world = World::before(behind, application, heads, Protocol::Detect).await;
        let conduit = world.http2().await;
        for (head, seen) in [
            (websocket(), "CONNECT web /chat websocket"),
            (connect("shop:443"), "CONNECT shop:443  -"),
            (connect("mesh.tcp:0"), "CONNECT mesh.tcp:0  -"),
        ] {
            let exchange = conduit.open(&head, false).unwrap();
            // What comes before the answer waits for it.
            exchange.send(b"ahoy", true).await.unwrap();
            assert_eq!(answered(&exchange).await, 200, "{behind:?} {seen}");
            let mut back = String::new();
            let mut stream = ByteStream::new(exchange);
            soon(stream.read_to_string(&mut back)).await.unwrap();
            assert_eq!(back, format!("ahoy{BYE}"));
            assert_eq!(world.head().await, seen);
        }
        let exchange = conduit.open(&connect("refused:1"), false).unwrap();
        assert_eq!(answered(&exchange).await, 403);
    }
}

#[tokio::test]
async fn h12_an_application_that_takes_no_extended_connect_is_not_asked() {
    for behind in BOTH {
        let (_unread, heads) = mpsc::channel(1);
        let world = World::before(behind, refuser().await, heads, Protocol::Http2).await;
        let exchange = world.http2().await.open(&websocket(), false).unwrap();
        assert_eq!(answered(&exchange).await, 501, "{behind:?}");
    }
}
