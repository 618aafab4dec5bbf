//! Makes the images of programs that others wrote, and runs each from its
//! unpacked archive: all libraries must be there. Needs root, no clusters:
//!
//!     cargo test --profile quick -p mesh-lab --features lab --test third_party
//!
//! Programs run as an image says, in process and mount namespaces, and in a
//! network namespace each.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use mesh_lab::{
    command,
    paths::Paths,
    third_party::{self, ThirdParty},
};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tempfile::TempDir;

const PAGE: &str = "A page of the lab.";
const DEADLINE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

#[test]
fn nginx_serves_a_page() {
    let image = Unpacked::new("nginx");
    image.run("nginx -e stderr -t");
    let server = image.start(8080);
    assert!(server.get("/").contains(PAGE));
}

#[test]
fn nginx_proxies_if_configured() {
    let image = Unpacked::new("nginx");
    let proxy = "server { listen 8081; location / { proxy_pass http://127.0.0.1:8080; } }";
    fs::write(image.path("etc/nginx/conf.d/proxy.conf"), proxy).unwrap();
    let server = image.start(8081);
    assert!(server.get("/").contains(PAGE));
}

#[test]
fn apache_serves_a_page() {
    let image = Unpacked::new("apache");
    let version = image.run("apache2 -v");
    assert!(version.contains("Apache/2."), "{version}");
    let server = image.start(8080);
    assert!(server.get("/").contains(PAGE));
}

#[test]
fn haproxy_answers() {
    let image = Unpacked::new("haproxy");
    image.run("haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d");
    let server = image.start(8080);
    assert!(server.get("/").contains(PAGE));
}

#[test]
fn redis_answers() {
    let image = Unpacked::new("redis");
    let version = image.run("redis-server --version");
    assert!(version.starts_with("Redis server"), "{version}");
    let server = image.start(6379);
    assert_eq!(server.ask("PING\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n");
}

#[test]
fn postgres_answers_a_query() {
    let image = Unpacked::new("postgres");
    let version = image.shell("/usr/lib/postgresql/*/bin/postgres --version");
    assert!(version.starts_with("postgres (PostgreSQL)"), "{version}");
    let _server = image.start(5432);
    let query = "/usr/lib/postgresql/*/bin/psql -h 127.0.0.1 -U postgres -Atc 'select 6 * 7'";
    // Its port is open while it still starts up.
    assert_eq!(image.shell_soon(query), "42\n");
}

#[test]
fn tools_run() {
    let image = Unpacked::new("tools");
    assert!(image.run("curl --version").starts_with("curl "));
    assert!(image.run("h2load --version").starts_with("h2load "));
}

#[test]
fn tools_reach_a_server_over_http2() {
    let tools = Unpacked::new("tools");
    let envoy = Unpacked::new("envoy");
    let _server = envoy.start(8080);
    let curl = "curl -s --http2-prior-knowledge http://127.0.0.1:8080/";
    assert_eq!(tools.run_in(&envoy.namespace, curl), PAGE);
    let load = "h2load -n 10 -c 1 http://127.0.0.1:8080/";
    let said = tools.run_in(&envoy.namespace, load);
    assert!(said.contains("10 succeeded"), "{said}");
}

#[test]
fn prometheus_is_ready() {
    let image = Unpacked::new("prometheus");
    let version = image.run("prometheus --version");
    assert!(version.starts_with("prometheus, version"), "{version}");
    image.run("promtool check config /etc/prometheus/prometheus.yml");
    let server = image.start(9090);
    assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200"));
}

#[test]
fn envoy_answers() {
    let image = Unpacked::new("envoy");
    let version = image.run("envoy --version");
    assert!(version.contains("/1.40.0/"), "{version}");
    let server = image.start(8080);
    assert!(server.get("/").contains(PAGE));
}

#[test]
fn an_archive_is_made_once() {
    let paths = Paths::from_env();
    let image = third_party::find("haproxy").unwrap();
    let made = || {
        let archive = third_party::make(&paths, image).unwrap();
        archive.metadata().unwrap().modified().unwrap()
    };
    assert_eq!(made(), made());
}

/// An image's files in a folder, and a network namespace for its programs.
struct Unpacked {
    image: &'static ThirdParty,
    folder: TempDir,
    namespace: Namespace,
}

impl Unpacked {
    fn new(name: &str) -> Self {
        let image = third_party::find(name).unwrap();
        let archive = third_party::make(&Paths::from_env(), image).unwrap();
        let folder = tempfile::tempdir().unwrap();
        unpack(&archive, &folder.path().join("root"));
        Self {
            image,
            folder,
            namespace: Namespace::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// Runs a program of the image; returns what it says.
    fn run(&self, line: &str) -> String {
        self.run_in(&self.namespace, line)
    }

    fn run_in(&self, namespace: &Namespace, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        command::finish(&mut self.command(namespace, &words), None).unwrap()
    }

    fn shell(&self, line: &str) -> String {
        let words = ["sh", "-c", line];
        command::finish(&mut self.command(&self.namespace, &words), None).unwrap()
    }

    /// As `shell`, again and again until it succeeds.
    fn shell_soon(&self, line: &str) -> String {
        let start = Instant::now();
        loop {
            let words = ["sh", "-c", line];
            match command::finish(&mut self.command(&self.namespace, &words), None) {
                Ok(said) => return said,
                Err(error) => assert!(start.elapsed() < DEADLINE, "{error:#}"),
            }
            thread::sleep(GLANCE);
        }
    }

    /// Starts what the image starts, and waits for its port.
    fn start(&self, port: u16) -> Server<'_> {
        let program = self.launch();
        let server = Server {
            namespace: &self.namespace,
            port,
            _program: program,
        };
        if let Err(error) = server.connect() {
            let log = fs::read_to_string(self.path("log")).unwrap();
            panic!("{}: port {port}: {error}: {log}", self.image.name);
        }
        server
    }

    fn launch(&self) -> Program {
        // Some programs open /dev/stderr: it must be the user's.
        let log = File::create(self.path("log")).unwrap();
        log.set_permissions(Permissions::from_mode(0o666)).unwrap();
        let mut command = self.command(&self.namespace, self.image.entrypoint);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Program(command.spawn().unwrap())
    }

    /// The programs of the root see /proc and /dev as in a container, and end
    /// with the `unshare` that starts them: so does the shell, as whose children
    /// they run. (They would not themselves: a new user forgets to.)
    fn command(&self, namespace: &Namespace, words: &[&str]) -> Command {
        let user = self.image.user;
        let enter = format!(
            "mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && \
             chroot --userspec={user}:{user} \"$0\" \"$@\"; exit $?"
        );
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", namespace.0))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", &enter])
            .arg(self.path(""))
            .args(words)
            .env_clear();
        for variable in self.image.environment {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }
}

/// A network namespace with loopback only.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesh-t-img-{}-{number}", process::id());
        command::ip(&format!("netns add {name}")).unwrap();
        let namespace = Self(name);
        command::ip(&format!("-n {} link set lo up", namespace.0)).unwrap();
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = command::ip(&format!("netns delete {}", self.0));
    }
}

/// A program that runs until it is dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server<'a> {
    namespace: &'a Namespace,
    port: u16,
    _program: Program,
}

impl Server<'_> {
    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Sends `question`; returns everything up to the end of the connection.
    fn ask(&self, question: &str) -> String {
        let mut connection = self.connect().unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace.0)).unwrap();
        let port = self.port;
        let connecting = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root");
            connect_within(DEADLINE, port)
        });
        connecting.join().unwrap()
    }
}

fn connect_within(deadline: Duration, port: u16) -> io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        let connection = TcpStream::connect(("127.0.0.1", port));
        if connection.is_ok() || start.elapsed() > deadline {
            return connection;
        }
        thread::sleep(GLANCE);
    }
}

/// Does what a container engine does with an archive of one layer.
fn unpack(archive: &Path, root: &Path) {
    let index = read_json(archive, "index.json");
    let manifest = read_json(archive, &blob(&index["manifests"][0]));
    let layer = read(archive, &blob(&manifest["layers"][0]));
    let mut layer = tar::Archive::new(&*layer);
    layer.set_preserve_permissions(true);
    layer.unpack(root).unwrap();
}

fn blob(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    format!("blobs/{}", digest.replace(':', "/"))
}

fn read_json(archive: &Path, name: &str) -> Value {
    serde_json::from_slice(&read(archive, name)).unwrap()
}

fn read(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries
        .find(|entry| entry.path().unwrap() == Path::new(name))
        .unwrap();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    content
}
