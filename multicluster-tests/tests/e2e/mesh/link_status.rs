//! What a Link says of itself, as `kubectl` shows it.

use serde_json::Value;

use super::installed::{EAST, WEST, linked};
use crate::shared::{Shared, eventually};

fn status(shared: &Shared) -> Value {
    let link = ["get", "link", EAST, "-o", "json"];
    let text = shared.cluster(WEST).kubectl(&link).unwrap_or_default();
    let link: Value = serde_json::from_str(&text).unwrap_or_default();
    link["status"].clone()
}

#[test]
fn a_link_says_how_it_is_doing() {
    let shared = linked();
    let west = shared.cluster(WEST);
    eventually("the gateway's address is alive", west, || {
        status(&shared)["gateways"][0]["alive"] == true
    });
    let status = status(&shared);
    assert!(
        status["services"]["mirrored"].as_u64() >= Some(1),
        "{status}"
    );
    assert!(status["lastChange"].is_string(), "{status}");
    assert!(status["observedSpec"].is_string(), "{status}");
    let shown = west.kubectl(&["get", "links"]).expect("the columns");
    assert!(shown.contains("MESSAGE"), "{shown}");
}

#[test]
fn events_tell_of_a_service_that_cannot_be_mirrored() {
    let shared = linked();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let namespace = ["create", "namespace", "only-in-east"];
    east.kubectl(&namespace).expect("the namespace");
    let service = [
        "-n",
        "only-in-east",
        "create",
        "service",
        "clusterip",
        "lonely",
    ];
    east.kubectl(&[&service[..], &["--tcp=80"]].concat())
        .expect("the Service");
    let label = ["-n", "only-in-east", "label", "service", "lonely"];
    east.kubectl(&[&label[..], &["mesh.dev/exported=true"]].concat())
        .expect("the label");
    eventually("an Event says so", west, || {
        let events = ["-n", "default", "get", "events", "-o", "json"];
        let text = west.kubectl(&events).unwrap_or_default();
        text.contains("ServicesRefused") && text.contains("only-in-east/lonely")
    });
    let namespace = ["delete", "namespace", "only-in-east", "--wait=false"];
    east.kubectl(&namespace).expect("the namespace goes");
}
