//! `mesh explain` on two linked clusters: green when all is well, and the
//! right hop when something is broken.

use std::{path::Path, process::Command};

use mesh_lab::paths::Paths;

use super::installed::{EAST, WEST, linked, mesh, rolled_out};
use crate::shared::{Shared, eventually};

/// Whether `mesh` ended well, and what it printed.
fn says(words: &[&str]) -> (bool, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("mesh");
    let output = Command::new(&program)
        .args(words)
        .env("KUBECONFIG", Paths::from_env().kubeconfig())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), printed)
}

fn explain(service: &str) -> (bool, String) {
    says(&["explain", service, "-n", "shop", "--context", WEST])
}

/// Waits until a call of `service` is explained as working.
fn green(shared: &Shared, service: &str) {
    let mut last = String::new();
    eventually(&format!("{service} is green"), shared.cluster(WEST), || {
        let (good, printed) = explain(service);
        last = printed;
        println!("{last}");
        good
    });
    assert!(last.contains("Everything on the way works."), "{last}");
}

/// Waits until a call of `service` is explained as broken at `place`.
fn broken(shared: &Shared, service: &str, place: &str) {
    let what = format!("{service} is broken at {place}");
    eventually(&what, shared.cluster(WEST), || {
        let (good, printed) = explain(service);
        println!("{printed}");
        !good && printed.contains(&format!("Broken at: {place}."))
    });
}

#[test]
fn a_call_is_explained_and_three_faults_are_named() {
    let shared = linked();
    let east = shared.cluster(EAST);
    let west = shared.cluster(WEST);
    for name in ["web-east", "web.east", "web.shop.svc.east", "web"] {
        green(&shared, name);
    }

    let web = ["-n", "shop", "label", "service", "web"];
    east.kubectl(&[&web[..], &["mesh.dev/exported-"]].concat())
        .unwrap();
    broken(&shared, "web-east", "Export");
    east.kubectl(&[&web[..], &["mesh.dev/exported=true"]].concat())
        .unwrap();
    green(&shared, "web-east");

    let gateway = ["-n", "mesh-multicluster", "scale", "deploy/mesh-gateway"];
    east.kubectl(&[&gateway[..], &["--replicas=0"]].concat())
        .unwrap();
    broken(&shared, "web-east", "Gateway");
    east.kubectl(&[&gateway[..], &["--replicas=1"]].concat())
        .unwrap();
    rolled_out(&shared, EAST, "mesh-multicluster", "mesh-gateway");
    green(&shared, "web-east");

    let rule = r#"{"data": {"mesh.override": null}}"#;
    let patch = [
        "-n",
        "kube-system",
        "patch",
        "configmap",
        "coredns-custom",
        "-p",
        rule,
    ];
    west.kubectl(&patch).unwrap();
    broken(&shared, "web.east", "Name");
    mesh(&["multicluster", "dns", "--install", "--context", WEST], "");
    green(&shared, "web.east");
}

#[test]
fn links_gateways_exports_and_services_are_listed() {
    let shared = linked();
    eventually("the link is green", shared.cluster(WEST), || {
        let (good, printed) = says(&["multicluster", "check", "east", "--context", WEST]);
        println!("{printed}");
        good
    });
    let list = |what: &str, context: &str| mesh(&["multicluster", what, "--context", context], "");
    let gateways = list("gateways", WEST);
    assert!(
        gateways
            .lines()
            .any(|line| line.starts_with("east") && line.contains("True")),
        "{gateways}"
    );
    let exports = list("exports", EAST);
    assert!(
        exports
            .lines()
            .any(|line| line.contains("web") && line.contains("west")),
        "{exports}"
    );
    let services = list("services", WEST);
    assert!(
        services.contains("web-east") && services.contains("Synced"),
        "{services}"
    );
}
