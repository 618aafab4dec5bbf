//! A client, both sidecars and an application, joined by pipes, on one thread and
//! without a clock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_drive::{
    conduit::{self, Conduit, Request, Version},
    exchange::{Answer, Exchange},
};
use mesh_http::{
    head::{Head, Invalid},
    limits::Limits,
};
use mesh_wire::{forward::is_ours, mesh1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime,
    task::yield_now,
    time::sleep,
};

use super::strict::{self, Message, Next};

/// What an application does with requests.
#[derive(Clone)]
pub(super) enum Habit {
    /// Answers each with what it asks for.
    Good,
    /// Says this at the first of each connection, and nothing else; it may close
    /// its side then.
    Says(Vec<u8>, bool),
}

/// What has come out.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) to_client: Vec<u8>,
    /// For each connection to the application.
    pub(super) to_application: Vec<Vec<u8>>,
    /// Whole requests, in the order in which they came.
    pub(super) arrived: Vec<Message>,
}

/// Whom the application is told that it serves.
pub(super) const CLIENT: &str = "spiffe://west/ns/shop/sa/client";
/// A field of our own refusals.
pub(super) const REFUSED: &str = "x-refused";
/// What a pipe holds.
const PIPE: usize = 64 * 1024;

type Log = Arc<Mutex<Carried>>;

/// Sends these pieces from a client to an application of this habit.
pub(super) fn carry(pieces: Vec<Vec<u8>>, habit: Habit) -> Carried {
    let log = Log::default();
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let to_client = runtime.block_on(async {
        let client = sidecars(&log, habit);
        converse(client, pieces).await
    });
    drop(runtime);
    let mut carried = std::mem::take(&mut *log.lock().expect("nobody has panicked"));
    carried.to_client = to_client;
    carried
}

/// Writes piece by piece, and ends when nothing happens any more; what came back.
async fn converse(client: DuplexStream, pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(client);
    let answered = Arc::new(Mutex::new(Vec::new()));
    let all = answered.clone();
    tokio::spawn(async move {
        let mut some = Vec::new();
        while read.read_buf(&mut some).await.is_ok_and(|read| read > 0) {
            all.lock().expect("nobody has panicked").append(&mut some);
        }
    });
    for piece in pieces {
        if write.write_all(&piece).await.is_err() {
            break;
        }
        yield_now().await;
    }
    quiet().await;
    let _ = write.shutdown().await;
    quiet().await;
    std::mem::take(&mut *answered.lock().expect("nobody has panicked"))
}

/// Time passes only while there is nothing to do: a moment, so that no deadline
/// is reached.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

/// Both; the client's end.
fn sidecars(log: &Log, habit: Habit) -> DuplexStream {
    let (client, outbound) = duplex(PIPE);
    let (from_a, to_b) = duplex(PIPE);
    let (mesh, life) = conduit::connect(from_a, Version::Http2, limits());
    tokio::spawn(life);
    let serve = move |request| drop(tokio::spawn(of_client(request, mesh.clone())));
    let (_, life) = conduit::serve(outbound, Version::Http1, limits(), serve);
    tokio::spawn(life);
    let (log, kept) = (log.clone(), Arc::new(Mutex::new(None)));
    let serve = move |request| {
        let application = application(&log, &kept, &habit);
        tokio::spawn(of_peer(request, application));
    };
    let (_, life) = conduit::serve(to_b, Version::Http2, limits(), serve);
    tokio::spawn(life);
    client
}

/// The connection that is kept, if it takes one more request, or a new one.
fn application(log: &Log, kept: &Mutex<Option<Conduit>>, habit: &Habit) -> Conduit {
    let mut kept = kept.lock().expect("nobody has panicked");
    if let Some(conduit) = kept.as_ref().filter(|conduit| conduit.can_open()) {
        return conduit.clone();
    }
    let (ours, theirs) = duplex(PIPE);
    let (conduit, life) = conduit::connect(ours, Version::Http1, limits());
    tokio::spawn(life);
    tokio::spawn(serve(theirs, log.clone(), habit.clone()));
    *kept = Some(conduit.clone());
    conduit
}

/// A's part.
async fn of_client(request: Request, mesh: Conduit) {
    if request.head.is_connect() {
        return refuse(&request.exchange, 405);
    }
    let Ok(head) = outgoing(request.head) else {
        return refuse(&request.exchange, 400);
    };
    pass_on(&request.exchange, request.end, &mesh, &head).await;
}

fn outgoing(mut head: Head) -> Result<Head, Invalid> {
    clean(&mut head);
    head.set_upgrade(None)?;
    head.set_scheme(b"http")?;
    if head.authority().is_none_or(<[u8]>::is_empty) {
        head.set_authority(b"unknown")?;
    }
    head.push(mesh1::PORT.as_bytes(), b"80")?;
    head.push(
        mesh1::PROTO.as_bytes(),
        mesh1::Carried::Http1.as_str().as_bytes(),
    )?;
    Ok(head)
}

/// B's part.
async fn of_peer(request: Request, application: Conduit) {
    let Ok(head) = incoming(request.head) else {
        return refuse(&request.exchange, 400);
    };
    pass_on(&request.exchange, request.end, &application, &head).await;
}

fn incoming(mut head: Head) -> Result<Head, Invalid> {
    assert_eq!(head.get_single(mesh1::PORT.as_bytes()), Some(&b"80"[..]));
    clean(&mut head);
    head.push(mesh1::CLIENT_ID.as_bytes(), CLIENT.as_bytes())?;
    Ok(head)
}

fn clean(head: &mut Head) {
    head.retain(|name, _| !is_ours(name));
}

async fn pass_on(client: &Exchange, end: bool, onward: &Conduit, head: &Head) {
    let Ok(up) = onward.open(head, end) else {
        return refuse(client, 502);
    };
    client.join(&up, clean);
    loop {
        match up.answer().await {
            Ok(Answer::Informational(mut head)) => {
                clean(&mut head);
                let _ = client.send_head(&head, false);
            }
            Ok(Answer::Final { mut head, end }) => {
                clean(&mut head);
                if client.send_head(&head, end).is_ok() {
                    up.join(client, clean);
                }
                return;
            }
            Err(_) => return refuse(client, 502),
        }
    }
}

fn refuse(client: &Exchange, status: u16) {
    let mut head = Head::response(status).expect("a status");
    head.push(REFUSED.as_bytes(), b"yes").expect("a field");
    // It may have left.
    let _ = client.send_head(&head, true);
}

/// The application's end of a connection.
async fn serve(socket: DuplexStream, log: Log, habit: Habit) {
    let number = {
        let mut log = log.lock().expect("nobody has panicked");
        log.to_application.push(Vec::new());
        log.to_application.len() - 1
    };
    let (mut read, mut write) = tokio::io::split(socket);
    let (mut used, mut has_said, mut buffer) = (0, false, Vec::new());
    while read.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        log.lock().expect("nobody has panicked").to_application[number].clone_from(&buffer);
        while let Next::Whole(message, length) = strict::request(&buffer[used..]) {
            used += length;
            let said = match &habit {
                Habit::Good => good(&message),
                Habit::Says(text, _) if !has_said => text.clone(),
                Habit::Says(..) => Vec::new(),
            };
            has_said = true;
            log.lock()
                .expect("nobody has panicked")
                .arrived
                .push(message);
            let _ = write.write_all(&said).await;
            if matches!(habit, Habit::Says(_, true)) {
                let _ = write.shutdown().await;
            }
        }
    }
}

fn good(request: &Message) -> Vec<u8> {
    let told = told(request);
    let length = told.len();
    let body = if request.first[0] == "HEAD" {
        ""
    } else {
        &*told
    };
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What a good application says of a request.
pub(super) fn told(request: &Message) -> String {
    format!("{:?} {}", request.first, request.body.len())
}
