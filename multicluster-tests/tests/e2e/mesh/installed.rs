//! The mesh and its application, installed and linked as a user does it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use mesh_lab::paths::Paths;
use serde_json::Value;

use crate::shared::{Shared, eventually, shared};

pub(super) const WEST: &str = "west";
pub(super) const EAST: &str = "east";
/// Who the client in west is.
pub(super) const CLIENT: &str = "spiffe://west/ns/shop/sa/client";

const SHOP_EAST: &str = include_str!("../../../manifests/shop-east.yaml");
const STRANGER: &str = include_str!("../../../manifests/stranger-west.yaml");
const SHOP_WEST: &str = include_str!("../../../manifests/shop-west.yaml");

/// The application's manifests.
pub(crate) fn shop(cluster: &str) -> &'static str {
    match cluster {
        EAST => SHOP_EAST,
        _ => SHOP_WEST,
    }
}

/// The clusters, with the mesh, a link between them and the application; the
/// first test that asks installs them.
pub(super) fn linked() -> Arc<Shared> {
    static READY: OnceLock<()> = OnceLock::new();
    let shared = shared();
    READY.get_or_init(|| install(&shared));
    shared
}

fn install(shared: &Shared) {
    for name in [WEST, EAST] {
        let cluster = shared.cluster(name);
        let control = mesh(&["install", "--cluster", name], "");
        cluster.apply(&control).expect("the control plane");
        let multicluster = mesh(&["multicluster", "install"], "");
        cluster.apply(&multicluster).expect("gateway and mirror");
    }
    for name in [WEST, EAST] {
        rolled_out(shared, name, "mesh-system", "mesh-control");
        rolled_out(shared, name, "mesh-multicluster", "mesh-gateway");
        rolled_out(shared, name, "mesh-multicluster", "mesh-mirror");
    }
    mesh(&LINK, "");
    for name in [WEST, EAST] {
        let injected = mesh(&["inject", "-"], shop(name));
        shared.cluster(name).apply(&injected).expect("the shop");
    }
    for (cluster, name) in [
        (EAST, "web"),
        (EAST, "vault"),
        (WEST, "web"),
        (WEST, "client"),
    ] {
        rolled_out(shared, cluster, "shop", name);
    }
    eventually("web-east answers", shared.cluster(WEST), || {
        client(shared, &["get", "http://web-east"]).is_ok()
    });
}

/// Links the two clusters, both ways.
pub(super) const LINK: [&str; 7] = [
    "multicluster",
    "link",
    "--context",
    WEST,
    "--cluster",
    EAST,
    "--yes",
];

/// Waits until all pods of a Deployment are those of its last change.
pub(super) fn rolled_out(shared: &Shared, cluster: &str, namespace: &str, name: &str) {
    let deployment = format!("deploy/{name}");
    let words = ["-n", namespace, "rollout", "status", &deployment];
    shared
        .cluster(cluster)
        .kubectl(&[&words[..], &["--timeout=90s"]].concat())
        .unwrap_or_else(|error| panic!("{cluster}: {name}: {error:#}"));
}

/// Runs the command `mesh` with the lab's kubeconfig; returns what it prints.
pub(crate) fn mesh(arguments: &[&str], input: &str) -> String {
    let output = mesh_output(arguments, input);
    assert!(
        output.status.success(),
        "mesh {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// What `mesh multicluster explain` says of a call from west's namespace shop:
/// an error if it is not content.
pub(super) fn explain(ask: &[&str]) -> Result<String, String> {
    let words = ["multicluster", "explain", "--context", WEST, "-n", "shop"];
    try_mesh(&[&words[..], ask].concat())
}

/// The same for a command that may fail; what it printed in either case.
pub(super) fn try_mesh(arguments: &[&str]) -> Result<String, String> {
    let output = mesh_output(arguments, "");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(printed)
    } else {
        Err(printed + &String::from_utf8_lossy(&output.stderr))
    }
}

fn mesh_output(arguments: &[&str], input: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("mesh");
    let mut child = Command::new(&program)
        .args(arguments)
        .env("KUBECONFIG", Paths::from_env().kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    // It is small enough for a pipe, so this does not wait for a reader.
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// Runs `test` with a way to send requests from a pod in west without a sidecar.
pub(super) fn with_stranger(
    shared: &Shared,
    test: impl FnOnce(&dyn Fn(&str) -> Result<String, String>),
) {
    let west = shared.cluster(WEST);
    west.apply(STRANGER).expect("the pod");
    let ready = [
        "-n",
        "shop",
        "wait",
        "--for=condition=Ready",
        "pod/stranger",
    ];
    west.kubectl(&[&ready[..], &["--timeout=60s"]].concat())
        .expect("the pod starts");
    test(&|url| {
        let pod = ["-n", "shop", "exec", "stranger", "--", "/testapp", "get"];
        west.kubectl(&[&pod[..], &[url]].concat())
            .map_err(|error| format!("{error:#}"))
    });
    west.kubectl(&["-n", "shop", "delete", "pod", "stranger", "--now"])
        .expect("the pod ends");
}

/// Runs `testapp` in the client's pod in west; the error is what it said.
pub(super) fn client(shared: &Shared, words: &[&str]) -> Result<String, String> {
    let pod = ["-n", "shop", "exec", "deploy/client", "-c", "client"];
    shared
        .cluster(WEST)
        .kubectl(&[&pod[..], &["--", "/testapp"], words].concat())
        .map_err(|error| format!("{error:#}"))
}

/// The answer to a call of the client, which must succeed.
pub(super) fn call(shared: &Shared, words: &[&str]) -> Value {
    let text = client(shared, words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    answer(&text)
}

/// The JSON object in what `testapp` printed.
pub(crate) fn answer(text: &str) -> Value {
    let object = text.lines().find_map(|line| {
        let json = line.get(line.find('{')?..)?;
        serde_json::from_str(json).ok()
    });
    object.unwrap_or_else(|| panic!("no JSON in {text:?}"))
}

/// The value of a header that the echo saw.
pub(crate) fn header(answer: &Value, name: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = answer["headers"].as_array().expect("headers");
    headers
        .iter()
        .map(|pair| match pair {
            Value::Array(pair) => (text(&pair[0]), text(&pair[1])),
            pair => (text(&pair["name"]), text(&pair["value"])),
        })
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value)
        .collect()
}

/// Load from the client's pod, under way.
pub(super) struct Load(JoinHandle<Result<String, String>>);

impl Load {
    /// 100 requests a second to `url`.
    pub(super) fn start(shared: &Arc<Shared>, url: &'static str, duration: &'static str) -> Self {
        Self::at(shared, "100", url, duration)
    }

    /// So many requests a second to `url`.
    pub(super) fn at(
        shared: &Arc<Shared>,
        rate: &'static str,
        url: &'static str,
        duration: &'static str,
    ) -> Self {
        let shared = shared.clone();
        Self(std::thread::spawn(move || {
            let load = ["load", url, "--rate", rate, "--duration", duration];
            client(&shared, &[&load[..], &["--json", "--answers"]].concat())
        }))
    }

    /// Whether all of it has been sent.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end; every request must have been answered.
    pub(super) fn report(self) -> Value {
        let said = self.0.join().expect("the thread ends");
        let text = said.unwrap_or_else(|error| panic!("the load: {error}"));
        let report = answer(&text);
        let mut told = report.clone();
        // A number for each request: that is for the audit.
        if let Some(told) = told.as_object_mut() {
            told.remove("answered");
        }
        println!("load: {told}");
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(report["ok"], report["total"], "{report}");
        report
    }
}
