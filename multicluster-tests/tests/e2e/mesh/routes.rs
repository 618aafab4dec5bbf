//! HTTPRoutes of the Gateway API, over Services of here and of a linked cluster.

use mesh_lab::gateway_api::gateway_api_crds;

use super::installed::{EAST, Load, WEST, answer, client, explain, linked, rolled_out};
use crate::shared::{Shared, eventually};

/// Installs the Gateway API's definitions of HTTPRoute and TLSRoute in west.
/// mesh-control is running by then: it has to notice.
pub(super) fn gateway_api(shared: &Shared) {
    let west = shared.cluster(WEST);
    for file in gateway_api_crds().expect("the Gateway API") {
        let file = file.display().to_string();
        west.kubectl(&["apply", "--server-side", "-f", &file])
            .expect("the definition");
    }
    // (`kubectl wait` fails on one that has no condition at all yet.)
    eventually("they are served", west, || {
        west.kubectl(&["get", "httproutes,tlsroutes", "-A"]).is_ok()
    });
}

/// An HTTPRoute of west's `web`, until it is dropped.
struct Routed<'a>(&'a Shared);

impl<'a> Routed<'a> {
    fn new(shared: &'a Shared, annotations: &str, rules: &str) -> Self {
        gateway_api(shared);
        let route = format!(
            r#"{{
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {{"name": "web", "namespace": "shop", "annotations": {annotations}}},
                "spec": {{
                    "parentRefs": [{{"group": "", "kind": "Service", "name": "web", "port": 80}}],
                    "rules": {rules}
                }}
            }}"#
        );
        shared.cluster(WEST).apply(&route).expect("the route");
        Self(shared)
    }
}

impl Drop for Routed<'_> {
    fn drop(&mut self) {
        let west = self.0.cluster(WEST);
        let deleted = west.kubectl(&["-n", "shop", "delete", "httproute", "web"]);
        if !std::thread::panicking() {
            deleted.expect("the route is deleted");
            eventually("web is west's again", west, || {
                (0..20).all(|_| answered_by(self.0, &[]) == Some(WEST.to_owned()))
            });
        }
    }
}

/// The cluster that answers a request to `web`.
fn answered_by(shared: &Shared, more: &[&str]) -> Option<String> {
    let words = [&["get", "http://web"][..], more].concat();
    let text = client(shared, &words).ok()?;
    answer(&text)["cluster"].as_str().map(str::to_owned)
}

/// What mesh-control says of the route in its status.
fn said_of_the_route(shared: &Shared, condition: &str) -> String {
    said_of(shared, "httproute/web", condition)
}

/// The same of any route.
pub(super) fn said_of(shared: &Shared, route: &str, condition: &str) -> String {
    let path = format!(
        r#"-o=jsonpath={{.status.parents[?(@.controllerName=="mesh.dev/control")].conditions[?(@.type=="{condition}")].status}}"#
    );
    let get = ["-n", "shop", "get", route, &path];
    shared.cluster(WEST).kubectl(&get).unwrap_or_default()
}

#[test]
fn a_route_says_whether_it_counts_and_explain_follows_it() {
    let shared = linked();
    let west = shared.cluster(WEST);
    {
        let rules = r#"[{"backendRefs": [{"name": "web-east", "port": 80}]}]"#;
        let _route = Routed::new(&shared, "{}", rules);
        for condition in ["Accepted", "ResolvedRefs"] {
            eventually("the route counts", west, || {
                said_of_the_route(&shared, condition) == "True"
            });
        }
        eventually("explain is content", west, || {
            explain(&["web"]).is_ok_and(|said| said.contains("web-east"))
        });
    }
    let nobody = r#"[{"backendRefs": [{"name": "nobody", "port": 80}]}]"#;
    let _route = Routed::new(&shared, "{}", nobody);
    eventually("a backend is missing", west, || {
        said_of_the_route(&shared, "ResolvedRefs") == "False"
    });
    eventually("explain says so", west, || {
        explain(&["web"]).is_err_and(|said| said.contains("Broken at: Route."))
    });
}

#[test]
fn a_route_gives_the_other_cluster_its_share() {
    let shared = linked();
    let rules = r#"[{"backendRefs": [
        {"name": "web-east", "port": 80, "weight": 90},
        {"name": "web", "port": 80, "weight": 10}]}]"#;
    let _route = Routed::new(&shared, "{}", rules);
    eventually("east answers for web", shared.cluster(WEST), || {
        answered_by(&shared, &[]).as_deref() == Some(EAST)
    });
    let report = Load::start(&shared, "http://web", "5s").report();
    let (total, east) = (&report["total"], &report["clusters"][EAST]);
    let total = total.as_f64().expect("a count");
    let east = east.as_f64().expect("a count");
    // Five standard deviations.
    let most = 5.0 * (total * 0.9 * 0.1).sqrt();
    assert!((east - total * 0.9).abs() <= most, "{report}");
}

#[test]
fn r12_a_route_in_order_goes_on_when_east_s_pods_are_gone_and_back() {
    let shared = linked();
    let primary = r#"{"mesh.dev/primary-service": "web-east"}"#;
    let rules = r#"[{"backendRefs": [
        {"name": "web", "port": 80}, {"name": "web-east", "port": 80}]}]"#;
    let _route = Routed::new(&shared, primary, rules);
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let by = |cluster: &str| answered_by(&shared, &[]).as_deref() == Some(cluster);
    eventually("east answers for web", west, || by(EAST));

    let load = Load::start(&shared, "http://web", "25s");
    let scale = |replicas: &str| {
        let count = format!("--replicas={replicas}");
        east.kubectl(&["-n", "shop", "scale", "deploy/web", &count])
            .expect("the Deployment");
    };
    scale("0");
    eventually("west answers for web", west, || by(WEST));
    scale("2");
    eventually("east answers again", west, || by(EAST));
    assert!(!load.is_over(), "the load ended before the fail-over");
    let report = load.report();
    for cluster in [EAST, WEST] {
        assert!(report["clusters"][cluster].as_u64() > Some(0), "{report}");
    }
    rolled_out(&shared, EAST, "shop", "web");
}

#[test]
fn a_route_is_chosen_by_header() {
    let shared = linked();
    let rules = r#"[
        {"matches": [{"headers": [{"name": "x-canary", "value": "yes"}]}],
         "backendRefs": [{"name": "web-east", "port": 80}]},
        {"backendRefs": [{"name": "web", "port": 80}]}]"#;
    let _route = Routed::new(&shared, "{}", rules);
    let canary = ["-H", "x-canary:yes"];
    eventually("east answers canaries", shared.cluster(WEST), || {
        answered_by(&shared, &canary).as_deref() == Some(EAST)
    });
    for _ in 0..10 {
        assert_eq!(answered_by(&shared, &[]).as_deref(), Some(WEST));
        assert_eq!(answered_by(&shared, &canary).as_deref(), Some(EAST));
    }
}
