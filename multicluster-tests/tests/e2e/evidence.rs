//! What is kept of a test that fails: the clusters as they were at that moment.

use std::{
    fs,
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    thread,
};

use mesh_lab::{
    cluster::Cluster,
    lab::{self, Lab},
    paths::Paths,
};
use serde_json::Value;

/// Kinds of which every object is kept.
const OBJECTS: &str = "pods,services,endpointslices,deployments,configmaps,events,nodes";
/// Where the mesh is installed.
const OBJECTS_OF_THE_MESH: &str = "links,trafficsplits";

/// Keeps evidence whenever a test panics, before its faults and objects go.
pub(crate) fn keep_of_failures() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        // The threads of tests have their names; those that tests start have
        // none, and their panics may be meant.
        if let Some(test) = thread::current().name().filter(|name| *name != "main") {
            let folder = folder(test);
            match collect(&folder, &info.to_string()) {
                Ok(()) => eprintln!("what was going on is in {}", folder.display()),
                Err(error) => eprintln!("no evidence in {}: {error}", folder.display()),
            }
        }
    }));
}

fn folder(test: &str) -> PathBuf {
    let name = test.replace("::", ".");
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("failed")
        .join(name)
}

fn collect(folder: &Path, what: &str) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("panic"), what)?;
    let paths = Paths::from_env();
    write(&folder.join("status"), lab::status(&paths))?;
    write(&folder.join("firewall"), mesh_lab::network::firewall())?;
    for cluster in lab::running(&paths).unwrap_or_default() {
        let folder = folder.join(cluster.name());
        fs::create_dir_all(&folder)?;
        copy_logs(&paths.cluster(cluster.name()).join("log"), &folder)?;
        // What cannot be asked leaves its error in its file.
        for (file, objects) in [
            ("objects.yaml", OBJECTS),
            ("mesh-objects.yaml", OBJECTS_OF_THE_MESH),
        ] {
            let objects = kubectl(&cluster, &["get", objects, "-A", "-o", "yaml"]);
            write(&folder.join(file), objects)?;
        }
        for pod in pods(&cluster) {
            of_pod(&cluster, &pod, &folder)?;
        }
    }
    Ok(())
}

/// The logs of all containers, and the metrics of a sidecar or a program of ours.
fn of_pod(
    cluster: &Cluster,
    (namespace, name): &(String, String),
    folder: &Path,
) -> std::io::Result<()> {
    let file = |kind: &str| folder.join(format!("{namespace}.{name}.{kind}"));
    let logs = [
        "-n",
        namespace,
        "logs",
        name,
        "--all-containers",
        "--prefix",
    ];
    write(&file("log"), kubectl(cluster, &logs))?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:4191/proxy/metrics");
    if let Ok(metrics) = kubectl(cluster, &["get", "--raw", &path]) {
        fs::write(file("metrics"), metrics)?;
    }
    Ok(())
}

fn pods(cluster: &Cluster) -> Vec<(String, String)> {
    let list = kubectl(cluster, &["get", "pods", "-A", "-o", "json"]).unwrap_or_default();
    let list: Value = serde_json::from_str(&list).unwrap_or_default();
    let items = list["items"].as_array().into_iter().flatten();
    items
        .filter_map(|pod| {
            let metadata = &pod["metadata"];
            let text = |field: &str| metadata[field].as_str().map(str::to_owned);
            Some((text("namespace")?, text("name")?))
        })
        .collect()
}

/// With a short deadline: the API server may be what is broken.
fn kubectl(cluster: &Cluster, words: &[&str]) -> anyhow::Result<String> {
    cluster.kubectl(&[&["--request-timeout=3s"], words].concat())
}

fn copy_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn write(file: &Path, text: anyhow::Result<String>) -> std::io::Result<()> {
    let text = text.unwrap_or_else(|error| format!("{error:#}"));
    fs::File::create(file)?.write_all(text.as_bytes())
}

/// Whether clusters of these names are up and answer.
pub(crate) fn are_up(names: &[&str]) -> bool {
    let Ok(lab) = Lab::attach(&Paths::from_env()) else {
        return false;
    };
    names.iter().all(|name| {
        let ready = |cluster: &Cluster| kubectl(cluster, &["get", "--raw", "/readyz"]).is_ok();
        lab.cluster(name).is_ok_and(ready)
    })
}

#[test]
fn a_failed_test_leaves_evidence() {
    let shared = crate::shared::shared();
    let test = "evidence::of_a_test_that_fails";
    let failing = thread::Builder::new()
        .name(test.to_owned())
        .spawn(|| panic!("as a test does"))
        .expect("a thread");
    assert!(failing.join().is_err());
    let folder = folder(test);
    let said = fs::read_to_string(folder.join("panic")).unwrap();
    assert!(said.contains("as a test does"), "{said}");
    for cluster in ["west", "east"] {
        let folder = folder.join(cluster);
        let objects = fs::read_to_string(folder.join("objects.yaml")).unwrap();
        assert!(objects.contains("kind: Node"), "{cluster}: {objects}");
        assert!(folder.join("kube-apiserver.log").exists());
        let coredns = shared
            .cluster(cluster)
            .kubectl(&["-n", "kube-system", "get", "pods", "-o", "name"])
            .unwrap();
        let name = coredns.trim().trim_start_matches("pod/").to_owned();
        let log = fs::read_to_string(folder.join(format!("kube-system.{name}.log"))).unwrap();
        assert!(log.contains("CoreDNS"), "{log}");
    }
    fs::remove_dir_all(folder).unwrap();
}
