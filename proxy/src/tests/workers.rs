//! Sidecars with two workers each.

use std::{
    collections::HashSet,
    pin::pin,
    sync::Mutex,
    thread::{self, ThreadId},
};

use mesh_drive::{
    conduit::{self, Request, Version},
    exchange::Chunk,
};
use mesh_http::{head::Head, limits::Limits};
use mesh_net::{accept::Accepted, spread::Dialler};
use mesh_runtime::{Workers, drain};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, yield_now},
};

use super::*;
use crate::{
    whole,
    workers::{Carrier, Shares},
};

/// Bytes of a request, and of its answer: several windows.
const N: usize = 300_000;

/// One side of a sidecar, with two workers.
struct Side {
    workers: Workers,
    spread: Spread,
    tasks: TaskTracker,
    shutdown: Shutdown,
    address: SocketAddr,
}

impl Side {
    /// With what `carrier` makes for each worker of the side's own address.
    async fn start<C: Carrier>(carrier: impl Fn(SocketAddr) -> Arc<C>) -> Self {
        let workers = Workers::start("2".parse().unwrap()).await.unwrap();
        let acceptor = Acceptor::new(listen((HOST, 0).into()).unwrap(), 100);
        let side = Self {
            spread: Spread::over(workers.runtimes()),
            tasks: TaskTracker::new(),
            shutdown: Shutdown::new(),
            address: acceptor.local_addr().unwrap(),
            workers,
        };
        let door = Door {
            acceptor,
            spread: side.spread.clone(),
            tasks: side.tasks.clone(),
            shutdown: side.shutdown.clone(),
        };
        let carriers = side.workers.each(|| carrier(side.address));
        side.tasks.spawn(door.serve(carriers));
        side
    }

    /// The inbound side.
    async fn inbound(root: &TestRoot) -> Self {
        let (tls, metrics) = (root.tls(SERVER), Metrics::default());
        Self::start(|address| inbound_of(tls.clone(), address.port(), metrics.clone())).await
    }

    /// Waits until it has so many connections on each worker.
    async fn has(&self, connections: [usize; 2]) {
        let counted = async {
            while self.spread.connections() != connections {
                yield_now().await;
            }
        };
        let in_time = timeout(LONG, counted).await;
        assert!(in_time.is_ok(), "{:?}", self.spread.connections());
    }
}

/// The outbound side on one worker, for clients that all mean the same Service;
/// notes on which threads it is.
struct Clients {
    outbound: Arc<Outbound>,
    target: Target,
    threads: Threads,
}

type Threads = Arc<Mutex<HashSet<ThreadId>>>;

impl Carrier for Clients {
    fn dialler(&self, _: &TcpStream) -> Dialler {
        Dialler::Client
    }

    fn bounds(&self) -> &Bounds {
        &self.outbound.bounds
    }

    async fn carry(self: Arc<Self>, accepted: Accepted, _: TaskTracker, shutdown: Shutdown) {
        self.threads.lock().unwrap().insert(thread::current().id());
        let limits = self.outbound.bounds.clients();
        let answer = move |request| {
            let (outbound, target) = (self.outbound.clone(), self.target.clone());
            outbound::http::answer(outbound, target, request)
        };
        serve::http(accepted.stream, Spoken::Http1, limits, &shutdown, answer).await;
        drop(accepted.slot);
    }
}

/// The outbound side of a client of this application behind this sidecar, and the
/// threads that it is on.
async fn outbound_to(root: &TestRoot, server: &Side, application: SocketAddr) -> (Side, Threads) {
    let target = first_of(vec![vec![endpoint(application, server.address.port())]]);
    let (tls, threads) = (root.tls(CLIENT), Threads::default());
    let clients = |_| {
        Arc::new(Clients {
            outbound: outbound_of(tls.clone(), Metrics::default()),
            target: target.clone(),
            threads: threads.clone(),
        })
    };
    (Side::start(clients).await, threads)
}

/// An application that gives each request to `answer`.
async fn application_that<A>(answer: impl Fn(Request) -> A + Clone + Send + 'static) -> SocketAddr
where
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            let serve = move |request| drop(tokio::spawn(answer(request)));
            let limits = Arc::new(Limits::default());
            let (_, life) = conduit::serve(socket, Version::Http1, limits, Box::new(serve));
            tokio::spawn(life);
        }
    });
    address
}

/// Says what it is told, while it is told.
async fn echo(Request { exchange, .. }: Request) {
    let mut head = Head::response(200).unwrap();
    let length = N.to_string();
    head.push(b"content-length", length.as_bytes()).unwrap();
    exchange.send_head(&head, false).unwrap();
    while let Chunk::Data(data) = exchange.chunk().await.unwrap() {
        exchange.send(&data, false).await.unwrap();
    }
    exchange.send(&[], true).await.unwrap();
}

/// Sends content and gets the same back, three times; the connection.
async fn converse(address: SocketAddr, client: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for round in 0..3 {
        let byte = |at: usize| (at % 251 + client * 31 + round) as u8;
        let content: Vec<u8> = (0..N).map(byte).collect();
        let (mut read, mut write) = stream.split();
        let send = async {
            let head = format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {N}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&content).await.unwrap();
        };
        let receive = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(read.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let mut body = vec![0; N];
            read.read_exact(&mut body).await.unwrap();
            body
        };
        let ((), body) = tokio::join!(send, receive);
        assert!(body == content, "client {client} has got something else");
    }
    stream
}

#[tokio::test]
async fn connections_of_all_workers_are_carried_from_end_to_end() {
    let root = TestRoot::new("west");
    let server = Side::inbound(&root).await;
    let (client, threads) = outbound_to(&root, &server, application_that(echo).await).await;
    let mut clients = JoinSet::new();
    for number in 0..6 {
        clients.spawn(converse(client.address, number));
    }
    let clients = timeout(LONG, clients.join_all()).await.unwrap();
    assert_eq!(client.spread.connections(), [3, 3]);
    let threads = threads.lock().unwrap().clone();
    assert!(threads.len() == 2 && threads.contains(&thread::current().id()));
    // Each worker of the client has a connection of its own, and they do not meet
    // on one of the server's.
    assert_eq!(server.spread.connections(), [1, 1]);
    drop(clients);
    client.has([0, 0]).await;
}

/// What comes until the end; then we leave.
async fn all_of(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn draining_waits_for_the_connections_of_all_workers() {
    let root = TestRoot::new("west");
    let (gate, received) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, count) = (gate.clone(), received.clone());
    let patient = application_that(move |Request { exchange, .. }| {
        let (opened, count) = (opened.clone(), count.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            opened.acquire().await.unwrap().forget();
            let head = Head::response(204).unwrap();
            exchange.send_head(&head, true).unwrap();
        }
    });
    let server = Side::inbound(&root).await;
    let (client, _) = outbound_to(&root, &server, patient.await).await;
    let mut clients = Vec::new();
    for number in 1..=2 {
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        stream.write_all(request).await.unwrap();
        clients.push(stream);
        let arrived = async {
            while received.load(Ordering::SeqCst) < number {
                yield_now().await;
            }
        };
        timeout(LONG, arrived).await.expect("a request");
    }

    client.shutdown.trigger();
    let mut drained = pin!(drain(&client.tasks, LONG));
    for (stream, left) in clients.into_iter().zip([[0, 1], [0, 0]]) {
        let is_waiting = timeout(Duration::ZERO, &mut drained).await.is_err();
        assert!(is_waiting, "something is under way until {left:?}");
        gate.add_permits(1);
        let answer = timeout(LONG, all_of(stream)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        client.has(left).await;
    }
    assert!(drained.await);
    assert!(client.workers.stop(LONG).await);
}

#[tokio::test]
async fn the_connections_of_each_worker_are_shown_if_there_are_several() {
    let shown = |spread: &Spread| {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shares(spread.clone())));
        counted(&registry)
    };
    let root = TestRoot::new("west");
    let server = Side::inbound(&root).await;
    let _client = TcpStream::connect(server.address).await.unwrap();
    server.has([1, 0]).await;
    let text = shown(&server.spread);
    assert!(
        text.contains("worker_connections{worker=\"0\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("worker_connections{worker=\"1\"} 0\n"),
        "{text}"
    );
    let alone = shown(&Spread::over(&server.workers.runtimes()[..1]));
    assert_eq!(alone, "# EOF\n");
}

#[tokio::test]
async fn a_listener_that_panics_ends_the_program() {
    let mut workers = Workers::start("2".parse().unwrap()).await.unwrap();
    let mut doors = JoinSet::new();
    // As one that was told to end.
    doors.spawn(async {});
    doors.spawn(async { panic!("on purpose") });
    let life = std::future::pending();
    let ended = timeout(LONG, whole(life, &mut workers, &mut doors)).await;
    let error = ended.unwrap().unwrap_err().to_string();
    assert!(error.contains("a listener's task has ended"), "{error}");
}

#[tokio::test]
async fn listeners_that_end_leave_the_program_time_for_its_connections() {
    let mut workers = Workers::start("2".parse().unwrap()).await.unwrap();
    let mut doors = JoinSet::new();
    doors.spawn(async {});
    let (end, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        for _ in 0..100 {
            yield_now().await;
        }
        end.send(()).unwrap();
    });
    let life = async { ended.await.unwrap() };
    let whole = timeout(LONG, whole(life, &mut workers, &mut doors)).await;
    assert!(whole.unwrap().is_ok());
}
