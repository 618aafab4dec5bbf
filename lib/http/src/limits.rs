//! What a connection bears, in one place. Everything here can be set.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bounds and deadlines of one connection. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Lines of fields in a head or in trailers (cookie crumbs of HTTP/2 are
    /// one). At most 128. Default 100; more is 431.
    pub head_lines: usize,
    /// All fields of a head together; for HTTP/2 as RFC 9113 §6.5.2 counts. A header
    /// block that is twice as long as it comes ends the connection. Default 64 KiB;
    /// more is 431.
    pub head_bytes: usize,
    /// A request's target. Default 64 KiB; more is 414.
    pub target_bytes: usize,
    /// Chunk extensions of one body. Default 8 KiB.
    pub chunk_extension_bytes: usize,
    /// Trailers, in HTTP/1. Default 16 KiB.
    pub trailer_bytes: usize,
    /// 1xx answers to one request. Default 32.
    pub informational: u8,

    /// How much data may be in the output buffer: what does not fit waits in
    /// its stream's queue, so that streams get fair turns. Default 64 KiB.
    pub output_bytes: usize,
    /// The same for a peer that took more than half of that at once the last time,
    /// if the [budget](Self::budget) has as much to spare: fewer and larger pieces are
    /// cheaper for everybody. Default 256 KiB.
    pub output_bytes_most: usize,
    /// How much one stream's queue takes. Default 64 KiB.
    pub queue_bytes: usize,
    /// How much a peer may send on a stream before it is consumed, at first.
    /// Default 65,535.
    pub stream_window: u32,
    /// How far a driver may let a stream's window grow. Default 16 MiB, which
    /// holds 1 Gbit/s over 100 ms.
    pub stream_window_most: u32,
    /// How much a peer may send on an HTTP/2 connection before we have read it,
    /// at first. Default 1 MiB.
    pub connection_window: u32,
    /// How much of an HTTP/2 connection's data may wait to be consumed before
    /// the peer has to stop on all streams. Default 16 MiB.
    pub connection_unconsumed: usize,
    /// Streams that the peer may have open. Default 256.
    pub streams: u32,
    /// Frames of one header block. Default 32.
    pub header_block_frames: u16,

    /// Streams that end before their answer has begun, by the peer's RST_STREAM
    /// or its mistake: [burst, per second]. Each answer pays for one more; the
    /// burst is for a client that leaves with all its streams open. Default 1,000
    /// and 100.
    pub resets: [u32; 2],
    /// PING and SETTINGS: [burst, per second]. Each DATA frame that we send pays
    /// for one more. Default 1,000 and 100.
    pub control_frames: [u32; 2],
    /// WINDOW_UPDATE and frames that change nothing: [burst, per second]. Each
    /// DATA frame that we send pays for four more. Default 10,000 and 1,000.
    pub idle_frames: [u32; 2],
    /// DATA frames of fewer than 16 bytes: [burst, per second]. Default 100,000
    /// and 100,000.
    pub tiny_data_frames: [u32; 2],
    /// What header blocks become beyond 64 times what they are: [burst, per
    /// second], in bytes. Default 32 MiB and 32 MiB.
    pub expanded_bytes: [u32; 2],

    /// From a head's first byte (for the first head: from the start) to its
    /// last. Default 10 s.
    pub head_time: Duration,
    /// Without a byte of a request's body that is due and could be taken.
    /// Default 60 s.
    pub body_time: Duration,
    /// Without any message. Default 15 minutes.
    pub idle_time: Duration,
    /// Without the peer taking a byte of what waits for it, on a connection or
    /// on one of its streams; not on a tunnel. Default 60 s.
    pub write_time: Duration,
    /// Until SETTINGS are acknowledged. Default 10 s.
    pub settings_time: Duration,
    /// From our last byte until the peer closes as well, and on HTTP/1 from what it has
    /// sent since: who sends a body to its end gets the answer that was given before.
    /// Default 2 s.
    pub linger_time: Duration,
    /// From our last byte until the peer closes as well, whatever it sends. Default 30 s.
    pub linger_most: Duration,

    /// What grown windows have together, also those of other connections. Default
    /// 64 MiB, of the process.
    pub budget: Arc<Budget>,
    /// How often what is bounded here was too much.
    pub struck: Arc<Struck>,
}

/// What somebody did too much of, or took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Limits::head_bytes`], or [`Limits::trailer_bytes`].
    HeadBytes,
    /// [`Limits::head_lines`].
    HeadLines,
    /// [`Limits::target_bytes`].
    TargetBytes,
    /// [`Limits::streams`].
    Streams,
    /// [`Limits::stream_window_most`], once for a stream that could use more.
    StreamWindow,
    /// [`Limits::connection_unconsumed`], each time that the peer has to stop.
    ConnectionUnconsumed,
    /// [`Limits::budget`], each time that a window did not get what it could use.
    Budget,
    /// [`Limits::head_time`].
    HeadTime,
    /// [`Limits::body_time`].
    BodyTime,
    /// [`Limits::idle_time`] of a client's connection.
    IdleTime,
    /// The same of a connection to a server.
    ServerIdleTime,
    /// [`Limits::write_time`].
    WriteTime,
    /// [`Limits::settings_time`].
    SettingsTime,
}

/// How often each bound has struck, on all connections that share this.
#[derive(Debug, Default)]
pub struct Struck([AtomicU64; Bound::SettingsTime as usize + 1]);

impl Struck {
    /// Counts a strike.
    pub fn count(&self, bound: Bound) {
        self.0[bound as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has struck so far.
    #[must_use]
    pub fn times(&self, bound: Bound) -> u64 {
        self.0[bound as usize].load(Ordering::Relaxed)
    }
}

/// What windows and buffers may have together beyond their first size, in bytes.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    granted: AtomicUsize,
}

impl Budget {
    /// Of so much.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            granted: AtomicUsize::new(0),
        }
    }

    /// Lends so much, if that much is left.
    #[must_use]
    pub fn lend(self: &Arc<Self>, bytes: usize) -> Option<Granted> {
        self.grant(bytes, self.most)
            .then(|| Granted::new(self, bytes))
    }

    /// Lends so much for what is only cheaper with it. Half of all is never lent for
    /// that.
    #[must_use]
    pub fn lend_spare(self: &Arc<Self>, bytes: usize) -> Option<Granted> {
        self.grant(bytes, self.most / 2)
            .then(|| Granted::new(self, bytes))
    }

    /// Takes `more` if no more than `most` are granted then.
    fn grant(&self, more: usize, most: usize) -> bool {
        let take = |granted: usize| granted.checked_add(more).filter(|sum| *sum <= most);
        self.granted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// What is granted now.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }
}

/// What somebody has of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Granted {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Granted {
    fn new(budget: &Arc<Budget>, bytes: usize) -> Self {
        let budget = budget.clone();
        Self { budget, bytes }
    }

    /// Takes `more`, if that much is left; whether it was.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let is_granted = self.budget.grant(more, self.budget.most);
        if is_granted {
            self.bytes += more;
        }
        is_granted
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.budget.granted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Of all connections of the process that are given no other.
static DEFAULT_BUDGET: LazyLock<Arc<Budget>> =
    LazyLock::new(|| Arc::new(Budget::new(64 * 1024 * 1024)));

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_lines: 100,
            head_bytes: 64 * 1024,
            target_bytes: 64 * 1024,
            chunk_extension_bytes: 8 * 1024,
            trailer_bytes: 16 * 1024,
            informational: 32,
            output_bytes: 64 * 1024,
            output_bytes_most: 256 * 1024,
            queue_bytes: 64 * 1024,
            stream_window: 65_535,
            stream_window_most: 16 * 1024 * 1024,
            connection_window: 1024 * 1024,
            connection_unconsumed: 16 * 1024 * 1024,
            streams: 256,
            header_block_frames: 32,
            resets: [1_000, 100],
            control_frames: [1_000, 100],
            idle_frames: [10_000, 1_000],
            tiny_data_frames: [100_000, 100_000],
            expanded_bytes: [32 * 1024 * 1024, 32 * 1024 * 1024],
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(15 * 60),
            write_time: Duration::from_secs(60),
            settings_time: Duration::from_secs(10),
            linger_time: Duration::from_secs(2),
            linger_most: Duration::from_secs(30),
            budget: DEFAULT_BUDGET.clone(),
            struck: Arc::default(),
        }
    }
}
