//! Applications of HTTP/2 that answer what nobody can trust (RFC 9113 §8.1.1).

use mesh_drive::{
    conduit::Conduit,
    exchange::{Broken, Chunk, Exchange},
};
use mesh_http::{fault::ResetReason, head::Head};

use super::{
    frames::{DATA, END_STREAM, HEADERS, RST_STREAM, Wire, frame, headers},
    played::{answered, client},
    world::{BOTH, Behind, soon},
    *,
};

/// A client, and an application that says what the test says, frame by frame.
struct Place {
    client: Conduit,
    listener: TcpListener,
}

impl Place {
    async fn new(behind: Behind) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        Self {
            client: client(behind, listener.local_addr().unwrap()).await,
            listener,
        }
    }

    /// Asks for what nobody may ask for twice.
    fn ask(&self) -> Exchange {
        let head = Head::request("POST", "web", "/").unwrap();
        self.client.open(&head, true).unwrap()
    }

    /// The application's end of the next connection, and the first stream on it.
    async fn accept(&self) -> (Wire<TcpStream>, u32) {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        let mut application = Wire::server(socket).await;
        let stream = application.next(HEADERS).await.stream;
        (application, stream)
    }

    /// The next request comes on the same connection, and is answered.
    async fn goes_on(&self, mut application: Wire<TcpStream>) {
        let asked = self.ask();
        let stream = application.next(HEADERS).await.stream;
        application.say(&ok(stream, END_STREAM)).await;
        assert_eq!(answered(&asked).await, 200);
    }
}

/// What an application says on a stream.
type Says = fn(u32) -> Vec<u8>;

/// A request, and the application that says this to it.
async fn told(behind: Behind, says: Says) -> (Place, Exchange, Wire<TcpStream>, u32) {
    let place = Place::new(behind).await;
    let asked = place.ask();
    let (mut application, stream) = place.accept().await;
    application.say(&says(stream)).await;
    (place, asked, application, stream)
}

fn ok(stream: u32, flags: u8) -> Vec<u8> {
    headers(stream, flags, &[(":status", "200")])
}

fn of_length(stream: u32, length: &str) -> Vec<u8> {
    let head = headers(stream, 0, &[(":status", "200"), ("content-length", length)]);
    [head, frame(DATA, END_STREAM, stream, b"four")].concat()
}

/// A head with so much in it.
fn large(stream: u32, bytes: usize) -> Vec<u8> {
    let value = "v".repeat(bytes);
    headers(stream, END_STREAM, &[(":status", "200"), ("x", &value)])
}

#[tokio::test]
async fn h11_an_answer_over_http2_that_is_none_is_502() {
    let cases: [(&str, Says); 3] = [
        ("endless 1xx", |stream| {
            headers(stream, 0, &[(":status", "103")]).repeat(33)
        }),
        ("a head that is too large", |stream| large(stream, 70_000)),
        ("no head", |stream| frame(DATA, END_STREAM, stream, b"four")),
    ];
    for (what, says) in cases {
        for behind in BOTH {
            let (place, asked, mut application, stream) = told(behind, says).await;
            assert_eq!(answered(&asked).await, 502, "{what} {behind:?}");
            assert_eq!(application.next(RST_STREAM).await.stream, stream);
            // It is a mistake of that stream alone.
            place.goes_on(application).await;
        }
    }
}

#[tokio::test]
async fn h11_an_answer_over_http2_that_goes_wrong_breaks_off() {
    let cases: [(&str, Says); 4] = [
        ("a second head", |stream| ok(stream, 0).repeat(2)),
        ("a second answer", |stream| {
            [ok(stream, 0), ok(stream, END_STREAM)].concat()
        }),
        ("less than its length", |stream| of_length(stream, "5")),
        ("more than its length", |stream| of_length(stream, "3")),
    ];
    for (what, says) in cases {
        for behind in BOTH {
            let (place, asked, mut application, stream) = told(behind, says).await;
            assert_eq!(answered(&asked).await, 200, "{what} {behind:?}");
            let end = soon(asked.chunk()).await;
            let is_reset = matches!(end, Err(Broken::Reset(ResetReason::Peer(_))));
            assert!(is_reset, "{what} {behind:?}: {end:?}");
            assert_eq!(application.next(RST_STREAM).await.stream, stream);
            place.goes_on(application).await;
        }
    }
}

/// Its head is the whole answer, wherever its end is said.
#[tokio::test]
async fn h11_what_comes_behind_a_204_over_http2_makes_it_a_502() {
    for behind in BOTH {
        for (body, status) in [("", 204), ("four", 502)] {
            let place = Place::new(behind).await;
            let asked = place.ask();
            let (mut application, stream) = place.accept().await;
            let head = headers(stream, 0, &[(":status", "204")]);
            let body = frame(DATA, END_STREAM, stream, body.as_bytes());
            application.say(&[head, body].concat()).await;
            assert_eq!(answered(&asked).await, status, "{behind:?}");
            if status == 204 {
                let end = soon(asked.chunk()).await;
                assert!(matches!(end, Ok(Chunk::End)), "{behind:?}: {end:?}");
            } else {
                assert_eq!(application.next(RST_STREAM).await.stream, stream);
            }
            place.goes_on(application).await;
        }
    }
}

#[tokio::test]
async fn h11_a_connection_of_http2_at_fault_is_not_used_again() {
    let cases: [(&str, Says, u16); 2] = [
        // More than is read for the sake of telling that it is too large.
        (
            "a head without an end",
            |stream| large(stream, 140_000),
            502,
        ),
        (
            "two answers",
            |stream| ok(stream, END_STREAM).repeat(2),
            200,
        ),
    ];
    for (what, says, status) in cases {
        for behind in BOTH {
            let (place, asked, mut application, _) = told(behind, says).await;
            assert_eq!(answered(&asked).await, status, "{what} {behind:?}");
            application.ended().await;
            let next = place.ask();
            let (mut application, stream) = place.accept().await;
            application.say(&ok(stream, END_STREAM)).await;
            assert_eq!(answered(&next).await, 200, "{what} {behind:?}");
        }
    }
}
