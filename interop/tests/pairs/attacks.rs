//! Clients that want to keep a sidecar busy, or full, for little: what they spend is
//! measured beside what it costs, and what others notice of it.

mod frames;
mod honest;
mod idle;
mod slow;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::{Reason, server};
use http::Response;
use mesh_core::destination::Protocol;
use mesh_pair::{
    control::Port,
    namespace::{B, SERVICE, Side, pin},
    process::{Program, cpu_time},
    wait,
};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::gettid,
};
use tokio::task::{JoinSet, spawn_local};

use self::{
    frames::{Attack, GOAWAY, floods, frame, resets},
    honest::{Beside, Honest, Waits},
};
use crate::{
    http2::{Client, on_local},
    origin::Origin,
    place::{Place, open},
    report::{Group, Report},
    wire::Wire,
};

/// An HTTP/2 server, which B is attacked for past A, and A through the Service.
const ATTACKED: u16 = 9000;
/// An HTTP/1 server, for those who mean no harm.
const HONEST: u16 = 9001;
const THROUGH_A: u16 = 100;

/// How long one attack goes on, again and again.
const ATTACK: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_secs(20);
/// Ordinary clients at one time.
const ORDINARY: usize = 16;
/// What an attack may cost for what its client spends.
const AMPLIFICATION: u32 = 20;
/// The kernel counts in hundredths of a second.
const NOISE: Duration = Duration::from_millis(60);
/// Requests that a server gets at one time of one sidecar, at most.
const CONCURRENT: usize = 2000;
/// Beside floods an honest client notices nothing that is shorter: they are as much
/// traffic as the link has room for, and what a sidecar says to them goes through a
/// machine that is busy, whose scheduler looks every 4 ms who is to run.
const FLOODED: Duration = Duration::from_millis(5);
/// What an attack may take while it goes on, and leave behind, in bytes.
const TAKEN: u64 = 128 << 20;
const LEFT: u64 = 64 << 20;
/// A sidecar that is attacked has a core of its own. Whoever else waits for one, on a
/// machine of two, would wait for the scheduler, and not for the sidecar.
const VICTIM: usize = 0;
const OTHERS: usize = 1;
/// Between two looks at what a sidecar holds.
const GLANCE: Duration = Duration::from_millis(10);

fn ports() -> Vec<Port> {
    let ports = [ATTACKED, HONEST].map(|port| {
        let through_a = open(port + THROUGH_A, Protocol::Detect).at(port);
        [open(port, Protocol::Detect), through_a]
    });
    ports.concat()
}

/// Requests that wait until their client gives up: how many, and most of them.
#[derive(Clone, Default)]
struct Held(Arc<[AtomicUsize; 2]>);

impl Held {
    /// Until that is dropped.
    fn one(&self) -> Hold {
        let now = self.0[0].fetch_add(1, Ordering::SeqCst) + 1;
        self.0[1].fetch_max(now, Ordering::SeqCst);
        Hold(self.clone())
    }

    fn most(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }
}

struct Hold(Held);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0[0].fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server of HTTP/2 that answers `/large` and `/small`, and nothing else, ever.
fn server_of(place: &Place, held: &Held) -> Origin {
    let (held, large) = (held.clone(), Bytes::from(vec![b'l'; 1 << 20]));
    Origin::start(place, ATTACKED, move |socket| {
        let (held, large) = (held.clone(), large.clone());
        async move {
            let mut connection = server::handshake(socket).await?;
            while let Some(stream) = connection.accept().await {
                let (request, mut respond) = stream?;
                let body = match request.uri().path() {
                    "/large" => Some(large.clone()),
                    "/small" => Some(Bytes::from_static(b"small")),
                    _ => None,
                };
                let hold = held.one();
                spawn_local(async move {
                    if let Some(body) = body {
                        let mut sending = respond.send_response(Response::new(()), false)?;
                        sending.send_data(body, true)?;
                    }
                    std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
                    drop(hold);
                    Ok::<_, h2::Error>(())
                });
            }
            Ok(())
        }
    })
}

#[test]
fn h13_h14_what_costs_little_to_send_costs_little_to_refuse() {
    pin(&[OTHERS]).unwrap();
    let mut place = Place::alone(&ports());
    let held = Held::default();
    let _origins = [server_of(&place, &held), Origin::http1(&place, HONEST)];
    let mut report = Report::new(Group::Attacks);
    for (way, side, attacked, honest) in [
        ("B", Side::B, (B, ATTACKED), (B, HONEST)),
        (
            "A",
            Side::A,
            (SERVICE, ATTACKED + THROUGH_A),
            (SERVICE, HONEST + THROUGH_A),
        ),
    ] {
        let target = Target {
            place: &place,
            side,
            attacked: attacked.into(),
        };
        for each in [Side::A, Side::B] {
            let core = if each == side { VICTIM } else { OTHERS };
            settle(place.pair.sidecar(each), core).unwrap();
        }
        let (resets, floods) = (resets(), floods());
        let attacks = [
            (Beside::Resets, &resets, ""),
            (Beside::Resets, &resets, ", again"),
            (Beside::Resets, &resets, ", and again"),
            (Beside::Floods, &floods, ""),
        ];
        let waits = Honest::waits(&place, honest.into(), |client| {
            for (whom, attacks, time) in attacks {
                for attack in attacks {
                    // What an attack leaves behind falls upon these.
                    client.beside(Beside::Clients, || ordinary(&place, honest.into()))?;
                    client.alone()?;
                    let outcome = client.beside(whom, || target.endures(attack));
                    report.case(format!("{way}: {}{time}", attack.name), outcome);
                }
            }
            Ok(())
        });
        report.case(
            format!("{way}: others wait no longer"),
            waits.and_then(|waits| compare(&waits)),
        );
        let most = held.most();
        let outcome = (most <= CONCURRENT)
            .then_some(())
            .with_context(|| format!("{most} requests at once"));
        report.case(format!("{way}: the server is not flooded"), outcome);
    }
    report.finish(&mut place);
}

/// Whether others wait less than twice as long as without an attack: beside nobody, or
/// beside ordinary clients that keep the sidecar as busy, which tells what of it any
/// work costs on this machine.
fn compare(waits: &Waits) -> Result<()> {
    let calm = waits.late(Beside::Nobody)?;
    let busy = waits.late(Beside::Clients)?;
    let under_resets = waits.late(Beside::Resets)?;
    let under_floods = waits.late(Beside::Floods)?;
    println!(
        "the 99th percentile is {calm:?}, beside ordinary clients {busy:?}, under resets \
         {under_resets:?}, under floods {under_floods:?}"
    );
    let bound = calm.max(busy) * 2;
    ensure!(
        under_resets < bound,
        "under resets {under_resets:?}, and {calm:?} or {busy:?} without"
    );
    ensure!(
        under_floods < bound.max(FLOODED),
        "under floods {under_floods:?}, and {calm:?} or {busy:?} without"
    );
    Ok(())
}

/// Ordinary clients that keep a sidecar as busy as they can, as attackers do.
fn ordinary(place: &Place, to: SocketAddr) -> Result<()> {
    let all = thread::scope(|scope| {
        let clients = scope.spawn(|| {
            step_back()?;
            on_local(async || {
                let start = Instant::now();
                let mut clients = JoinSet::new();
                for _ in 0..ORDINARY {
                    let mut wire = Wire::client(place.connect_to(to)?)?;
                    clients.spawn_local(async move {
                        while start.elapsed() < ATTACK {
                            wire.send("GET /bytes/100 HTTP/1.1\r\nhost: web\r\n\r\n")
                                .await?;
                            wire.answer("GET").await?;
                        }
                        Ok::<_, anyhow::Error>(())
                    });
                }
                clients.join_all().await.into_iter().collect()
            })
        });
        clients.join()
    });
    all.ok().context("a client has panicked")?
}

/// Who is attacked.
struct Target<'a> {
    place: &'a Place,
    side: Side,
    attacked: SocketAddr,
}

impl Target<'_> {
    /// Each connection is ended by the sidecar, and what all of them cost is in
    /// proportion.
    fn endures(&self, attack: &Attack) -> Result<()> {
        let program = self.place.pair.sidecar(self.side);
        let (before, memory) = (cpu_time(&program.pids())?, program.resident()?);
        let (attacked, most) = watched(program, || {
            thread::scope(|scope| {
                let attacker = scope.spawn(|| {
                    step_back()?;
                    self.again_and_again(attack)
                });
                attacker.join()
            })
        })?;
        let (connections, spent) = attacked.ok().context("the attacker has panicked")??;
        let cost = cpu_time(&program.pids())?.saturating_sub(before);
        let [taken, left] =
            [most, program.resident()?].map(|resident| resident.saturating_sub(memory));
        println!(
            "{}: {connections} connections, {spent:?} spent, {cost:?} and {taken} bytes cost, {left} left",
            attack.name
        );
        // What is reset has been a request, which costs what requests do.
        ensure!(
            attack.is_request || cost < NOISE + spent * AMPLIFICATION,
            "it cost {cost:?} for {spent:?} of the client"
        );
        ensure!(taken < TAKEN, "{taken} bytes more than before, meanwhile");
        ensure!(left < LEFT, "{left} bytes more than before");
        Ok(())
    }

    /// How many connections that were, and the processor time that was spent.
    fn again_and_again(&self, attack: &Attack) -> Result<(u32, Duration)> {
        let bytes = attack.bytes();
        let (start, mut spent, mut connections) = (Instant::now(), Duration::ZERO, 0);
        while connections == 0 || start.elapsed() < ATTACK {
            spent += self.attack(&bytes, attack.ends)?;
            connections += 1;
        }
        Ok((connections, spent))
    }

    /// One connection, until it is closed for this reason; the processor time that was
    /// spent.
    fn attack(&self, bytes: &[u8], reason: Reason) -> Result<Duration> {
        let before = own_time()?;
        let mut socket = self.place.connect_to(self.attacked)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let mut reading = socket.try_clone()?;
        let reader = thread::spawn(move || -> Result<(Vec<u8>, Duration)> {
            let mut all = Vec::new();
            // It may be reset, for what was not read.
            let end = reading.read_to_end(&mut all);
            // Who waits until all of it is taken could not do it again meanwhile.
            let _ = reading.shutdown(Shutdown::Both);
            let is_late = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            ensure!(!is_late, "the connection is not closed");
            Ok((all, own_time()?))
        });
        // Closed while it sends.
        let _ = bytes
            .chunks(16 << 10)
            .try_for_each(|chunk| socket.write_all(chunk));
        let (answered, of_reader) = reader.join().ok().context("the reader has panicked")??;
        let _ = socket.shutdown(Shutdown::Both);
        said_goodbye(&answered, reason)?;
        Ok(own_time()?.saturating_sub(before) + of_reader)
    }
}

/// Moves all of a program's threads to a core.
fn settle(program: &Program, core: usize) -> Result<()> {
    for pid in program.pids() {
        let mut taskset = Command::new("taskset");
        taskset.args(["--all-tasks", "--pid", "--cpu-list"]);
        taskset.args([core.to_string(), pid.to_string()]);
        let status = taskset.stdout(Stdio::null()).status().context("taskset")?;
        ensure!(status.success(), "taskset: {status}");
    }
    Ok(())
}

/// Attackers have machines of their own: this thread, and those that it starts, take what
/// others leave of this one.
fn step_back() -> Result<()> {
    let mut chrt = Command::new("chrt");
    chrt.args(["--idle", "--pid", "0", &gettid().to_string()]);
    let status = chrt.stdout(Stdio::null()).status().context("chrt")?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

/// What `act` returns, and the most memory that the program has held meanwhile.
fn watched<T>(program: &Program, act: impl FnOnce() -> T) -> Result<(T, u64)> {
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let watcher = scope.spawn(move || -> Result<u64> {
            let mut most = program.resident()?;
            while is_over.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                most = most.max(program.resident()?);
            }
            Ok(most)
        });
        let done = act();
        drop(over);
        let most = watcher.join().ok().context("the watcher has panicked")??;
        Ok((done, most))
    })
}

/// The connection was neither just cut nor ended for something else.
fn said_goodbye(answered: &[u8], reason: Reason) -> Result<()> {
    let told = goodbye(answered);
    ensure!(
        told == Some(reason),
        "closed with {told:?} instead of {reason:?}, after {} bytes",
        answered.len()
    );
    Ok(())
}

/// The reason in the last GOAWAY of these frames.
fn goodbye(mut bytes: &[u8]) -> Option<Reason> {
    let mut told = None;
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        if head[3] == GOAWAY {
            let code = payload.get(4..)?.first_chunk::<4>()?;
            told = Some(Reason::from(u32::from_be_bytes(*code)));
        }
        bytes = rest;
    }
    told
}

/// The processor time of this thread.
fn own_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// H15: 10,000 streams that nobody reads.
#[test]
fn h15_readers_of_nothing_fill_neither_memory_nor_anybodys_way() {
    const CONNECTIONS: usize = 100;
    const STREAMS: u32 = 100;
    // Some seconds less than until the last of them has been given up.
    const SERVED: Duration = Duration::from_secs(5);
    let mut place = Place::new(&ports());
    let held = Held::default();
    let _origin = server_of(&place, &held);
    let mut report = Report::new(Group::ZeroWindows);
    let outcome = || -> Result<()> {
        let before = place.pair.sidecar(Side::B).resident()?;
        let bytes = frames::zero_windows(STREAMS, "/large");
        let mut sockets: Vec<TcpStream> = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut socket = place.connect_to((B, ATTACKED).into())?;
            socket.write_all(&bytes)?;
            sockets.push(socket);
        }
        let all = CONNECTIONS * usize::try_from(STREAMS)?;
        wait::until("the server has its share", DEADLINE, || {
            Ok(held.most() >= all.min(CONCURRENT))
        })?;
        // From then on whoever asks there waits for readers.
        let held_up = r#"mesh_proxy_limits_total{limit="connection_bytes",direction="inbound"}"#;
        wait::until("a connection is held up", DEADLINE, || {
            Ok(place.pair.metric(Side::B, held_up)? > 0)
        })?;
        let start = Instant::now();
        let small = on_local(async || {
            let socket = place.connect_to((B, ATTACKED).into())?;
            Client::new(socket).await?.get("/small").await
        })?;
        ensure!(small.body == b"small", "{small:?}");
        let took = start.elapsed();
        println!("others are served after {took:?}");
        ensure!(took < SERVED, "{took:?}");
        let more = place
            .pair
            .sidecar(Side::B)
            .resident()?
            .saturating_sub(before);
        println!("{} streams at the server, {more} bytes more", held.most());
        // A connection to a server holds 32 MiB of what is not read, and they are few.
        ensure!(more < 256 << 20, "{more} bytes more than before");
        drop(sockets);
        Ok(())
    };
    let outcome = outcome();
    report.case("100 streams of 100 clients", outcome);
    report.finish(&mut place);
}

#[test]
fn who_is_cut_off_or_ends_for_something_else_is_noticed() {
    let pong = frame(6, 1, 0, b"01234567");
    let last = frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11]);
    let told = [&pong[..], &last].concat();
    assert!(said_goodbye(&told, Reason::ENHANCE_YOUR_CALM).is_ok());
    assert!(said_goodbye(&told, Reason::SETTINGS_TIMEOUT).is_err());
    for cut in [&told[..told.len() - 1], &pong, b""] {
        assert!(said_goodbye(cut, Reason::ENHANCE_YOUR_CALM).is_err());
    }
}
