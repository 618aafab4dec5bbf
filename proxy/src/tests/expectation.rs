//! Bodies that a client keeps until the server asks for them (RFC 9110 §10.1.1),
//! and requests that go elsewhere before anything of their body has left.

use mesh_drive::{
    conduit::Version,
    exchange::{Answer, Exchange},
};
use mesh_http::head::Head;
use tokio::sync::mpsc;

use super::{
    played::{Played, answered, body, client},
    world::{BOTH, Behind, Client, World, plain, soon},
    *,
};

/// An application whose part the test plays.
struct Application(TcpListener);

impl Application {
    async fn new() -> Self {
        Self(TcpListener::bind((HOST, 0)).await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&self) -> Client {
        Client(soon(self.0.accept()).await.unwrap().0)
    }

    /// A client whose requests come here.
    async fn client(&self, behind: Behind) -> Client {
        let (_, heads) = mpsc::channel(1);
        let world = World::before(behind, self.address(), heads, Protocol::Detect).await;
        world.client().await
    }
}

/// The head of a request whose body its client keeps.
const KEPT: &str = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\nexpect: \
                    100-continue\r\n\r\n";

/// A client that has said that much, and the application, which has read it.
async fn kept(behind: Behind) -> (Client, Client) {
    let application = Application::new().await;
    let mut client = application.client(behind).await;
    client.say(KEPT).await;
    let mut server = application.accept().await;
    server.head().await;
    (client, server)
}

const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

#[tokio::test]
async fn h10_the_application_asks_for_a_body_and_nobody_else_does() {
    for behind in BOTH {
        let application = Application::new().await;
        let mut client = application.client(behind).await;
        client.say(KEPT).await;
        let mut server = application.accept().await;
        let head = server.head().await;
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        server.say("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        server.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        for said in ["HTTP/1.1 103 ", "HTTP/1.1 100 "] {
            let heard = client.head().await;
            assert!(heard.starts_with(said), "{behind:?}: {heard}");
        }
        client.say("body").await;
        server.hear("body").await;
        server.say(DONE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{behind:?}: {answer}");
        client.hear("good").await;
        // Both connections are as good as before.
        client.say(KEPT).await;
        server.head().await;
    }
}

#[tokio::test]
async fn h10_a_body_that_is_not_wanted_is_never_asked_for() {
    for behind in BOTH {
        let (mut client, mut server) = kept(behind).await;
        server
            .say("HTTP/1.1 417 No\r\ncontent-length: 2\r\n\r\nno")
            .await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 417 "), "{behind:?}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(client.rest().await, "no");
        // What the client may send yet can never be taken for a body there.
        assert_eq!(server.rest().await, "");
    }
}

/// Some servers do not know of it, and some clients wait without an end.
#[tokio::test]
async fn h10_a_body_that_nobody_asks_for_is_asked_for_in_the_end() {
    for behind in BOTH {
        let (mut client, mut server) = kept(behind).await;
        let asked = client.head().await;
        assert!(asked.starts_with("HTTP/1.1 100 "), "{behind:?}: {asked}");
        client.say("body").await;
        server.hear("body").await;
        // Too late, and nothing new.
        server.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        server.say(DONE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{behind:?}: {answer}");
    }
}

#[tokio::test]
async fn h10_a_client_that_does_not_wait_is_served_as_well() {
    for behind in BOTH {
        let application = Application::new().await;
        let mut client = application.client(behind).await;
        client.say(KEPT).await;
        client.say("body").await;
        let mut server = application.accept().await;
        server.head().await;
        server.hear("body").await;
        server.say(DONE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{behind:?}: {answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

/// A sidecar without its application.
async fn gone(root: &TestRoot) -> Endpoint {
    let closed = Application::new().await.address();
    Server::before(root.tls(SERVER), closed).endpoint()
}

#[tokio::test]
async fn r3_a_body_that_nobody_has_received_goes_elsewhere() {
    let root = TestRoot::new("west");
    let chunked = "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n";
    for (head, body, arrives) in [
        (KEPT, "body", "body"),
        (chunked, "4\r\nbody\r\n0\r\n\r\n", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let application = Application::new().await;
        let good = Server::before(root.tls(SERVER), application.address()).endpoint();
        let closed = plain(Application::new().await.address());
        let endpoints = [dead().await.0, gone(&root).await, closed, good];
        let target = first_of(endpoints.map(|endpoint| vec![endpoint]).into());
        let (_, heads) = mpsc::channel(1);
        let world = World::to(&root, target, heads, Protocol::Http1).await;
        let mut client = world.client().await;
        client.say(head).await;
        let mut server = application.accept().await;
        server.head().await;
        client.say(body).await;
        server.hear(arrives).await;
        server.say(DONE).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn r4_a_body_of_which_some_is_gone_goes_nowhere_else() {
    let root = TestRoot::new("west");
    let application = Application::new().await;
    let good = Server::before(root.tls(SERVER), application.address()).endpoint();
    let target = first_of(vec![vec![gone(&root).await], vec![good]]);
    let (_, heads) = mpsc::channel(1);
    let world = World::to(&root, target, heads, Protocol::Http1).await;
    let mut client = world.client().await;
    let post = "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n";
    client.say(post).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let told = client.rest().await;
    assert!(told.contains("the endpoint is gone"), "{told}");
}

/// What is said before the answer.
async fn hint(exchange: &Exchange) -> Head {
    match soon(exchange.answer()).await.unwrap() {
        Answer::Informational(head) => head,
        Answer::Final { head, .. } => panic!("{head:?} is the answer"),
    }
}

#[tokio::test]
async fn h10_over_http2_the_application_asks_for_a_body_and_nobody_else_does() {
    for behind in BOTH {
        let mut application = Played::new(Version::Http2).await;
        let client = client(behind, application.address).await;
        let mut head = Head::request("POST", "web", "/").unwrap();
        for (name, value) in [("content-length", "4"), ("expect", "100-continue")] {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let exchange = client.open(&head, false).unwrap();
        let request = application.asked().await;
        assert!(request.head.expects_continue(), "{behind:?}");
        for status in [103, 100] {
            let said = Head::response(status).unwrap();
            request.exchange.send_head(&said, false).unwrap();
            let heard = hint(&exchange).await.status();
            assert_eq!(heard, Some(status), "{behind:?}");
        }
        exchange.send(b"body", true).await.unwrap();
        let (received, _) = body(&request.exchange).await.unwrap();
        assert_eq!(received, b"body", "{behind:?}");
        let answer = Head::response(200).unwrap();
        request.exchange.send_head(&answer, true).unwrap();
        assert_eq!(answered(&exchange).await, 200, "{behind:?}");
    }
}

#[tokio::test]
async fn over_http2_what_is_said_before_the_answer_is_passed_on() {
    for behind in BOTH {
        let mut application = Played::new(Version::Http2).await;
        let client = client(behind, application.address).await;
        let head = Head::request("GET", "web", "/").unwrap();
        let exchange = client.open(&head, true).unwrap();
        let request = application.asked().await.exchange;
        let mut hints = Head::response(103).unwrap();
        for (name, value) in [("link", "</a>"), ("mesh-port", "1")] {
            hints.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        request.send_head(&hints, false).unwrap();
        let heard = hint(&exchange).await;
        assert_eq!(heard.status(), Some(103), "{behind:?}");
        let fields: Vec<_> = heard.fields().collect();
        assert_eq!(fields, [(&b"link"[..], &b"</a>"[..])], "{behind:?}");
        let answer = Head::response(200).unwrap();
        request.send_head(&answer, true).unwrap();
        assert_eq!(answered(&exchange).await, 200, "{behind:?}");
    }
}
