//! What the pods saw of a load.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use mesh_lab::{command, paths::Paths};
use serde_json::Value;

use super::{
    failures::pods,
    installed::{EAST, WEST, answer},
};
use crate::shared::{PATIENCE, Shared, testapp};

/// Asks the pods of `web` in both clusters. Each request of the load must have
/// reached one of them, or one that is gone, and no other.
pub(super) fn nothing_lost_nothing_twice(shared: &Shared, report: &Value) {
    let ways: Vec<_> = [WEST, EAST]
        .into_iter()
        .flat_map(|cluster| {
            let pods = pods(shared, cluster).into_iter();
            pods.map(move |pod| Way::open(cluster, &pod))
        })
        .collect();
    let mut audit = Command::new(testapp());
    audit.args(["audit", "--report", "-"]);
    audit.args(ways.iter().map(|way| &way.address));
    let said = command::finish(&mut audit, Some(&report.to_string()));
    let audit = answer(&said.expect("all pods answer"));
    println!("audit of {} pods: {audit}", ways.len());
    assert_eq!(audit["seen"], report["total"], "{audit}");
    for count in ["lost", "doubled", "forgotten"] {
        assert_eq!(audit[count], 0, "{audit}");
    }
}

/// From this machine to the HTTP port of a pod, past the mesh.
struct Way {
    address: String,
    kubectl: Child,
}

impl Way {
    fn open(cluster: &str, pod: &str) -> Self {
        let paths = Paths::from_env();
        let mut kubectl = Command::new(paths.kubectl())
            .arg("--kubeconfig")
            .arg(paths.kubeconfig())
            .args(["--context", cluster, "-n", "shop"])
            .args(["port-forward", &format!("pod/{pod}"), ":8080"])
            .args(["--address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let stdout = kubectl.stdout.take().expect("a pipe");
        let (tell, told) = mpsc::channel();
        // To its end: kubectl says a line for each connection, too.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut way = Self {
            address: String::new(),
            kubectl,
        };
        // `Forwarding from 127.0.0.1:40123 -> 8080`
        let said = told.recv_timeout(PATIENCE);
        let said = said.unwrap_or_else(|error| panic!("{cluster}: {pod}: {error}"));
        let address = said.split_whitespace().nth(2);
        way.address = address.expect("an address").to_owned();
        way
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
