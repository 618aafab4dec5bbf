//! What a listener on the link between A and B sees.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::{
        socket::{
            AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::namespace::{LINK, Namespace};

/// A packet with what the card would have cut into segments.
const LARGEST: usize = 128 * 1024;
/// How many milliseconds it waits for a packet at most.
const TICK: i64 = 50;

/// A capture that runs; it ends when it is dropped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Seen>>>,
}

/// What was captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets.
    pub packets: u64,
    /// Packets that could be read.
    pub readable: u64,
}

impl Capture {
    /// Captures on the link of `namespace` from now on. A packet can be read that
    /// has `sign` in it: what is sent again and again, and looks like nothing else.
    ///
    /// # Errors
    /// Without root.
    pub fn start(namespace: &Namespace, sign: &'static [u8]) -> Result<Self> {
        let (socket, link) = namespace.enter(open)??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || watch(&socket, link, sign, &stopping));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If the link could not be read.
    pub fn stop(mut self) -> Result<Seen> {
        self.end().context("the capture was ended before")?
    }

    fn end(&mut self) -> Option<Result<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        Some(
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the capture has panicked"))),
        )
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// A socket that sees all packets of a namespace, and the link's number there.
fn open() -> Result<(OwnedFd, usize)> {
    let all = SockProtocol::EthAll;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, all)?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::milliseconds(TICK),
    )?;
    setsockopt(&socket, sockopt::RcvBuf, &(8 << 20))?;
    Ok((socket, usize::try_from(if_nametoindex(LINK)?)?))
}

fn watch(socket: &OwnedFd, link: usize, sign: &[u8], stop: &AtomicBool) -> Result<Seen> {
    let (mut seen, mut packet) = (Seen::default(), vec![0; LARGEST]);
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok((length, from)) => {
                // Loopback carries plain text by design.
                if from.is_some_and(|from| from.ifindex() == link) {
                    seen.packets += 1;
                    seen.readable += u64::from(is_readable(&packet[..length], sign));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) if stop.load(Ordering::Relaxed) => return Ok(seen),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether what we send can be read in a packet.
fn is_readable(packet: &[u8], sign: &[u8]) -> bool {
    let starts = (packet.len() + 1).saturating_sub(sign.len());
    (0..starts).any(|at| packet[at] == sign[0] && packet[at..at + sign.len()] == *sign)
}

/// Checks what was seen between two proxies, or between none.
///
/// # Errors
/// If the link was not used, or its bytes could be read though there are
/// proxies. Without proxies they must be readable, else the capture is blind.
pub fn check(seen: Seen, is_encrypted: bool) -> Result<()> {
    ensure!(seen.packets > 0, "nothing has crossed the link");
    if is_encrypted {
        ensure!(
            seen.readable == 0,
            "{} of {} packets on the link can be read by anybody",
            seen.readable,
            seen.packets
        );
    } else {
        ensure!(
            seen.readable > 0,
            "the capture does not see what is not encrypted"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_found_wherever_it_is_in_a_packet() {
        let sign = b"whoever reads this";
        for (before, behind) in [(0, 0), (1, 0), (54, 9), (1000, 1)] {
            let packet = [&vec![b'w'; before], &sign[..], &vec![7; behind]].concat();
            assert!(is_readable(&packet, sign), "{before}, {behind}");
        }
        for other in [&sign[1..], b"", &[0; 2000]] {
            assert!(!is_readable(other, sign), "{other:?}");
        }
    }

    #[test]
    fn readable_bytes_between_proxies_are_refused() {
        let seen = |packets, readable| Seen { packets, readable };
        assert!(check(seen(10, 0), true).is_ok());
        assert!(check(seen(10, 1), true).is_err());
        assert!(check(seen(0, 0), true).is_err(), "nothing was there");
    }

    #[test]
    fn without_a_proxy_the_capture_must_see_something() {
        let seen = |packets, readable| Seen { packets, readable };
        assert!(check(seen(10, 3), false).is_ok());
        assert!(check(seen(10, 0), false).is_err());
    }
}
