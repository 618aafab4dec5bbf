//! Clients that begin and do not go on.

use std::{
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{
    namespace::{B, SERVICE, Side},
    wait,
};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{io::AsyncWriteExt as _, net};

use super::{HONEST, THROUGH_A, watched};
use crate::{
    origin::Origin,
    place::{Place, open},
    report::{Group, Report},
    wire::{Wire, block_on},
};

/// Where HTTP/1 is spoken, and HTTP/2, as A and B are told.
const HTTP1: u16 = 9002;
const HTTP2: u16 = 9003;
/// Where nobody reads what is spoken.
const BYTES: u16 = 9004;
/// Bodies and answers that stand still have a minute by default, and all else that
/// ends here 10 s.
const LIMITS: [(&str, &str); 2] = [
    ("MESH_LIMIT_BODY_TIME", "10s"),
    ("MESH_LIMIT_WRITE_TIME", "10s"),
];
/// What is spoken is found out within 10 s, and a head is there within 10 s more. The
/// rest is for machines that are busy.
const DEADLINE: Duration = Duration::from_secs(45);
/// An answer that is not read: more than a sidecar may hold of it.
const LARGE: usize = 1 << 20;
static PIECE: [u8; 16 << 10] = [b'l'; 16 << 10];
/// What kernels are to hold of each.
const KERNEL: u32 = 8 << 10;

/// Clients that stop at the same point.
struct Kind {
    /// What they do.
    what: &'static str,
    clients: usize,
    /// Of whom the server hears.
    at_server: usize,
    /// Where, and what they say; each has a part of the clients.
    begin: &'static [(u16, &'static str, End)],
    /// What one of them may cost, in bytes.
    each: u64,
    /// The limits that strike, each once for a client.
    limits: &'static [&'static str],
}

/// How it ends for a client.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With 408.
    Told,
    /// With no answer, or in HTTP/2.
    Closed,
    /// By a reset: what waits for it is thrown away.
    Reset,
}

/// All at one time. A body or an answer takes a connection to the server besides, which
/// is in this process.
const KINDS: [Kind; 3] = [
    Kind {
        what: "say half a head",
        clients: 3000,
        at_server: 0,
        begin: &[
            (HTTP1, "GET / HTTP/1.1\r\nhost: w", End::Told),
            (HTTP1, "P", End::Told),
            (HTTP1, "", End::Closed),
            (HTTP2, "PRI * HTTP/2.0\r\n\r\nSM\r\n", End::Closed),
            (HTTP2, "", End::Closed),
        ],
        each: 20 << 10,
        limits: &["header_time", "detect_time"],
    },
    Kind {
        what: "send half a body",
        clients: 1000,
        at_server: 1000,
        begin: &[
            (
                HTTP1,
                "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\n",
                End::Told,
            ),
            (
                HTTP1,
                "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 100000\r\n\r\nhalf",
                End::Told,
            ),
            (
                HTTP1,
                "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nha",
                End::Told,
            ),
        ],
        each: 40 << 10,
        limits: &["body_time"],
    },
    // 64 KiB that came, 64 KiB that waits to be written, and what was read with it.
    Kind {
        what: "do not read",
        clients: 1000,
        at_server: 1000,
        begin: &[(
            HTTP1,
            "GET /large HTTP/1.1\r\nhost: web\r\n\r\n",
            End::Reset,
        )],
        each: 320 << 10,
        limits: &["write_time"],
    },
];

#[test]
fn h17_thousands_of_clients_that_do_not_go_on_are_closed_on_the_deadline() {
    let mut place = place();
    let asked = Arc::new(AtomicUsize::new(0));
    let _origins = origins(&place, &asked);
    let mut report = Report::new(Group::Slow);
    let resting = resting(&place).unwrap();
    let start = Instant::now();
    let (mut held, mut begun) = (Vec::new(), Vec::new());
    for kind in &KINDS {
        held.push(place.pair.sidecar(Side::B).resident().unwrap());
        begun.push(kind.begin(&place, &asked).unwrap());
    }
    let (outcomes, most) = watched(place.pair.sidecar(Side::B), || {
        let meanwhile = served(&place);
        let closed = begun.into_iter().map(|clients| closed(clients, start));
        (meanwhile, closed.collect::<Vec<_>>())
    })
    .unwrap();
    held.push(most);
    report.case("others are served meanwhile", outcomes.0);
    for ((kind, closed), held) in KINDS.iter().zip(outcomes.1).zip(held.windows(2)) {
        let Kind { what, clients, .. } = kind;
        let outcome = kind.costs(held[1].saturating_sub(held[0]));
        report.case(format!("those that {what} cost little"), outcome);
        report.case(format!("{clients} clients that {what} are closed"), closed);
    }
    for kind in &KINDS {
        let outcome = kind.is_counted(&place);
        report.case(format!("those that {} are counted", kind.what), outcome);
    }
    let mut resting = resting.iter();
    let outcome = resting.try_for_each(|(socket, says)| goes_on(socket, *says));
    report.case("what may rest goes on", outcome);
    report.case("others are served afterwards", served(&place));
    report.finish(&mut place);
}

fn place() -> Place {
    let ports = [
        open(HTTP1, Protocol::Http1),
        open(HTTP2, Protocol::Http2),
        open(BYTES, Protocol::Opaque),
        open(BYTES + THROUGH_A, Protocol::Opaque).at(BYTES),
        open(HONEST, Protocol::Detect),
        open(HONEST + THROUGH_A, Protocol::Detect).at(HONEST),
    ];
    Place::bearing(&ports, &LIMITS)
}

fn origins(place: &Place, asked: &Arc<AtomicUsize>) -> [Origin; 3] {
    let asked = asked.clone();
    [
        Origin::start(place, HTTP1, move |socket| serve(socket, asked.clone())),
        Origin::start(place, BYTES, |socket| async {
            Ok(Wire::new(socket).echo().await?)
        }),
        Origin::http1(place, HONEST),
    ]
}

/// Answers at length, and says how many have asked.
async fn serve(socket: net::TcpStream, asked: Arc<AtomicUsize>) -> Result<()> {
    setsockopt(&socket, sockopt::SndBuf, &(KERNEL as usize))?;
    let mut wire = Wire::new(socket);
    while let Some(head) = wire.head().await? {
        asked.fetch_add(1, Ordering::SeqCst);
        wire.request_body(&head).await?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        wire.send(head).await?;
        for _ in 0..LARGE / PIECE.len() {
            wire.send(&PIECE[..]).await?;
        }
    }
    Ok(())
}

/// One of those that do not go on.
struct Client {
    socket: TcpStream,
    said: &'static str,
    end: End,
}

impl Kind {
    /// All of them begin, past A, and those that may have reached the server.
    fn begin(&self, place: &Place, asked: &AtomicUsize) -> Result<Vec<Client>> {
        let before = asked.load(Ordering::SeqCst);
        let a = &place.pair.site().a;
        let clients = a.enter(|| block_on(self.connected()))??;
        wait::until("the server hears of them", DEADLINE, || {
            Ok(asked.load(Ordering::SeqCst) >= before + self.at_server)
        })?;
        Ok(clients)
    }

    async fn connected(&self) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(self.clients);
        for n in 0..self.clients {
            let (port, said, end) = self.begin[n % self.begin.len()];
            let socket = net::TcpSocket::new_v4()?;
            // Else the kernel takes much of an answer for somebody who does not.
            socket.set_recv_buffer_size(KERNEL)?;
            let mut socket = socket.connect((B, port).into()).await?;
            socket.write_all(said.as_bytes()).await?;
            let socket = socket.into_std()?;
            socket.set_nonblocking(false)?;
            clients.push(Client { socket, said, end });
        }
        Ok(clients)
    }

    /// In the metrics of the sidecar.
    fn is_counted(&self, place: &Place) -> Result<()> {
        let mut times = 0;
        for limit in self.limits {
            let name =
                format!("mesh_proxy_limits_total{{limit=\"{limit}\",direction=\"inbound\"}}");
            times += place.pair.metric(Side::B, &name)?;
        }
        ensure!(times >= self.clients as u64, "{times} times");
        Ok(())
    }

    fn costs(&self, bytes: u64) -> Result<()> {
        let each = bytes / self.clients as u64;
        println!("clients that {}: {each} bytes for each", self.what);
        ensure!(each < self.each, "{each} bytes for each");
        Ok(())
    }
}

/// The sidecar has ended all of them, in time, and by itself.
fn closed(clients: Vec<Client>, start: Instant) -> Result<()> {
    clients.into_iter().try_for_each(|client| {
        let left = DEADLINE.saturating_sub(start.elapsed());
        let left = left.max(Duration::from_millis(1));
        let closed = match client.end {
            End::Told | End::Closed => client.closed(left),
            End::Reset => client.reset(left),
        };
        closed.with_context(|| format!("{:?}, {:?}", client.said, start.elapsed()))
    })
}

impl Client {
    fn closed(&self, left: Duration) -> Result<()> {
        self.socket.set_read_timeout(Some(left))?;
        let mut told = Vec::new();
        match (&self.socket).read_to_end(&mut told) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error.into()),
        }
        let told = String::from_utf8_lossy(&told);
        let is_right = match self.end {
            End::Told => told.starts_with("HTTP/1.1 408 "),
            End::Closed | End::Reset => !told.contains(" 200 "),
        };
        ensure!(is_right, "{:?} was to come, not {told:?}", self.end);
        Ok(())
    }

    /// Without a look at what has come: the sidecar could send more then.
    fn reset(&self, left: Duration) -> Result<()> {
        let waited = wait::until("a reset", left, || match self.socket.take_error()? {
            None => Ok(false),
            Some(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
            Some(error) => bail!(error),
        });
        waited.map(drop)
    }
}

/// What is said on a connection, and long afterwards again.
#[derive(Clone, Copy)]
enum Says {
    Request,
    Bytes,
}

const RESTING: [(Ipv4Addr, u16, Says); 4] = [
    (B, HONEST, Says::Request),
    (SERVICE, HONEST + THROUGH_A, Says::Request),
    (B, BYTES, Says::Bytes),
    (SERVICE, BYTES + THROUGH_A, Says::Bytes),
];

/// Connections on which nothing is due: between two requests, or of no HTTP.
fn resting(place: &Place) -> Result<Vec<(TcpStream, Says)>> {
    let resting = RESTING.iter().map(|(host, port, says)| {
        let socket = place.connect_to((*host, *port).into())?;
        goes_on(&socket, *says)?;
        Ok((socket, *says))
    });
    resting.collect()
}

fn goes_on(socket: &TcpStream, says: Says) -> Result<()> {
    let socket = socket.try_clone()?;
    block_on(async {
        let mut wire = Wire::client(socket)?;
        match says {
            Says::Request => answered(&mut wire).await,
            Says::Bytes => {
                wire.send(b"\0bytes").await?;
                let back = wire.exactly(6).await?;
                ensure!(back == b"\0bytes", "{back:?}");
                Ok(())
            }
        }
    })
}

fn served(place: &Place) -> Result<()> {
    for to in [(B, HONEST), (SERVICE, HONEST + THROUGH_A)] {
        block_on(async {
            let mut wire = Wire::client(place.connect_to(to.into())?)?;
            answered(&mut wire).await
        })?;
    }
    Ok(())
}

async fn answered(wire: &mut Wire) -> Result<()> {
    wire.send("GET /bytes/10 HTTP/1.1\r\nhost: web\r\n\r\n")
        .await?;
    let answer = wire.answer("GET").await?;
    ensure!(answer.body.len() == 10, "{answer:?}");
    Ok(())
}
