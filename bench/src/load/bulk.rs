//! One TCP connection that carries as many bytes as it can, in one direction;
//! and short ones and idle ones to the same port.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    payload::{PIECE, is_payload, payload},
    window::{Used, Window},
};
use crate::interrupt;

/// The first byte of a connection says what the back end does.
pub(crate) const DOWN: u8 = b'D';
pub(crate) const UP: u8 = b'U';
pub(crate) const ECHO: u8 = b'E';

/// How long nothing may happen.
const STALLED: Duration = Duration::from_secs(10);

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the client.
    Down,
    /// To the back end.
    Up,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Bytes within the window.
    pub(crate) bytes: u64,
    pub(crate) used: Used,
}

/// Carries bytes until the window is over.
///
/// # Errors
/// If a byte is wrong, or not all arrive.
pub(crate) fn run(address: SocketAddr, direction: Direction, window: Window) -> Result<Done> {
    let socket = connect(address)?;
    match direction {
        Direction::Down => down(socket, window),
        Direction::Up => up(socket, window),
    }
}

/// A connection that does not wait for ever.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(STALLED))?;
    socket.set_write_timeout(Some(STALLED))?;
    Ok(socket)
}

fn down(mut socket: TcpStream, mut window: Window) -> Result<Done> {
    socket.write_all(&[DOWN])?;
    let mut buffer = vec![0; PIECE];
    let (mut offset, mut bytes) = (0, 0);
    while !window.is_over() {
        interrupt::check()?;
        let read = socket.read(&mut buffer).context("nothing comes")?;
        ensure!(read > 0, "the connection was closed after {offset} bytes");
        ensure!(
            is_payload(offset, &buffer[..read]),
            "a wrong byte behind {offset}"
        );
        offset += read;
        if window.is_open(Instant::now())? {
            bytes += read as u64;
        }
    }
    done(bytes, &window)
}

fn up(mut socket: TcpStream, mut window: Window) -> Result<Done> {
    socket.write_all(&[UP])?;
    let (mut offset, mut bytes) = (0, 0);
    while !window.is_over() {
        interrupt::check()?;
        let written = socket
            .write(payload(offset, PIECE))
            .context("nothing is taken")?;
        offset += written;
        if window.is_open(Instant::now())? {
            bytes += written as u64;
        }
    }
    socket.shutdown(Shutdown::Write)?;
    let mut arrived = [0; 8];
    socket
        .read_exact(&mut arrived)
        .context("the back end does not say what has arrived")?;
    let arrived = u64::from_be_bytes(arrived);
    ensure!(
        arrived == offset as u64,
        "of {offset} bytes {arrived} have arrived"
    );
    done(bytes, &window)
}

fn done(bytes: u64, window: &Window) -> Result<Done> {
    let used = window.used().context("the window is over")?;
    Ok(Done { bytes, used })
}

/// Reads what was sent.
///
/// # Errors
/// If it does not come back as it was.
pub(crate) fn read_echo(socket: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut back = vec![0; bytes.len()];
    match socket.read_exact(&mut back) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("no echo for {STALLED:?}"),
        Err(error) => return Err(error).context("no echo"),
    }
    ensure!(back == bytes, "an echo of other bytes");
    Ok(())
}
