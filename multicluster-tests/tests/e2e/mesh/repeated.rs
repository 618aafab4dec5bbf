//! Doing it a second time changes nothing.

use std::sync::Arc;

use serde_json::Value;

use super::installed::{EAST, LINK, WEST, linked, mesh, shop};
use crate::shared::Shared;

#[test]
fn a_second_install_link_and_inject_change_nothing() {
    let shared = linked();
    let before = versions(&shared);
    for name in [WEST, EAST] {
        let cluster = shared.cluster(name);
        let manifests = [
            mesh(&["install", "--cluster", name], ""),
            mesh(&["multicluster", "install"], ""),
            mesh(&["inject", "-"], &mesh(&["inject", "-"], shop(name))),
        ];
        for manifest in manifests {
            let said = cluster.apply(&manifest).unwrap();
            for line in said.lines() {
                assert!(line.ends_with("unchanged"), "{name}: {line}");
            }
        }
    }
    let said = mesh(&LINK, "");
    for line in ["west: Link east unchanged", "east: Link west unchanged"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(versions(&shared), before);
}

/// What a user may have changed: the generation of every object of ours.
fn versions(shared: &Arc<Shared>) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for name in [WEST, EAST] {
        for kind in ["deployments", "services", "links", "configmaps"] {
            let list = shared
                .cluster(name)
                .kubectl(&["get", kind, "--all-namespaces", "-o", "json"])
                .expect("a list");
            let list: Value = serde_json::from_str(&list).expect("JSON");
            for object in list["items"].as_array().expect("a list") {
                let metadata = &object["metadata"];
                let text = |field: &str| metadata[field].as_str().unwrap_or_default();
                let key = format!("{name} {kind} {}/{}", text("namespace"), text("name"));
                // Only what has no generation is compared by its version: the
                // status of others changes by itself.
                let version = match metadata["generation"].as_u64() {
                    Some(generation) => generation,
                    None => text("resourceVersion").parse().expect("a number"),
                };
                all.push((key, version));
            }
        }
    }
    all
}
