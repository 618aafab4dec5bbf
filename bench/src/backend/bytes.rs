//! The port of bytes. The first byte of a connection says what is done.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::load::{
    bulk::{DOWN, ECHO, UP},
    carrier::Scratch,
    payload::{PIECE, is_payload, payload},
};

/// A connection to the port of bytes.
pub(crate) struct Bytes {
    socket: TcpStream,
    task: Task,
}

enum Task {
    Unknown,
    /// So many bytes have been sent.
    Down(usize),
    /// So many have come.
    Up(usize),
    Echo,
}

impl Bytes {
    pub(crate) const fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            task: Task::Unknown,
        }
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Does what can be done; false once it is over.
    pub(crate) fn act(&mut self, epoll: &Epoll, token: u64, scratch: &mut Scratch) -> Result<bool> {
        let done = match self.task {
            Task::Unknown => self.begin(epoll, token),
            Task::Down(sent) => self.down(sent),
            Task::Up(received) => self.up(received, scratch),
            Task::Echo => self.echo(scratch),
        };
        match done {
            Err(error) if is_later(&error) => Ok(true),
            other => other,
        }
    }

    fn begin(&mut self, epoll: &Epoll, token: u64) -> Result<bool> {
        let mut first = [0];
        if self.socket.peek(&mut first)? == 0 {
            return Ok(false);
        }
        self.task = match first[0] {
            DOWN => Task::Down(0),
            UP => Task::Up(0),
            // What asks for an echo is part of it.
            ECHO => {
                self.task = Task::Echo;
                return Ok(true);
            }
            other => bail!("{other:#x} asks for nothing"),
        };
        self.socket.read_exact(&mut first)?;
        if matches!(self.task, Task::Down(_)) {
            let event = EpollEvent::new(EpollFlags::EPOLLOUT, token);
            epoll.modify(&self.socket, &mut { event })?;
        }
        Ok(true)
    }

    fn down(&mut self, sent: usize) -> Result<bool> {
        let written = self.socket.write(payload(sent, PIECE))?;
        self.task = Task::Down(sent + written);
        Ok(true)
    }

    fn up(&mut self, received: usize, scratch: &mut Scratch) -> Result<bool> {
        let buffer = scratch.bytes();
        let read = self.socket.read(buffer)?;
        if read == 0 {
            self.socket.write_all(&(received as u64).to_be_bytes())?;
            return Ok(false);
        }
        ensure!(
            is_payload(received, &buffer[..read]),
            "a wrong byte behind {received} bytes"
        );
        self.task = Task::Up(received + read);
        Ok(true)
    }

    /// Echoes are short: the socket takes them at once.
    fn echo(&mut self, scratch: &mut Scratch) -> Result<bool> {
        let buffer = scratch.bytes();
        let read = self.socket.read(buffer)?;
        self.socket.write_all(&buffer[..read])?;
        Ok(read > 0)
    }
}

fn is_later(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}
