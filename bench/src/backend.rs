//! The application behind B: answers HTTP/1, HTTP/2 and gRPC on one port, and
//! sends, counts or returns bytes on another. One thread, which stays
//! where the load is.

mod bytes;
mod http;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};
use mesh_pair::namespace::{Namespace, pin};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use self::{bytes::Bytes, http::Http};
use crate::load::carrier::Scratch;

/// The port of requests, and that of bytes.
pub(crate) const HTTP_PORT: u16 = 8000;
pub(crate) const BYTES_PORT: u16 = 9000;

/// How often it looks whether it is to end, in milliseconds.
const TICK: u8 = 200;
/// The listeners' tokens; connections have those behind.
const LISTENERS: u64 = 2;

/// The application; it ends when it is dropped.
pub(crate) struct Backend {
    stop: Arc<AtomicBool>,
    fault: Fault,
    thread: Option<JoinHandle<()>>,
}

/// What was wrong first.
type Fault = Arc<Mutex<Option<String>>>;

impl Backend {
    /// Starts it in `namespace`, on `cores`.
    ///
    /// # Errors
    /// If its ports are taken.
    pub(crate) fn start(namespace: &Namespace, cores: &'static [usize]) -> Result<Self> {
        let listeners = namespace.enter(|| -> Result<[TcpListener; 2]> {
            let any = Ipv4Addr::UNSPECIFIED;
            Ok([
                listen((any, HTTP_PORT).into())?,
                listen((any, BYTES_PORT).into())?,
            ])
        })??;
        Ok(Self::on(listeners, cores))
    }

    /// Serves requests on the first of these, and bytes on the second, on `cores`.
    fn on(listeners: [TcpListener; 2], cores: &'static [usize]) -> Self {
        let (stop, fault) = (Arc::new(AtomicBool::new(false)), Fault::default());
        let (stopping, noted) = (stop.clone(), fault.clone());
        let thread = std::thread::spawn(move || {
            let served = pin(cores).and_then(|()| serve(&listeners, &stopping, &noted));
            if let Err(error) = served {
                note(&noted, &error);
            }
        });
        Self {
            stop,
            fault,
            thread: Some(thread),
        }
    }

    /// Fails if anything was wrong with what came in.
    pub(crate) fn check(&self) -> Result<()> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fault {
            None => Ok(()),
            Some(fault) => bail!("at the back end: {fault}"),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note(fault: &Fault, error: &anyhow::Error) {
    let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
    fault.get_or_insert_with(|| format!("{error:#}"));
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
    // The standard library's queue is too short for many clients at once.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An accepted connection.
enum Accepted {
    Http(Http),
    Bytes(Bytes),
}

/// Connections by token.
#[derive(Default)]
struct Table {
    slots: Vec<Option<Accepted>>,
    free: Vec<usize>,
}

impl Table {
    fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Closes a connection. It is taken out of `epoll` by hand: a program that
    /// is just being started has a copy of its socket for a moment, so that
    /// events would go on.
    fn remove(&mut self, at: usize, epoll: &Epoll) -> Result<()> {
        if let Some(connection) = self.slots[at].take() {
            match &connection {
                Accepted::Http(http) => http.socket().map(|socket| epoll.delete(socket)),
                Accepted::Bytes(bytes) => Some(epoll.delete(bytes.socket())),
            }
            .transpose()?;
            self.free.push(at);
        }
        Ok(())
    }
}

fn serve(listeners: &[TcpListener; 2], stop: &AtomicBool, fault: &Fault) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (token, listener) in listeners.iter().enumerate() {
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))?;
    }
    let (mut table, mut scratch) = (Table::default(), Scratch::new());
    let mut events = vec![EpollEvent::empty(); 256];
    while !stop.load(Ordering::Relaxed) {
        let woken = epoll.wait(&mut events, TICK)?;
        let now = Instant::now();
        for event in &events[..woken] {
            let token = event.data();
            if token < LISTENERS {
                accept(
                    &listeners[usize::try_from(token)?],
                    token,
                    &epoll,
                    &mut table,
                )?;
                continue;
            }
            let at = usize::try_from(token - LISTENERS)?;
            let slot = table.slots.get_mut(at).and_then(Option::as_mut);
            let connection = slot.ok_or_else(|| anyhow!("an event of no connection"))?;
            let goes_on = match connection {
                Accepted::Http(http) => http.act(&epoll, token, &mut scratch, now),
                Accepted::Bytes(bytes) => bytes.act(&epoll, token, &mut scratch),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => table.remove(at, &epoll)?,
                Err(error) => {
                    // Clients may leave as they like; what they send must be right.
                    if error.downcast_ref::<std::io::Error>().is_none() {
                        note(fault, &error);
                    }
                    table.remove(at, &epoll)?;
                }
            }
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, token: u64, epoll: &Epoll, table: &mut Table) -> Result<()> {
    // Some at a time; the listener is reported again if there are more.
    for _ in 0..64 {
        let Ok((socket, _)) = listener.accept() else {
            return Ok(());
        };
        let at = table.reserve();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, at as u64 + LISTENERS);
        epoll.add(&socket, event)?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        table.slots[at] = Some(if token == 0 {
            Accepted::Http(Http::Unknown(Some(socket)))
        } else {
            Accepted::Bytes(Bytes::new(socket))
        });
    }
    Ok(())
}
