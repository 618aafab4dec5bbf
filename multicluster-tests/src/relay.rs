//! A bad path between networks, for kernels without netem: a process that
//! takes packets from the kernel and gives them back late, or not at all.
//!
//! There is one TUN device per direction. What is routed into a device comes
//! out of the same device when [`queue::Queue`] says so; who routes packets
//! into it is [`crate::fault::path`]'s business.
//!
//! The devices belong to the process: however it ends, they go with it, and
//! with them the routes through them.

pub(crate) mod flags;
pub mod path;
pub mod queue;

use std::{
    io::{self, ErrorKind, Write as _},
    os::fd::AsFd as _,
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};
use rand::{SeedableRng as _, rngs::StdRng};
use tun_rs::{DeviceBuilder, SyncDevice};

pub use self::flags::Flags;
use self::{path::Path, queue::Queue};

/// What the kernel calls the devices; it puts a number in.
const DEVICE: &str = "relay%d";
/// The longest IP packet.
const LONGEST: usize = 65_535;
/// Packets read from one device before the other has its turn.
const BATCH: usize = 64;

/// Relays packets until standard input ends.
///
/// Prints the names of the two devices when they are there, and in the end what
/// happened to the packets of each.
///
/// # Errors
/// If there can be no devices, or the kernel takes no packets.
pub fn run(flags: &Flags) -> Result<()> {
    let path = flags.path()?;
    let mut directions = [Direction::new(path, 0)?, Direction::new(path, 1)?];
    let names: Vec<String> = directions
        .iter()
        .map(|direction| direction.device.name())
        .collect::<io::Result<_>>()?;
    say(&names.join(" "))?;
    while wait(&directions)? == Woken::Packets {
        for direction in &mut directions {
            direction.read()?;
            direction.write()?;
        }
    }
    for direction in &directions {
        say(&direction.queue.tally().to_string())?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

struct Direction {
    device: SyncDevice,
    queue: Queue,
    dice: StdRng,
    buffer: Vec<u8>,
}

impl Direction {
    fn new(path: Path, seed: u64) -> Result<Self> {
        let device = DeviceBuilder::new()
            .name(DEVICE)
            .enable(false)
            .build_sync()
            .context("no TUN device")?;
        device.set_nonblocking(true)?;
        Ok(Self {
            device,
            queue: Queue::new(path),
            // Always the same numbers: only the traffic differs between runs.
            dice: StdRng::seed_from_u64(seed),
            buffer: vec![0; LONGEST],
        })
    }

    fn read(&mut self) -> Result<()> {
        for _ in 0..BATCH {
            match self.device.recv(&mut self.buffer) {
                Ok(length) => {
                    let packet = &self.buffer[..length];
                    self.queue.accept(packet, Instant::now(), &mut self.dice);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading a packet"),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(packet) = self.queue.due(now) {
            self.device.send(&packet).context("writing a packet")?;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum Woken {
    Packets,
    End,
}

/// Sleeps until there is a packet to read or to write, or no more to do.
fn wait(directions: &[Direction; 2]) -> Result<Woken> {
    let next = directions.iter().filter_map(|d| d.queue.next_due()).min();
    let timeout = next.map(|due| TimeSpec::from(due.saturating_duration_since(Instant::now())));
    let stdin = io::stdin();
    let [forth, back] = directions.each_ref().map(|d| d.device.as_fd());
    let mut files = [stdin.as_fd(), forth, back].map(|file| PollFd::new(file, PollFlags::POLLIN));
    match ppoll(&mut files, timeout, None) {
        // Whatever comes there: it is the parent's way to say that it ends.
        Ok(_) if files[0].any().unwrap_or(true) => Ok(Woken::End),
        Ok(_) | Err(Errno::EINTR) => Ok(Woken::Packets),
        Err(error) => Err(error).context("waiting for packets"),
    }
}
