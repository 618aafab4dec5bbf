//! One HTTP connection, of a client or a server: our own engine on a socket
//! that never blocks. It writes once for each time it is woken.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, LazyLock},
    time::Instant,
};

use anyhow::{Context as _, Result};
use mesh_http::{
    connection::Connection,
    event::{Event, Role},
    head::Head,
    limits::Limits,
};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

/// Large windows: what is measured is the proxies between, not these ends.
static LIMITS: LazyLock<Arc<Limits>> = LazyLock::new(|| {
    Arc::new(Limits {
        output_bytes: 256 * 1024,
        queue_bytes: 256 * 1024,
        stream_window: 1 << 20,
        connection_window: 16 << 20,
        streams: 1024,
        ..Limits::default()
    })
});

/// How much is read at once.
const READ: usize = 256 * 1024;

/// What a thread needs to serve any number of connections.
pub(crate) struct Scratch {
    buffer: Vec<u8>,
    head: Head,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; READ],
            head: Head::new(),
        }
    }

    /// Room for bytes that are no HTTP.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

/// The version of HTTP that a client speaks, without negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoesOn,
    IsOver,
}

pub(crate) struct Carrier {
    socket: TcpStream,
    pub(crate) core: Connection,
    /// What was read and is not yet understood.
    rest: Vec<u8>,
    /// Whether we are to be woken when more can be written.
    is_full: bool,
}

impl Carrier {
    /// Connects as a client, from the calling thread's namespace.
    ///
    /// # Errors
    /// If nobody listens there.
    pub(crate) fn connect(address: SocketAddr, version: Version, now: Instant) -> Result<Self> {
        let socket =
            TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        Ok(Self::new(socket, version, Role::Client, now)?)
    }

    pub(crate) fn new(
        socket: TcpStream,
        version: Version,
        role: Role,
        now: Instant,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let core = match version {
            Version::Http1 => Connection::http1(role, LIMITS.clone(), now),
            Version::Http2 => Connection::http2(role, LIMITS.clone(), now),
        };
        Ok(Self {
            socket,
            core,
            rest: Vec::new(),
            is_full: false,
        })
    }

    pub(crate) fn watch(&self, epoll: &Epoll, token: u64) -> Result<()> {
        Ok(epoll.add(&self.socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads what there is, at most once, and tells `act` of what came.
    ///
    /// # Errors
    /// What `act` says, or what is wrong with the socket.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Scratch,
        now: Instant,
        mut act: impl FnMut(&mut Connection, Event<'_>, &Head) -> Result<()>,
    ) -> Result<Then> {
        let kept = self.rest.len();
        if scratch.buffer.len() < kept + READ / 2 {
            scratch.buffer.resize(kept + READ, 0);
        }
        scratch.buffer[..kept].copy_from_slice(&self.rest);
        let then = match self.socket.read(&mut scratch.buffer[kept..]) {
            Ok(0) => {
                self.core.receive_eof(now);
                self.take(scratch, kept, now, &mut act)?;
                Then::IsOver
            }
            Ok(read) => {
                self.take(scratch, kept + read, now, &mut act)?;
                Then::GoesOn
            }
            Err(error) if is_later(&error) => {
                self.take(scratch, kept, now, &mut act)?;
                Then::GoesOn
            }
            Err(error) => return Err(error.into()),
        };
        Ok(if self.core.is_over() {
            Then::IsOver
        } else {
            then
        })
    }

    /// The first `length` bytes of the buffer are what there is.
    fn take(
        &mut self,
        scratch: &mut Scratch,
        length: usize,
        now: Instant,
        act: &mut impl FnMut(&mut Connection, Event<'_>, &Head) -> Result<()>,
    ) -> Result<()> {
        let mut input = &scratch.buffer[..length];
        while let Some(event) = self.core.poll_event(now, &mut input, &mut scratch.head) {
            act(&mut self.core, event, &scratch.head)?;
        }
        self.rest.clear();
        self.rest.extend_from_slice(input);
        Ok(())
    }

    /// Writes what there is to write, as far as the socket takes it.
    ///
    /// # Errors
    /// What is wrong with the socket.
    pub(crate) fn flush(&mut self, epoll: &Epoll, token: u64, now: Instant) -> Result<()> {
        while self.core.wants_write() {
            match self.socket.write(self.core.output(now)) {
                Ok(written) => self.core.wrote(written, now),
                Err(error) if is_later(&error) => return self.wait_for_room(epoll, token, true),
                Err(error) => return Err(error.into()),
            }
        }
        // Bytes that have left make events too: we are woken at once for those.
        self.wait_for_room(epoll, token, self.core.has_event())
    }

    fn wait_for_room(&mut self, epoll: &Epoll, token: u64, is_full: bool) -> Result<()> {
        if self.is_full != is_full {
            self.is_full = is_full;
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, is_full);
            epoll.modify(&self.socket, &mut EpollEvent::new(flags, token))?;
        }
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
