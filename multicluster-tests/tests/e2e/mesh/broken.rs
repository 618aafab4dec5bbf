//! A path broken in many ways, one at a time: `mesh multicluster explain` says
//! where, and is never content with a broken path.

use std::time::Duration;

use mesh_lab::{
    cluster::{Cluster, Container},
    fault::{
        Fault,
        address::change_address,
        clock::set_clock,
        network::{black_hole, refuse},
        programs::freeze_container,
    },
};

use serde_json::Value;

use super::{
    clock::{DAY_AND_HOUR, SIDECAR},
    installed::{EAST, LINK, WEST, explain, linked, mesh, rolled_out, shop},
};
use crate::shared::eventually;

/// How long it may take until a fault is seen, and until its end is.
const SEEN: Duration = Duration::from_secs(60);

/// One way to break the path.
struct Break<'a> {
    name: &'static str,
    /// What is asked.
    ask: &'static [&'static str],
    /// Where it has to be found: any of these.
    places: &'static [&'static str],
    breaks: Box<dyn Fn() -> Mend<'a> + 'a>,
}

/// Makes it whole again.
type Mend<'a> = Box<dyn FnOnce() + 'a>;

const WEB_EAST: &[&str] = &["web-east"];

/// Changes with kubectl: what breaks, and what mends.
fn change<'a>(
    cluster: &'a Cluster,
    there: &'static [&'static str],
    back: &'static [&'static str],
) -> Box<dyn Fn() -> Mend<'a> + 'a> {
    let run = move |words: &[&str]| {
        cluster
            .kubectl(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error:#}"));
    };
    Box::new(move || {
        run(there);
        Box::new(move || run(back))
    })
}

/// A fault of the lab.
fn fault<'a>(make: impl Fn() -> anyhow::Result<Fault> + 'a) -> Box<dyn Fn() -> Mend<'a> + 'a> {
    Box::new(move || {
        let fault = make().expect("the fault");
        Box::new(move || fault.undo().expect("its end"))
    })
}

/// A change of a Link, undone by linking again.
fn link<'a>(
    cluster: &'a Cluster,
    name: &'static str,
    patch: &'static str,
) -> Box<dyn Fn() -> Mend<'a> + 'a> {
    Box::new(move || {
        let words = ["patch", "link", name, "--type=merge", "-p", patch];
        cluster.kubectl(&words).expect("the Link is changed");
        Box::new(|| drop(mesh(&LINK, "")))
    })
}

/// A Deployment with no pod.
fn without<'a>(
    cluster: &'a Cluster,
    namespace: &'static str,
    name: &'static str,
    count: u8,
) -> Box<dyn Fn() -> Mend<'a> + 'a> {
    let scale = move |replicas: u8| {
        let (deployment, replicas) = (format!("deploy/{name}"), format!("--replicas={replicas}"));
        cluster
            .kubectl(&["-n", namespace, "scale", &deployment, &replicas])
            .expect("the Deployment");
    };
    Box::new(move || {
        scale(0);
        Box::new(move || scale(count))
    })
}

/// The pods of an application that run and are not about to end.
fn pods(cluster: &Cluster, namespace: &str, app: &str) -> Vec<String> {
    let label = format!("app={app}");
    let get = ["-n", namespace, "get", "pods", "-l", &label, "-o", "json"];
    let listed = cluster.kubectl(&get);
    let listed: Value = serde_json::from_str(&listed.expect("pods")).expect("JSON");
    let pods = listed["items"].as_array().expect("a list").iter();
    pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| pod["status"]["phase"] == "Running")
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// All pods of a Deployment stand still, in one of their containers.
fn frozen<'a>(
    cluster: &'a Cluster,
    namespace: &'static str,
    app: &'static str,
    container: &'static str,
) -> Box<dyn Fn() -> Mend<'a> + 'a> {
    Box::new(move || {
        let faults: Vec<Fault> = pods(cluster, namespace, app)
            .iter()
            .map(|pod| {
                let container = Container {
                    namespace,
                    pod,
                    name: container,
                };
                freeze_container(cluster, container).expect("it is frozen")
            })
            .collect();
        Box::new(move || {
            for fault in faults {
                fault.undo().expect("it goes on");
            }
        })
    })
}

/// What is neither the export's nor the gateway's nor the Link's.
fn others<'a>(west: &'a Cluster, east: &'a Cluster) -> Vec<Break<'a>> {
    let on = |name, places, breaks| Break {
        name,
        ask: WEB_EAST,
        places,
        breaks,
    };
    vec![
        on(
            "mesh-control is away here",
            &["Control plane"],
            without(west, "mesh-system", "mesh-control", 1),
        ),
        on(
            "mesh-control is away there",
            &["Its control", "Mirror"],
            without(east, "mesh-system", "mesh-control", 1),
        ),
        on(
            "mesh-mirror is away here",
            &["Mirror"],
            without(west, "mesh-multicluster", "mesh-mirror", 1),
        ),
        Break {
            ask: &["web-east", "--from", "deploy/client"],
            ..on(
                "the client's sidecar stands still",
                &["Client"],
                frozen(west, "shop", "client", "mesh-proxy"),
            )
        },
        on(
            "the target's sidecars stand still",
            &["Connection", "Endpoints"],
            frozen(east, "shop", "web", "mesh-proxy"),
        ),
        on(
            "the clock of the target's sidecars is off",
            &["Endpoints"],
            fault(move || set_clock(east, SIDECAR, DAY_AND_HOUR)),
        ),
        Break {
            name: "a port that the Service does not have",
            ask: &["web-east", "--port", "81"],
            places: &["Service"],
            breaks: Box::new(|| Box::new(|| ())),
        },
        Break {
            name: "a Service that nobody has",
            ask: &["webb-east"],
            places: &["Service", "Export"],
            breaks: Box::new(|| Box::new(|| ())),
        },
        Break {
            name: "no rule in DNS",
            ask: &["web.east"],
            places: &["Name"],
            breaks: Box::new(move || {
                let map = [
                    "-n",
                    "kube-system",
                    "get",
                    "configmap",
                    "coredns-custom",
                    "-o",
                    "json",
                ];
                let before = west.kubectl(&map).expect("the rules");
                let none = r#"{"data":null}"#;
                let patch = ["-n", "kube-system", "patch", "configmap", "coredns-custom"];
                west.kubectl(&[&patch[..], &["--type=merge", "-p", none]].concat())
                    .expect("the rules are gone");
                Box::new(move || {
                    drop(before);
                    drop(mesh(&LINK, ""));
                })
            }),
        },
        Break {
            name: "a TrafficSplit to a Service that is not there",
            ask: &["web"],
            places: &["Route"],
            breaks: Box::new(move || {
                let split = include_str!("../../../manifests/split-west.yaml");
                west.apply(&split.replace("{service: web-east,", "{service: web-oast,"))
                    .expect("the split");
                Box::new(move || {
                    let delete = ["-n", "shop", "delete", "trafficsplit", "web"];
                    west.kubectl(&delete).expect("it is gone");
                })
            }),
        },
        on(
            "a policy that admits somebody else",
            &["Policy"],
            Box::new(move || {
                let policy = include_str!("../../../manifests/policy-east.yaml");
                let policy = policy.replace("sa/client", "sa/somebody");
                east.apply(&policy).expect("the policy");
                Box::new(move || {
                    for kind in [
                        "authorizationpolicies.mesh.dev/web",
                        "servers.mesh.dev/web",
                        "meshtlsauthentications.mesh.dev/front-end-of-west",
                    ] {
                        east.kubectl(&["-n", "shop", "delete", kind])
                            .expect("it is gone");
                    }
                })
            }),
        ),
    ]
}

fn exports(east: &Cluster) -> Vec<Break<'_>> {
    let on = |name, places, breaks| Break {
        name,
        ask: WEB_EAST,
        places,
        breaks,
    };
    vec![
        on(
            "not exported any more",
            &["Export"],
            change(
                east,
                &[
                    "-n",
                    "shop",
                    "label",
                    "service",
                    "web",
                    "mesh.dev/exported-",
                ],
                &[
                    "-n",
                    "shop",
                    "label",
                    "service",
                    "web",
                    "mesh.dev/exported=true",
                ],
            ),
        ),
        on(
            "exported to others only",
            &["Export"],
            change(
                east,
                &[
                    "-n",
                    "shop",
                    "annotate",
                    "service",
                    "web",
                    "mesh.dev/export-to=north",
                ],
                &[
                    "-n",
                    "shop",
                    "annotate",
                    "service",
                    "web",
                    "mesh.dev/export-to-",
                ],
            ),
        ),
        on("no pod", &["Endpoints"], without(east, "shop", "web", 2)),
        on(
            "no pod is ready",
            &["Endpoints"],
            frozen(east, "shop", "web", "web"),
        ),
        on(
            "pods without a sidecar",
            &["Endpoints", "Export"],
            Box::new(move || {
                east.apply(shop(EAST)).expect("as it was written");
                Box::new(move || {
                    east.apply(&mesh(&["inject", "-"], shop(EAST)))
                        .expect("injected");
                })
            }),
        ),
        on(
            "the Service selects nothing",
            &["Endpoints"],
            change(
                east,
                &[
                    "-n",
                    "shop",
                    "patch",
                    "service",
                    "web",
                    "-p",
                    r#"{"spec":{"selector":{"app":"wob"}}}"#,
                ],
                &[
                    "-n",
                    "shop",
                    "patch",
                    "service",
                    "web",
                    "-p",
                    r#"{"spec":{"selector":{"app":"web"}}}"#,
                ],
            ),
        ),
    ]
}

fn gateways<'a>(west: &'a Cluster, east: &'a Cluster) -> Vec<Break<'a>> {
    let on = |name, breaks| Break {
        name,
        ask: WEB_EAST,
        places: &["Gateway"],
        breaks,
    };
    vec![
        on(
            "no gateway",
            without(east, "mesh-multicluster", "mesh-gateway", 1),
        ),
        on(
            "its port is closed",
            fault(move || refuse(west, east, 4143)),
        ),
        on(
            "its port is silent",
            fault(move || black_hole(west, east, 4143)),
        ),
        on(
            "it stands still",
            frozen(east, "mesh-multicluster", "mesh-gateway", "mesh-gateway"),
        ),
        on(
            "it has moved",
            fault(move || change_address(east, "mesh-multicluster", "mesh-gateway")),
        ),
        on(
            "another address in the Link",
            link(
                west,
                EAST,
                r#"{"spec":{"gateway":{"addresses":["10.99.2.250"]}}}"#,
            ),
        ),
        on(
            "another port in the Link",
            link(west, EAST, r#"{"spec":{"gateway":{"port":4144}}}"#),
        ),
        Break {
            places: &["Gateway", "Link"],
            ..on(
                "another identity in the Link",
                link(
                    west,
                    EAST,
                    r#"{"spec":{"gateway":{"identity":"spiffe://east/ns/shop/sa/web"}}}"#,
                ),
            )
        },
    ]
}

fn links<'a>(west: &'a Cluster, east: &'a Cluster) -> Vec<Break<'a>> {
    let on = |name, breaks| Break {
        name,
        ask: WEB_EAST,
        places: &["Link"],
        breaks,
    };
    let removed = |cluster: &'a Cluster, name: &'static str| -> Box<dyn Fn() -> Mend<'a> + 'a> {
        Box::new(move || {
            cluster
                .kubectl(&["delete", "link", name])
                .expect("it is gone");
            Box::new(|| drop(mesh(&LINK, "")))
        })
    };
    vec![
        Break {
            places: &["Service"],
            ..on("no Link", removed(west, EAST))
        },
        on("no Link back", removed(east, WEST)),
        on(
            "a Link that only exports",
            link(west, EAST, r#"{"spec":{"direction":"Export"}}"#),
        ),
        on(
            "a Link back that only imports",
            link(east, WEST, r#"{"spec":{"direction":"Import"}}"#),
        ),
        on(
            "a bundle that is none",
            link(west, EAST, r#"{"spec":{"bundle":"none"}}"#),
        ),
        on(
            "the bundle of another",
            Box::new(move || {
                let path = "-o=jsonpath={.data.ca\\.crt}";
                let own =
                    west.kubectl(&["-n", "mesh-system", "get", "configmap", "mesh-roots", path]);
                let patch = serde_json::json!({"spec": {"bundle": own.expect("the roots")}});
                let words = [
                    "patch",
                    "link",
                    EAST,
                    "--type=merge",
                    "-p",
                    &patch.to_string(),
                ];
                west.kubectl(&words).expect("the Link is changed");
                Box::new(|| drop(mesh(&LINK, "")))
            }),
        ),
        on(
            "another trust domain in the Link",
            link(west, EAST, r#"{"spec":{"trustDomain":"oast"}}"#),
        ),
        Break {
            places: &["Mirror", "Link"],
            ..on(
                "the Link back names another mirror",
                link(
                    east,
                    WEST,
                    r#"{"spec":{"peers":{"mirror":"spiffe://west/ns/x/sa/y"}}}"#,
                ),
            )
        },
        Break {
            places: &["Export"],
            ..on(
                "namespaces that leave shop out",
                change(
                    west,
                    &[
                        "patch",
                        "link",
                        EAST,
                        "--type=merge",
                        "-p",
                        r#"{"spec":{"namespaces":["other"]}}"#,
                    ],
                    &[
                        "patch",
                        "link",
                        EAST,
                        "--type=merge",
                        "-p",
                        r#"{"spec":{"namespaces":null}}"#,
                    ],
                ),
            )
        },
    ]
}

/// Whether `explain` is content, and what it says.
fn explained(ask: &[&str]) -> (bool, String) {
    match explain(ask) {
        Ok(said) => (true, said),
        Err(said) => (false, said),
    }
}

/// Breaks the path in each of the ways: each is named, and none is content.
fn each_is_named(breaks: impl for<'a> FnOnce(&'a Cluster, &'a Cluster) -> Vec<Break<'a>>) {
    let shared = linked();
    let west = shared.cluster(WEST);
    let breaks = breaks(west, shared.cluster(EAST));
    let count = breaks.len();
    let mut missed = Vec::new();
    let all_run = || {
        for (cluster, name) in [(EAST, "web"), (WEST, "client")] {
            rolled_out(&shared, cluster, "shop", name);
        }
    };
    for broken in breaks {
        // The last one's pods, too: what is broken next is broken in all of them.
        all_run();
        whole(west, broken.name);
        let mend = (broken.breaks)();
        let mut said = String::new();
        let found = west.wait_for(broken.name, SEEN, || {
            let (content, text) = explained(broken.ask);
            said = text;
            let named = |place: &&str| said.contains(&format!("Broken at: {place}."));
            !content && broken.places.iter().any(named)
        });
        let last = said.lines().last().unwrap_or_default();
        println!("{}: {last}", broken.name);
        mend();
        if found.is_err() {
            missed.push(format!("{}:\n{said}", broken.name));
        }
    }
    whole(west, "the next test");
    all_run();
    println!("{} of {count} named", count - missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn explain_says_how_an_export_is_broken() {
    each_is_named(|_, east| exports(east));
}

#[test]
fn explain_says_how_a_gateway_is_broken() {
    each_is_named(gateways);
}

#[test]
fn explain_says_how_a_link_is_broken() {
    each_is_named(links);
}

#[test]
fn explain_says_what_else_is_broken() {
    each_is_named(others);
}

fn whole(west: &Cluster, before: &str) {
    let mut said = String::new();
    eventually(&format!("all is well before {before}"), west, || {
        let (content, text) = explained(WEB_EAST);
        if !content && text != said {
            println!("   {}", text.lines().last().unwrap_or_default());
        }
        said = text;
        content
    });
}
