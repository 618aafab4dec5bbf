//! How much this engine does by itself, without a socket: requests a second of
//! processor time, of a client and a server in one thread. Each request is
//! written and read, and so is its answer.
//!
//! `cargo run --release -p mesh-http --example throughput`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_http::{
    connection::Connection,
    event::{Event, Role},
    fault::Misuse,
    head::Head,
    limits::Limits,
};

const TIME: Duration = Duration::from_secs(2);
const STREAMS: usize = 32;

/// Both ends of one connection.
struct Pair {
    client: Connection,
    server: Connection,
    head: Head,
    bytes: Vec<u8>,
    now: Instant,
}

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
        Self {
            client: new(Role::Client),
            server: new(Role::Server),
            head: Head::new(),
            bytes: Vec::new(),
            now,
        }
    }

    /// Some requests and their answers.
    fn exchange(&mut self, requests: usize, load: &Load) -> Result<(), Misuse> {
        for _ in 0..requests {
            self.client.open(self.now, &load.request, true)?;
        }
        carry(&mut self.client, &mut self.bytes, self.now);
        let mut input = &self.bytes[..];
        while let Some(event) = self.server.poll_event(self.now, &mut input, &mut self.head) {
            if let Event::Head { stream, .. } = event {
                self.server
                    .send_head(self.now, stream, &load.answer, false)?;
                self.server.send_data(self.now, stream, &load.body, true)?;
            }
        }
        while self.server.wants_write() {
            carry(&mut self.server, &mut self.bytes, self.now);
            let mut input = &self.bytes[..];
            while let Some(event) = self.client.poll_event(self.now, &mut input, &mut self.head) {
                if let Event::Data { stream, bytes, .. } = event {
                    self.client.consume(self.now, stream, bytes.len());
                }
            }
        }
        Ok(())
    }
}

struct Load {
    request: Head,
    answer: Head,
    body: Vec<u8>,
}

/// Fields as browsers and gRPC clients send them.
const FIELDS: [(&str, &str); 12] = [
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    (
        "referer",
        "https://www.example.com/some/page?with=a&query=string",
    ),
    (
        "cookie",
        "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    ),
    ("cache-control", "no-cache"),
    ("x-request-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("content-type", "application/json"),
];

impl Load {
    fn new(body: usize) -> Result<Self, mesh_http::head::Invalid> {
        let mut request =
            Head::request("GET", "web.shop.svc.cluster.local:8080", "/api/items?id=42")?;
        let mut answer = Head::response(200)?;
        for (name, value) in FIELDS {
            request.push(name.as_bytes(), value.as_bytes())?;
        }
        for (name, value) in &FIELDS[6..] {
            answer.push(name.as_bytes(), value.as_bytes())?;
        }
        answer.push(b"content-length", body.to_string().as_bytes())?;
        let body = vec![b'x'; body];
        Ok(Self {
            request,
            answer,
            body,
        })
    }
}

fn carry(from: &mut Connection, bytes: &mut Vec<u8>, now: Instant) {
    bytes.clear();
    bytes.extend_from_slice(from.output(now));
    from.wrote(bytes.len(), now);
}

/// The processor's time that we have had, whatever else runs on the machine.
fn on_cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, http2, at_once) in [("HTTP/1", false, 1), ("HTTP/2", true, STREAMS)] {
        for body in [0, 1024, 16 * 1024] {
            let (mut pair, load) = (Pair::new(http2), Load::new(body)?);
            let (start, mut done) = (on_cpu()?, 0_u32);
            while on_cpu()? < start + TIME {
                for _ in 0..1000 {
                    pair.exchange(at_once, &load)?;
                    done += u32::try_from(at_once)?;
                }
                pair.now = Instant::now();
            }
            let spent = on_cpu()?.saturating_sub(start);
            let (each, rate) = (spent / done, f64::from(done) / spent.as_secs_f64());
            println!("{name}, {body:>5} bytes: {rate:>9.0} requests/s, {each:?} each, both ends");
        }
    }
    Ok(())
}
