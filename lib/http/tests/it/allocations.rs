//! What a request costs in allocations, once everything is warm.

use std::{sync::Arc, time::Instant};

use mesh_http::{
    connection::Connection,
    event::{Event, Role},
    head::Head,
    limits::Limits,
};

/// A client and a server, and the buffers that a driver would lend them.
struct Pair {
    client: Connection,
    server: Connection,
    head: Head,
    request: Head,
    answer: Head,
    bytes: Vec<u8>,
    now: Instant,
}

const BODY: &[u8] = &[b'x'; 1024];

impl Pair {
    fn new(http2: bool) -> Self {
        let (now, limits) = (Instant::now(), Arc::new(Limits::default()));
        let new = |role| {
            if http2 {
                Connection::http2(role, limits.clone(), now)
            } else {
                Connection::http1(role, limits.clone(), now)
            }
        };
        let mut request = Head::request("GET", "web.shop:80", "/some/path?with=query").unwrap();
        let mut answer = Head::response(200).unwrap();
        for index in 0..12 {
            let name = format!("x-some-field-{index}");
            request.push(name.as_bytes(), &[b'v'; 40]).unwrap();
            answer.push(name.as_bytes(), &[b'v'; 40]).unwrap();
        }
        answer.push(b"content-length", b"1024").unwrap();
        Self {
            client: new(Role::Client),
            server: new(Role::Server),
            head: Head::new(),
            request,
            answer,
            bytes: Vec::new(),
            now,
        }
    }

    /// One request and its answer of 1 KiB.
    fn exchange(&mut self) {
        self.client.open(self.now, &self.request, true).unwrap();
        self.serve();
        self.receive();
    }

    fn serve(&mut self) {
        carry(&mut self.client, &mut self.bytes, self.now);
        let mut input = &self.bytes[..];
        while let Some(event) = self.server.poll_event(self.now, &mut input, &mut self.head) {
            if let Event::Head { stream, .. } = event {
                self.server
                    .send_head(self.now, stream, &self.answer, false)
                    .unwrap();
                self.server.send_data(self.now, stream, BODY, true).unwrap();
            }
        }
        assert!(input.is_empty());
    }

    fn receive(&mut self) {
        carry(&mut self.server, &mut self.bytes, self.now);
        let mut input = &self.bytes[..];
        while let Some(event) = self.client.poll_event(self.now, &mut input, &mut self.head) {
            if let Event::Data { stream, bytes, .. } = event {
                self.client.consume(self.now, stream, bytes.len());
            }
        }
        assert!(input.is_empty());
    }
}

fn carry(from: &mut Connection, bytes: &mut Vec<u8>, now: Instant) {
    bytes.clear();
    bytes.extend_from_slice(from.output(now));
    from.wrote(bytes.len(), now);
}

#[test]
fn a_warm_request_allocates_nothing() {
    for http2 in [false, true] {
        let mut pair = Pair::new(http2);
        for _ in 0..100 {
            pair.exchange();
        }
        let used = allocation_counter::measure(|| {
            for _ in 0..1000 {
                pair.exchange();
            }
        });
        println!(
            "HTTP/{}: {} allocations in 1,000 requests",
            1 + u8::from(http2),
            used.count_total
        );
        assert!(used.count_total <= 2, "{used:?}");
    }
}

#[test]
fn h18_an_idle_connection_holds_little() {
    for (http2, most) in [(false, 1024), (true, 4096)] {
        let mut pair = Pair::new(http2);
        pair.client.open(pair.now, &pair.request, true).unwrap();
        let request = pair.client.output(pair.now).to_vec();
        // The test's own buffers grow before anything is counted.
        served(http2, &request, &mut pair);
        let mut held = None;
        let used = allocation_counter::measure(|| {
            held = Some(served(http2, &request, &mut pair));
        });
        let inline = i64::try_from(size_of::<Connection>()).unwrap();
        let own = used.bytes_current + inline;
        println!(
            "HTTP/{}: an idle connection holds {own} bytes",
            1 + u8::from(http2)
        );
        assert!(own < most, "{used:?}");
        drop(held);
    }
}

/// A connection after one request, its output's buffer taken back.
fn served(http2: bool, request: &[u8], pair: &mut Pair) -> Connection {
    let mut server = Pair::new(http2).server;
    let mut input = request;
    while let Some(event) = server.poll_event(pair.now, &mut input, &mut pair.head) {
        if let Event::Head { stream, .. } = event {
            server
                .send_head(pair.now, stream, &pair.answer, false)
                .unwrap();
            server.send_data(pair.now, stream, BODY, true).unwrap();
        }
    }
    let written = server.output(pair.now).len();
    server.wrote(written, pair.now);
    server.reclaim();
    assert_eq!(server.streams(), 0);
    server
}
