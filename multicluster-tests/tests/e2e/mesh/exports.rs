//! What east shares: under its own id when nobody tells west of its pods, and
//! with a word to whoever asked for it.

use serde_json::Value;

use super::installed::{EAST, Load, WEST, call, linked, rolled_out};
use crate::shared::{Shared, eventually};

#[test]
fn r11_east_s_pods_are_replaced_while_west_hears_nothing_of_it() {
    let shared = linked();
    call(&shared, &["get", "http://web-east"]);
    let west = shared.cluster(WEST);
    let scale = |replicas: &str| {
        let count = format!("--replicas={replicas}");
        west.kubectl(&["-n", "mesh-system", "scale", "deploy/mesh-control", &count])
            .unwrap();
    };
    scale("0");
    eventually("west's mesh-control is gone", west, || {
        let pods = west.kubectl(&["-n", "mesh-system", "get", "pods", "-o", "name"]);
        pods.is_ok_and(|pods| pods.trim().is_empty())
    });

    let before = pods(&shared);
    let load = Load::start(&shared, "http://web-east", "30s");
    let east = shared.cluster(EAST);
    east.kubectl(&["-n", "shop", "rollout", "restart", "deploy/web"])
        .unwrap();
    rolled_out(&shared, EAST, "shop", "web");
    eventually("the old pods are gone", east, || {
        pods(&shared).iter().all(|pod| !before.contains(pod))
    });
    assert!(!load.is_over(), "the load ended before the old pods");
    let report = load.report();
    let answered = report["pods"].as_object().expect("counts by pod");
    let new = answered.keys().filter(|pod| !before.contains(pod)).count();
    assert!(new >= 1, "new pods answered: {report}");

    scale("1");
    rolled_out(&shared, WEST, "mesh-system", "mesh-control");
}

#[test]
fn g4_a_service_that_cannot_be_exported_says_why() {
    let shared = linked();
    let east = shared.cluster(EAST);
    east.apply(HEADLESS).unwrap();
    let reason = |service: &str| {
        let path = r#"-o=jsonpath={.status.conditions[?(@.type=="mesh.dev/Exported")].reason}"#;
        let words = ["-n", "shop", "get", "service", service, path];
        east.kubectl(&words).unwrap_or_default()
    };
    eventually("a headless Service is refused", east, || {
        reason("headless") == "NotExportable"
    });
    eventually("web is exported", east, || reason("web") == "Exported");
    east.kubectl(&["-n", "shop", "delete", "service", "headless"])
        .unwrap();
}

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata:
  name: headless
  namespace: shop
  labels: {mesh.dev/exported: 'true'}
spec:
  clusterIP: None
  selector: {app: web}
  ports: [{name: http, port: 80}]
";

fn pods(shared: &Shared) -> Vec<String> {
    let words = ["-n", "shop", "get", "pods", "-l", "app=web", "-o", "json"];
    let list = shared.cluster(EAST).kubectl(&words).expect("a list");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let items = list["items"].as_array().expect("a list");
    let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}
