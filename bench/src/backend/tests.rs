//! Client and back end over loopback: what one asks for the other answers, and
//! each sees what is wrong.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::*;
use crate::load::{
    bulk::{ECHO, UP},
    carrier::Version,
    idle,
    requests::{GRPC_MESSAGE, Kind},
    session::{Asked, Session},
};

const LONG: Duration = Duration::from_secs(20);

/// A back end, its port of requests, and its port of bytes.
fn backend() -> (Backend, SocketAddr, SocketAddr) {
    let listeners = [(); 2].map(|()| listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap());
    let [http, bytes] = [0, 1].map(|at: usize| listeners[at].local_addr().unwrap());
    (Backend::on(listeners, &[0]), http, bytes)
}

/// Sends so many requests at once and waits for all answers.
fn ask(address: SocketAddr, version: Version, kind: Kind, count: usize) -> Result<usize> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut asked = Asked::new(kind, "web:8000")?;
    let mut session = Session::open(address, version, &epoll, 0)?;
    let (mut scratch, mut events) = (Scratch::new(), [EpollEvent::empty(); 1]);
    let (start, mut sent, mut answered) = (Instant::now(), 0, 0);
    while answered < count {
        assert!(start.elapsed() < LONG, "{answered} of {count} answers");
        let now = Instant::now();
        while sent < count && session.has_room() {
            session.ask(&mut asked, now, now)?;
            sent += 1;
        }
        session.flush(&epoll, now)?;
        epoll.wait(&mut events, TICK)?;
        session.read(&mut scratch, &asked, now, |_| {
            answered += 1;
            Ok(())
        })?;
    }
    Ok(answered)
}

#[test]
fn every_kind_of_request_is_answered_rightly() {
    let (backend, http, _) = backend();
    for (version, kind, count) in [
        (Version::Http1, Kind::Get(0), 20),
        (Version::Http1, Kind::Get(1024), 20),
        (Version::Http1, Kind::Post(64 << 10), 5),
        (Version::Http1, Kind::Post(3 << 20), 2),
        (Version::Http2, Kind::Get(1024), 100),
        (Version::Http2, Kind::Post(1 << 20), 5),
        (Version::Http2, Kind::Grpc(GRPC_MESSAGE), 100),
    ] {
        let answered = ask(http, version, kind, count);
        let answered = answered.unwrap_or_else(|error| panic!("{version:?} {kind:?}: {error:#}"));
        assert_eq!(answered, count, "{version:?} {kind:?}");
    }
    backend.check().unwrap();
}

#[test]
fn a_request_with_a_wrong_byte_is_seen_at_the_back_end() {
    let (backend, http, _) = backend();
    let mut client = TcpStream::connect(http).unwrap();
    let request = "POST /bytes/4 HTTP/1.1\r\nhost: web\r\nx-request-id: 1\r\n\
        content-length: 4\r\n\r\nxxxx";
    client.write_all(request.as_bytes()).unwrap();
    // It is closed for that.
    let _ = client.read(&mut [0; 100]);
    let fault = backend.check().unwrap_err().to_string();
    assert!(fault.contains("in a request"), "{fault}");
}

#[test]
fn an_answer_to_something_else_is_seen_at_the_client() {
    let (_backend, http, _) = backend();
    let impostor = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = impostor.local_addr().unwrap();
    // What passes between is the real answer, but for the id.
    std::thread::spawn(move || {
        let (mut client, _) = impostor.accept().unwrap();
        let mut server = TcpStream::connect(http).unwrap();
        let mut bytes = [0; 8192];
        let length = client.read(&mut bytes).unwrap();
        server.write_all(&bytes[..length]).unwrap();
        let length = server.read(&mut bytes).unwrap();
        let answer = String::from_utf8_lossy(&bytes[..length]);
        let answer = answer.replace("0000000000000001", "0000000000000002");
        client.write_all(answer.as_bytes()).unwrap();
    });
    let error = ask(address, Version::Http1, Kind::Get(100), 1).unwrap_err();
    assert!(error.to_string().contains("another request"), "{error:#}");
}

#[test]
fn bytes_are_counted_and_returned() {
    let (backend, _, bytes) = backend();
    assert_eq!(idle::tcp(bytes, 3).unwrap().len(), 3);
    let mut client = TcpStream::connect(bytes).unwrap();
    client.write_all(&[UP]).unwrap();
    client
        .write_all(crate::load::payload::payload(0, 100_000))
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut counted = [0; 8];
    client.read_exact(&mut counted).unwrap();
    assert_eq!(u64::from_be_bytes(counted), 100_000);
    backend.check().unwrap();
    // The first byte of an echo is part of it.
    let mut client = TcpStream::connect(bytes).unwrap();
    client.write_all(&[ECHO, 7]).unwrap();
    let mut echo = [0; 2];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(echo, [ECHO, 7]);
}

#[test]
fn bytes_that_are_not_what_was_sent_are_seen() {
    let (backend, _, bytes) = backend();
    let mut client = TcpStream::connect(bytes).unwrap();
    client.write_all(&[UP, b'?']).unwrap();
    // It is closed for that.
    let _ = client.read(&mut [0; 8]);
    assert!(backend.check().is_err());
}
