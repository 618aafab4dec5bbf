//! What goes from left to right: single bytes, and many.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use mesh_lab::network::GATEWAY_PORT;

use super::namespaces::World;

const RIGHT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 232, 2, 10);
/// The port that the firewall lets pass.
const OPEN: SocketAddr = at(GATEWAY_PORT);
/// One that it does not.
pub(crate) const CLOSED: SocketAddr = at(GATEWAY_PORT + 1);
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(RIGHT_ADDRESS), port)
}

/// A connection from left to right whose far end sends back every byte.
pub(crate) struct Peer {
    near: TcpStream,
    next: u8,
}

impl Peer {
    pub(crate) fn connect(world: &World) -> Self {
        let (near, far) = connection(world);
        // It ends with the connection.
        thread::spawn(move || echo(far));
        near.set_read_timeout(Some(ANSWER)).unwrap();
        Self { near, next: 0 }
    }

    /// How long a byte takes there and back.
    pub(crate) fn round_trip(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        self.next = self.next.wrapping_add(1);
        self.near.write_all(&[self.next])?;
        let mut answer = [0];
        // Answers to questions that were given up come first.
        while answer[0] != self.next {
            self.near.read_exact(&mut answer)?;
        }
        Ok(begin.elapsed())
    }

    /// Waits until a byte takes no longer than `limit`.
    pub(crate) fn answers_within(&mut self, limit: Duration) {
        let begin = Instant::now();
        let mut last = self.round_trip();
        while !matches!(last, Ok(took) if took <= limit) {
            assert!(begin.elapsed() < PATIENCE, "the last took {last:?}");
            last = self.round_trip();
        }
    }
}

/// Sends `bytes` from left to right; how long until the last has arrived.
pub(crate) fn transfer(world: &World, bytes: u64) -> Duration {
    let (mut near, mut far) = connection(world);
    let begin = Instant::now();
    let sender = thread::spawn(move || io::copy(&mut io::repeat(7).take(bytes), &mut near));
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 256 << 10];
    let mut arrived = 0;
    while arrived < bytes {
        let length = far.read(&mut buffer).unwrap();
        assert!(length > 0, "it ended after {arrived} bytes");
        arrived += length as u64;
    }
    let took = begin.elapsed();
    sender.join().unwrap().unwrap();
    took
}

/// The speed of a [`transfer`].
pub(crate) fn megabits(world: &World, bytes: u64) -> f64 {
    bytes as f64 * 8e-6 / transfer(world, bytes).as_secs_f64()
}

fn connection(world: &World) -> (TcpStream, TcpStream) {
    let listener = world.right.enter(|| TcpListener::bind(OPEN)).unwrap();
    let near = world
        .left
        .enter(|| TcpStream::connect_timeout(&OPEN, PATIENCE));
    let near = near.unwrap();
    near.set_nodelay(true).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
}
