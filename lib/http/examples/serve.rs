//! A server that answers every request with some text, one thread for each
//! connection: for tools that try servers from outside, as `h2spec` does.
//!
//! `cargo run -p mesh-http --example serve -- 127.0.0.1:8080 http2`

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_http::{
    connection::Connection,
    event::{Event, Role, StreamId},
    head::Head,
    limits::Limits,
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
const TEXT: &[u8] = b"Every request is answered with this text.\n";

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let http2 = arguments.next().is_some_and(|version| version == "http2");
    accept(&TcpListener::bind(address)?, http2)
}

pub(crate) fn accept(listener: &TcpListener, http2: bool) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream, http2) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream, http2: bool) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    let limits = Arc::new(Limits::default());
    let mut connection = if http2 {
        Connection::http2(Role::Server, limits, Instant::now())
    } else {
        Connection::http1(Role::Server, limits, Instant::now())
    };
    let (mut head, mut rest, mut buffer) = (Head::new(), Vec::new(), vec![0; 64 * 1024]);
    loop {
        let now = Instant::now();
        connection.on_deadline(now);
        let mut input = &rest[..];
        while let Some(event) = connection.poll_event(now, &mut input, &mut head) {
            act(&mut connection, event, now);
        }
        let used = rest.len() - input.len();
        rest.drain(..used);
        while connection.wants_write() {
            let written = stream.write(connection.output(now))?;
            connection.wrote(written, now);
        }
        if connection.wants_shutdown() {
            stream.shutdown(Shutdown::Write).or_else(closed)?;
        }
        if connection.is_over() {
            return Ok(());
        }
        match stream.read(&mut buffer) {
            Ok(0) => connection.receive_eof(now),
            Ok(n) => rest.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The peer may have closed first.
fn closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}

fn act(connection: &mut Connection, event: Event<'_>, now: Instant) {
    match event {
        Event::Head { stream, end: true } | Event::Trailers { stream } => {
            answer(connection, stream, now);
        }
        Event::Data { stream, bytes, end } => {
            connection.consume(now, stream, bytes.len());
            if end {
                answer(connection, stream, now);
            }
        }
        Event::Closed(fault) => println!("{}", fault.as_str()),
        _ => {}
    }
}

fn answer(connection: &mut Connection, stream: StreamId, now: Instant) {
    let sent = Head::response(200).map(|mut head| {
        let length = TEXT.len().to_string();
        let pushed = head.push(b"content-length", length.as_bytes());
        pushed.map(|()| connection.send_head(now, stream, &head, false))
    });
    if let Ok(Ok(Ok(()))) = sent {
        // The queue is larger than the text.
        let _ = connection.send_data(now, stream, TEXT, true);
    }
}
