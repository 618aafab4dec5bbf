//! A reader that stops: over pipes, and by a clock that goes on when nothing moves
//! any more.

use std::{sync::Arc, time::Duration};

use mesh_drive::{
    conduit::{self, Conduit, Request, Version},
    exchange::{Broken, Chunk, Exchange},
};
use mesh_http::{
    fault::{Code, ResetReason},
    head::Head,
    limits::{Bound, Budget, Limits},
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::place::{DEADLINE, answer, body, get, limits, pass_on, soon};

const PIPE: usize = 64 * 1024;
/// More than a client, a proxy and an origin hold together.
const LARGE: usize = 16 << 20;

/// A client and an origin, with a proxy between them.
struct Chain {
    client: Conduit,
    /// The proxy's connections.
    down: Conduit,
    up: Conduit,
    requests: mpsc::Receiver<Request>,
}

impl Chain {
    /// Of a proxy that bears this.
    fn bearing(bears: &Arc<Limits>) -> Self {
        let (near, ours) = tokio::io::duplex(PIPE);
        let (onward, far) = tokio::io::duplex(PIPE);
        let (tell, requests) = mpsc::channel(10);
        // What the test does not ask for is given up.
        let take = move |request| drop(tell.try_send(request));
        let (_, life) = conduit::serve(far, Version::Http2, limits(), take);
        tokio::spawn(life);
        let (up, life) = conduit::connect(onward, Version::Http2, bears.clone());
        tokio::spawn(life);
        let to = up.clone();
        let pass = move |request| drop(tokio::spawn(pass_on(to.clone(), request)));
        let (down, life) = conduit::serve(ours, Version::Http2, bears.clone(), pass);
        tokio::spawn(life);
        let (client, life) = conduit::connect(near, Version::Http2, limits());
        tokio::spawn(life);
        Self {
            client,
            down,
            up,
            requests,
        }
    }

    /// A request of the client, and how its answer's body went, which is large.
    async fn asked(&mut self) -> (Exchange, JoinHandle<Result<(), Broken>>) {
        let exchange = self.client.open(&get("/"), true).unwrap();
        let request = soon(self.requests.recv()).await.unwrap();
        let answering = tokio::spawn(large(request));
        soon(answer(&exchange)).await.unwrap();
        (exchange, answering)
    }
}

async fn large(request: Request) -> Result<(), Broken> {
    let head = Head::response(200).unwrap();
    request.exchange.send_head(&head, false).unwrap();
    request.exchange.send(&vec![7; LARGE], true).await
}

#[tokio::test(start_paused = true)]
async fn h15_a_reader_that_stops_gives_back_all_that_is_held_for_it() {
    let bears = Arc::new(Limits {
        write_time: Duration::from_millis(500),
        budget: Arc::new(Budget::new(64 << 20)),
        ..Limits::default()
    });
    let mut chain = Chain::bearing(&bears);
    // Before it is known how long a round trip takes, no window grows.
    chain.up.ping(DEADLINE).await.unwrap();
    let (exchange, answering) = chain.asked().await;
    let mut read = 0;
    while read < 2 << 20 {
        match soon(exchange.chunk()).await.unwrap() {
            Chunk::Data(data) => read += data.len(),
            end => panic!("{end:?} of the body"),
        }
    }
    assert!(bears.budget.granted() > 0, "no window has grown");
    // From now on it reads nothing.
    let start = Instant::now();
    let answered = soon(answering).await.unwrap();
    let is_reset = matches!(answered, Err(Broken::Reset(ResetReason::Peer(_))));
    assert!(is_reset, "{answered:?}");
    let (took, time) = (start.elapsed(), bears.write_time);
    assert!(took >= time && took < 2 * time, "{took:?}");
    let reset = Broken::Reset(ResetReason::Peer(Code::Cancel));
    assert_eq!(soon(exchange.gone()).await, reset);
    assert_eq!(bears.struck.times(Bound::WriteTime), 1);
    assert_eq!(bears.budget.granted(), 0);
    assert_eq!((chain.down.streams(), chain.up.streams()), (0, 0));

    // The connections are as good as before.
    let (exchange, answering) = chain.asked().await;
    let (all, _) = soon(body(&exchange)).await.unwrap();
    assert_eq!(all.len(), LARGE);
    assert_eq!(soon(answering).await.unwrap(), Ok(()));
    assert_eq!((chain.down.streams(), chain.up.streams()), (0, 0));
    assert_eq!(bears.budget.granted(), 0);
}
