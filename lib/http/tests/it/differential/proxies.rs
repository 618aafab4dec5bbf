//! HAProxy and nghttpx, each in front of a back end that takes everything: what
//! they understood is what they pass on.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Observed, Understood, raw::Raw};
use crate::peers;

/// For a proxy to start, and for what it has to do in any case.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long without a byte, a proxy waits for more.
const SILENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(200);

/// What the back end answers.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A proxy that runs, with its sockets in a folder of its own.
pub(crate) struct Proxy {
    process: Child,
    folder: TempDir,
    back: UnixListener,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    pub(crate) fn haproxy() -> Self {
        Self::start(|folder| {
            let path = folder.display();
            let configuration = format!(
                "global\n nbthread 1\n\
                 defaults\n mode http\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n retries 0\n option http-buffer-request\n\
                 frontend http1\n bind unix@{path}/http1\n default_backend raw\n\
                 frontend http2\n bind unix@{path}/http2 proto h2\n default_backend raw\n\
                 backend raw\n http-reuse never\n server raw unix@{path}/back\n"
            );
            fs::write(folder.join("haproxy.cfg"), configuration).unwrap();
            let mut command = peers::server("haproxy");
            command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
            command
        })
    }

    pub(crate) fn nghttpx() -> Self {
        Self::start(|folder| {
            let path = folder.display();
            let mut command = peers::server("nghttpx");
            command
                .arg(format!("--frontend=unix:{path}/http1;no-tls"))
                .arg(format!("--frontend=unix:{path}/http2;no-tls"))
                .arg(format!("--backend=unix:{path}/back"))
                .arg(format!("--pid-file={path}/pid"))
                .args(["--conf=/dev/null", "--single-process", "--workers=1"])
                .args([
                    "--no-add-x-forwarded-proto",
                    "--no-via",
                    "--no-server-rewrite",
                ]);
            command
        })
    }

    fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let back = UnixListener::bind(folder.path().join("back")).unwrap();
        back.set_nonblocking(true).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = command(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut proxy = Self {
            process,
            folder,
            back,
        };
        proxy.wait_until_it_listens();
        proxy
    }

    fn wait_until_it_listens(&mut self) {
        let begin = Instant::now();
        let path = |name: &str| self.folder.path().join(name);
        let listens = || {
            let connects = |name| UnixStream::connect(path(name)).is_ok();
            connects("http1") && connects("http2")
        };
        while !listens() {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(path("log")).unwrap_or_default();
                panic!("the proxy does not listen: {ended:?}\n{log}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends HTTP/1, and reads until the proxy has closed, or has answered what
    /// comes last; if it does neither, until it has answered as much as this
    /// engine has, or is silent.
    pub(crate) fn http1(&self, input: &[u8], ours: &Observed) -> Observed {
        let mut visit = self.visit("http1");
        visit.write(input);
        let expected = super::wire::statuses(&ours.output).len();
        visit.work(SILENCE, |visit| {
            let answers = super::wire::statuses(&visit.output).len();
            let seen = &visit.back.seen;
            let last = seen.last().is_some_and(|last| last.path == "/canary");
            (last && answers >= seen.len()) || (!ours.refused && answers >= expected)
        });
        visit.shutdown();
        visit.work(PATIENCE, |_| false);
        visit.observed()
    }

    /// Sends frames step by step, each when the requests that this engine has
    /// seen before have come through and were answered, then a request that has to be answered if
    /// the connection is still there.
    pub(crate) fn http2(&self, steps: &[Vec<u8>], expected: &[usize], canary: &[u8]) -> Observed {
        let mut visit = self.visit("http2");
        for (step, expected) in steps.iter().zip(expected) {
            visit.write(step);
            visit.work(SILENCE, |visit| {
                let outcome = super::wire::Outcome::of(&visit.output);
                visit.back.seen.len() >= *expected && outcome.streams.len() >= *expected
            });
        }
        visit.write(canary);
        visit.work(PATIENCE, |visit| {
            let outcome = super::wire::Outcome::of(&visit.output);
            visit.closed || outcome.streams.contains_key(&super::CANARY)
        });
        visit.observed()
    }

    /// Asks over HTTP/1 for an answer and no more, has the back end answer with
    /// `answer` and close, and returns what has come.
    pub(crate) fn answer(&self, request: &[u8], answer: &[u8]) -> Vec<u8> {
        let mut visit = self.visit("http1");
        visit.back.answer = Some(answer.to_vec());
        visit.write(request);
        visit.work(PATIENCE, |_| false);
        visit.output
    }

    fn visit(&self, socket: &str) -> Visit<'_> {
        // A late one of the last visit's.
        while self.back.accept().is_ok() {}
        let client = UnixStream::connect(self.folder.path().join(socket)).unwrap();
        client.set_nonblocking(true).unwrap();
        Visit {
            client,
            unsent: Vec::new(),
            output: Vec::new(),
            closed: false,
            back: Back {
                listener: &self.back,
                connections: Vec::new(),
                seen: Vec::new(),
                answer: None,
            },
        }
    }
}

/// One connection through a proxy, both ends of it.
struct Visit<'a> {
    client: UnixStream,
    unsent: Vec<u8>,
    output: Vec<u8>,
    closed: bool,
    back: Back<'a>,
}

impl Visit<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    fn shutdown(&mut self) {
        let _ = self.client.shutdown(Shutdown::Write);
    }

    /// Works on both ends until `done`, or until nothing has come for so long.
    fn work(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let mut last = Instant::now();
        loop {
            if self.client_works() | self.back.works() {
                last = Instant::now();
            } else if done(self) || self.closed || last.elapsed() > patience {
                return;
            } else {
                thread::sleep(PAUSE);
            }
        }
    }

    fn client_works(&mut self) -> bool {
        let mut moved = false;
        if !self.unsent.is_empty() {
            match self.client.write(&self.unsent) {
                Ok(n) => {
                    self.unsent.drain(..n);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It has closed; what it said before is still read.
                Err(_) => self.unsent.clear(),
            }
        }
        match read(&mut self.client, &mut self.output) {
            Read::Some => moved = true,
            Read::Nothing => {}
            Read::End => self.closed = true,
        }
        moved
    }

    fn observed(mut self) -> Observed {
        while self.back.works() {}
        Observed {
            requests: self.back.seen,
            output: self.output,
            refused: self.closed,
        }
    }
}

/// The back end.
struct Back<'a> {
    listener: &'a UnixListener,
    connections: Vec<Link>,
    seen: Vec<Understood>,
    /// Instead of the usual answer, and then no more.
    answer: Option<Vec<u8>>,
}

/// A proxy's connection to the back end.
struct Link {
    stream: UnixStream,
    unread: Vec<u8>,
    /// What follows a CONNECT is nobody's request.
    tunnel: bool,
}

impl Back<'_> {
    fn works(&mut self) -> bool {
        let mut moved = false;
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.connections.push(Link {
                stream,
                unread: Vec::new(),
                tunnel: false,
            });
            moved = true;
        }
        let (seen, answer) = (&mut self.seen, &self.answer);
        self.connections.retain_mut(|link| {
            let state = read(&mut link.stream, &mut link.unread);
            moved |= state == Read::Some;
            while let Some(request) = link.request() {
                seen.push(request);
                moved = true;
                if let Some(answer) = answer {
                    let _ = link.stream.set_nonblocking(false);
                    let _ = link.stream.write_all(answer);
                    return false;
                }
                let _ = link.stream.write_all(ANSWER);
            }
            state != Read::End
        });
        moved
    }
}

impl Link {
    /// The next request that has come.
    fn request(&mut self) -> Option<Understood> {
        if self.tunnel {
            return None;
        }
        let (raw, len) = Raw::of(&self.unread)?;
        self.unread.drain(..len);
        let understood = raw.understood();
        self.tunnel = understood.method == "CONNECT";
        Some(understood)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    End,
}

fn read(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> Read {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => Read::End,
        Ok(n) => {
            bytes.extend_from_slice(&buffer[..n]);
            Read::Some
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
        Err(_) => Read::End,
    }
}
