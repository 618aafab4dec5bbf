//! A pair with servers behind it and clients before it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{
    control::Port,
    identity::{CLIENT, FAR_CLIENT},
    namespace::{SERVICE, Side},
    pair::{self, Pair},
    process::{Program, mortal},
    sidecar::Sidecars,
    wait,
};
use mesh_testing::peers::program;
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Ports of A's namespace from which connections go to B without A, as those of a
/// client that has no sidecar.
const PAST_A: &str = "4143,9000-9009";
/// One of them.
pub(crate) const UNMESHED: u16 = 9000;

/// Fields are dropped in order: programs before the namespaces they are in.
pub(crate) struct Place {
    programs: Vec<Program>,
    pub(crate) pair: Pair,
    folder: TempDir,
    client: &'static str,
    _turn: Turn,
}

/// Who measures has the machine alone; all others share it.
static MACHINE: RwLock<()> = RwLock::new(());

enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

impl Turn {
    fn shared() -> Self {
        // A test that has failed leaves nothing behind that others could see.
        let guard = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Self::Shared { _guard: guard }
    }

    fn alone() -> Self {
        let guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::Alone { _guard: guard }
    }
}

/// A port at which A looks at the first bytes.
pub(crate) fn detected(port: u16) -> Port {
    Port::of_client(port, "detected", Protocol::Detect)
}

/// A port of which A has been told what is spoken there.
pub(crate) fn declared(port: u16, protocol: Protocol) -> Port {
    Port::of_client(port, "declared", protocol)
}

/// A port that a client without a sidecar may reach, too.
pub(crate) fn open(port: u16, protocol: Protocol) -> Port {
    Port::of_anybody(port, "open", protocol)
}

impl Place {
    /// A pair that runs, and a Service with these ports.
    pub(crate) fn new(ports: &[Port]) -> Self {
        Self::bearing(ports, &[])
    }

    /// The same, while no other one is there.
    pub(crate) fn alone(ports: &[Port]) -> Self {
        Self::near(Turn::alone(), ports, &[])
    }

    /// The same, of sidecars that bear other limits: variables, as `docs/limits.md`
    /// names them, and their values.
    pub(crate) fn bearing(ports: &[Port], limits: &[(&str, &str)]) -> Self {
        Self::near(Turn::shared(), ports, limits)
    }

    /// In one cluster.
    fn near(turn: Turn, ports: &[Port], limits: &[(&str, &str)]) -> Self {
        let copy = |built: &Path, folder: &Path| Ok(Sidecars::copy(built, folder)?.bearing(limits));
        Self::with(turn, CLIENT, copy, |name, sidecars| {
            Pair::start(name, sidecars, ports, PAST_A)
        })
    }

    /// The same in two clusters, with a gateway between them.
    pub(crate) fn in_two_clusters(ports: &[Port]) -> Self {
        Self::with(
            Turn::shared(),
            FAR_CLIENT,
            Sidecars::with_gateway,
            |name, sidecars| Pair::start_far(name, sidecars, ports),
        )
    }

    fn with(
        turn: Turn,
        client: &'static str,
        copy: impl FnOnce(&Path, &Path) -> Result<Sidecars>,
        start: impl FnOnce(&str, &Sidecars) -> Result<Pair>,
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("mesh-pair-").tempdir();
        let folder = folder.unwrap();
        let sidecars = copy(&pair::built().unwrap(), folder.path()).unwrap();
        let name = pair::name(NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            programs: Vec::new(),
            pair: start(&name, &sidecars).unwrap(),
            folder,
            client,
            _turn: turn,
        }
    }

    /// Who is behind A.
    pub(crate) const fn client(&self) -> &'static str {
        self.client
    }

    /// A file that clients and servers may read.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A configuration in which `@FOLDER@` is the folder of our files.
    pub(crate) fn configure(&self, name: &str, template: &str) -> PathBuf {
        let folder = self.folder.path().display().to_string();
        self.write(name, template.replace("@FOLDER@", &folder))
    }

    /// Starts a program of others, and waits until it listens on `ports`.
    pub(crate) fn start(&mut self, side: Side, command: Command, ports: &[u16]) {
        let number = self.programs.len();
        let log = self.file(&format!("program-{number}.log"));
        let namespace = self.pair.site().of(side);
        let mut program = Program::start(namespace, &[], command, &log).unwrap();
        for port in ports {
            self.until_open(side, *port, &mut program);
        }
        self.programs.push(program);
    }

    /// What the program said that was started last.
    pub(crate) fn log(&self) -> String {
        let last = self.programs.len() - 1;
        fs::read_to_string(self.file(&format!("program-{last}.log"))).unwrap()
    }

    /// Ends the program that was started last by a signal that it knows.
    pub(crate) fn stop(&mut self, signal: nix::sys::signal::Signal) {
        let mut program = self.programs.pop().unwrap();
        program.stop(signal, DEADLINE).unwrap();
    }

    fn until_open(&self, side: Side, port: u16, program: &mut Program) {
        let namespace = self.pair.site().of(side);
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let waited = wait::until(&format!("port {port} is open"), DEADLINE, || {
            program.check()?;
            namespace.enter(open)
        });
        if let Err(error) = waited {
            panic!("{error:#}\n{}", program.last_words());
        }
    }

    /// Runs a client of others; returns what it writes, and fails if it does.
    pub(crate) fn run(&self, client: &str, arguments: &[&str]) -> Result<String> {
        let output = self.output(client, arguments)?;
        said(&format!("{client} {}", arguments.join(" ")), &output)
    }

    /// The same, whether or not it fails.
    pub(crate) fn output(&self, client: &str, arguments: &[&str]) -> Result<Output> {
        self.finish(program(client).as_ref(), arguments)
    }

    /// Runs a line of shell where clients are.
    pub(crate) fn shell(&self, line: &str) -> Result<String> {
        said(line, &self.finish("sh".as_ref(), &["-c", line])?)
    }

    /// Runs a program in A's namespace to its end, or to the deadline.
    fn finish(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=1", &DEADLINE.as_secs().to_string()])
            .arg(program)
            .args(arguments)
            .current_dir(self.folder.path());
        clean(&mut command);
        let a = &self.pair.site().a;
        let output = a.enter(|| command.output())?;
        output.with_context(|| program.display().to_string())
    }

    /// A connection to the Service.
    pub(crate) fn connect(&self, port: u16) -> Result<TcpStream> {
        self.connect_to((SERVICE, port).into())
    }

    /// A connection of A's namespace.
    pub(crate) fn connect_to(&self, address: SocketAddr) -> Result<TcpStream> {
        let connected = self.pair.site().a.enter(|| TcpStream::connect(address))?;
        let socket = connected.with_context(|| address.to_string())?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Fails if a program or a sidecar has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.programs.iter_mut().try_for_each(Program::check)?;
        self.pair.check()
    }

    /// What all said last.
    pub(crate) fn said(&self) -> String {
        let programs = self.programs.iter().map(Program::last_words);
        let programs: Vec<String> = programs.collect();
        format!("{}\n{}", self.pair.said(), programs.join("\n"))
    }
}

/// What a program wrote; fails if it did.
fn said(line: &str, output: &Output) -> Result<String> {
    let [out, err] = [&output.stdout, &output.stderr].map(|said| {
        let said = String::from_utf8_lossy(said);
        said.trim_end().to_owned()
    });
    let line = line.get(..400).unwrap_or(line);
    ensure!(
        output.status.success(),
        "{line}: {}: {err} {out}",
        output.status
    );
    Ok(out)
}

/// A program of others that ends with this one.
pub(crate) fn server(name: &str) -> Command {
    server_at(&program(name))
}

/// The same, of a program that is somewhere else.
pub(crate) fn server_at(path: &Path) -> Command {
    let mut command = mortal(path);
    clean(&mut command);
    command
}

/// Nothing of the caller's surroundings, such as a proxy that clients are to use.
fn clean(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
}
