//! How much is read and written at once.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use mesh_drive::{
    conduit,
    exchange::{Exchange, as_they_are},
    socket::{Sealed, Socket},
};
use mesh_http::limits::{Budget, Limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::place::eventually;

/// What is read at once for what is sent on in four frames and four records of TLS, and
/// four times as much.
const USUAL: usize = 64 * 1024 - 4 * (9 + 22);
const AMPLE: usize = 4 * USUAL;
/// What waits for a peer usually, and in a stream's queue.
const KEPT: usize = 64 * 1024;
const ENDLESS: usize = usize::MAX;

/// What was done with a socket.
#[derive(Default)]
struct Done {
    /// How much each call wanted to read, and each one wrote.
    asked: Vec<usize>,
    wrote: Vec<usize>,
}

/// A socket that gives bytes and takes bytes, up to so many.
struct Pipe {
    gives: usize,
    takes: usize,
    /// Whether it lets wait whoever writes, or flushes, before it does so.
    lets_wait: [bool; 2],
    has_waited: [bool; 2],
    done: Arc<Mutex<Done>>,
}

impl Pipe {
    fn new(gives: usize, takes: usize) -> (Self, Arc<Mutex<Done>>) {
        let done = Arc::default();
        let pipe = Self {
            gives,
            takes,
            lets_wait: [false; 2],
            has_waited: [false; 2],
            done: Arc::clone(&done),
        };
        (pipe, done)
    }

    /// Whether this call has to be made again.
    fn waits(&mut self, at: usize, cx: &Context<'_>) -> bool {
        self.has_waited[at] = self.lets_wait[at] && !self.has_waited[at];
        if self.has_waited[at] {
            cx.waker().wake_by_ref();
        }
        self.has_waited[at]
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let given = buffer.remaining().min(self.gives);
        if given == 0 {
            return Poll::Pending;
        }
        self.done.lock().unwrap().asked.push(buffer.remaining());
        buffer.put_slice(&vec![7; given]);
        self.gives -= given;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waits(0, cx) {
            return Poll::Pending;
        }
        let taken = bytes.len().min(self.takes);
        if taken == 0 {
            return Poll::Pending;
        }
        self.done.lock().unwrap().wrote.push(taken);
        self.takes -= taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waits(1, cx) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Pipe {
    fn break_off(&self) {}
}

fn with_budget(bytes: usize) -> Arc<Limits> {
    Arc::new(Limits {
        budget: Arc::new(Budget::new(bytes)),
        ..Limits::default()
    })
}

fn opened(socket: impl Socket + Send + 'static, limits: &Arc<Limits>) -> Exchange {
    let (exchange, life) = conduit::bytes(socket, limits.clone());
    tokio::spawn(life);
    exchange
}

/// What comes from one socket goes to another; what was done with both.
fn joined(
    gives: usize,
    takes: usize,
    lets_wait: [bool; 2],
    limits: &Arc<Limits>,
) -> ([Arc<Mutex<Done>>; 2], [Exchange; 2]) {
    let (source, read) = Pipe::new(gives, 0);
    let (mut sink, written) = Pipe::new(0, takes);
    sink.lets_wait = lets_wait;
    let (source, sink) = (opened(source, limits), opened(sink, limits));
    source.join(&sink, as_they_are);
    ([read, written], [source, sink])
}

fn sum(done: &Mutex<Done>) -> [usize; 2] {
    let done = done.lock().unwrap();
    [done.asked.iter().sum(), done.wrote.iter().sum()]
}

/// The largest write.
fn largest(done: &Mutex<Done>) -> usize {
    let done = done.lock().unwrap();
    done.wrote.iter().copied().max().unwrap_or_default()
}

#[tokio::test]
async fn h15_what_flows_is_read_and_written_in_larger_pieces() {
    const ALL: usize = 100 * AMPLE + 1;
    let limits = with_budget(64 << 20);
    let ([read, written], _held) = joined(ALL, ENDLESS, [false; 2], &limits);
    eventually("all is written", || sum(&written)[1] == ALL).await;
    {
        let read = read.lock().unwrap();
        assert_eq!(read.asked[..3], [USUAL, USUAL, AMPLE]);
        assert!(read.asked.len() < 120, "{} reads", read.asked.len());
    }
    let most = largest(&written);
    assert!(most > 250 << 10 && most <= 256 << 10, "{most}");
    eventually("all is given back", || limits.budget.granted() == 0).await;
}

#[tokio::test]
async fn h15_without_a_budget_to_spare_pieces_are_as_usual() {
    const ALL: usize = 100 * AMPLE;
    // Half of it is for windows.
    for budget in [0, 2 * AMPLE - 1] {
        let limits = with_budget(budget);
        let ([read, written], _held) = joined(ALL, ENDLESS, [false; 2], &limits);
        eventually("all is written", || sum(&written)[1] == ALL).await;
        let read = read.lock().unwrap();
        assert!(read.asked.iter().all(|asked| *asked == USUAL), "{budget}");
        assert!(largest(&written) <= 64 << 10);
    }
}

#[tokio::test]
async fn h15_who_takes_nothing_at_once_is_written_as_usual() {
    const ALL: usize = 100 * AMPLE;
    for lets_wait in [[true, false], [false, true]] {
        let limits = with_budget(64 << 20);
        let ([_, written], _held) = joined(ALL, ENDLESS, lets_wait, &limits);
        eventually("all is written", || sum(&written)[1] == ALL).await;
        // With what waited in the queue.
        assert!(largest(&written) <= 2 * KEPT, "{}", largest(&written));
    }
}

#[tokio::test]
async fn h15_for_a_reader_that_stops_more_is_held_only_if_it_kept_up_and_of_the_budget() {
    // Where it waits: in the output, in the queue, and where it was read.
    for (takes, most) in [(0, 3 * KEPT), (8 << 20, 9 * KEPT)] {
        let limits = with_budget(64 << 20);
        let ([read, written], held) = joined(ENDLESS, takes, [false; 2], &limits);
        let mut before = None;
        // Until nothing moves any more.
        eventually("nothing moves", || {
            let now = (sum(&read), sum(&written));
            before.replace(now) == Some(now) && now.1[1] == takes
        })
        .await;
        let holds = sum(&read)[0] - takes;
        assert!(holds <= most, "{holds} after {takes}");
        let granted = limits.budget.granted();
        assert_eq!(granted > 0, holds > 3 * KEPT, "{granted} for {holds}");
        drop(held);
        eventually("all is given back", || limits.budget.granted() == 0).await;
    }
}

/// A buffer that was used for sealed bytes is longer.
#[tokio::test]
async fn what_is_plain_is_read_as_it_fits_whatever_was_read_before_on_the_thread() {
    let limits = with_budget(0);
    let (sealed, done) = Pipe::new(10 * USUAL, 0);
    let _sealed = opened(Sealed(sealed), &limits);
    eventually("it is read", || !done.lock().unwrap().asked.is_empty()).await;
    assert!(done.lock().unwrap().asked[0] > USUAL);
    let (plain, done) = Pipe::new(10 * USUAL, 0);
    let _plain = opened(plain, &limits);
    eventually("it is read", || !done.lock().unwrap().asked.is_empty()).await;
    assert_eq!(done.lock().unwrap().asked[0], USUAL);
}
