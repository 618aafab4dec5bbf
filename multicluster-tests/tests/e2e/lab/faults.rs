//! Each fault does what it says, seen from an application, and ends.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mesh_lab::{
    capture::Capture,
    cluster::Container,
    fault::{
        Fault,
        address::change_address,
        dns::{self, Answer},
        network::{Way, black_hole, cut, refuse},
        path::bad_path,
        programs::{freeze_container, freeze_program, kill_container, stop_program},
        resources::{exhaust_files, exhaust_memory, fill_disk},
    },
    relay::path::Path,
};
use nix::sys::signal::Signal;

use super::application::{EAST, WEST, address_of, application, load_balancer, try_get};
use crate::shared::{Shared, eventually};

const PORT: u16 = 4143;

/// East's application as west reaches it.
fn url(shared: &Shared) -> String {
    format!("http://{}:{PORT}", load_balancer(shared, EAST))
}

fn answers(shared: &Shared, url: &str) -> bool {
    try_get(shared, WEST, url).is_ok()
}

fn refusal(shared: &Shared, url: &str) -> String {
    try_get(shared, WEST, url).expect_err("no answer is expected")
}

/// West's calls end with an error that holds `said` while `fault` lasts, and
/// are answered before and after.
fn breaks(shared: &Shared, url: &str, said: &str, fault: impl FnOnce() -> Fault) {
    eventually("it answers before", shared.cluster(WEST), || {
        answers(shared, url)
    });
    let fault = fault();
    eventually(fault.what(), shared.cluster(WEST), || {
        try_get(shared, WEST, url).is_err_and(|error| error.contains(said))
    });
    fault.undo().expect("the fault ends");
    eventually("it answers again", shared.cluster(WEST), || {
        answers(shared, url)
    });
}

/// The first pod of the application in `cluster`.
fn pod(shared: &Shared, cluster: &str) -> String {
    let path = "-o=jsonpath={.items[0].metadata.name}";
    let words = ["-n", "lab", "get", "pods", "-l", "app=web", path];
    shared.cluster(cluster).kubectl(&words).expect("a pod")
}

fn web(pod: &str) -> Container<'_> {
    Container {
        namespace: "lab",
        pod,
        name: "web",
    }
}

fn status_of(shared: &Shared, pod: &str, path: &str) -> String {
    let path = format!("-o=jsonpath={{.status.containerStatuses[0].{path}}}");
    shared
        .cluster(EAST)
        .kubectl(&["-n", "lab", "get", "pod", pod, &path])
        .expect("the pod")
}

#[test]
fn a_link_is_cut() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    breaks(&shared, &url(&shared), "timeout", || {
        cut(west, east, Way::Both).unwrap()
    });
}

#[test]
fn a_link_is_cut_one_way() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let url = url(&shared);
    // Who accepts a connection answers the first packet; that it does shows
    // that the other way is open.
    let accepted = |from, to| {
        let _fault = cut(from, to, Way::Forth).unwrap();
        let capture = Capture::start().unwrap();
        refusal(&shared, &url);
        let both = "tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)";
        let filter = format!("tcp src port {PORT} and {both}");
        capture.stop().unwrap().count(&filter).unwrap()
    };
    assert_eq!(accepted(west, east), 0, "nothing reached east");
    assert!(accepted(east, west) > 0, "east was reached");
    assert!(answers(&shared, &url));
}

#[test]
fn a_path_is_slow() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let url = url(&shared);
    let delay = Duration::from_millis(200);
    let took = || {
        let start = Instant::now();
        assert!(answers(&shared, &url));
        start.elapsed()
    };
    let path = Path::default().with_delay(delay).unwrap();
    let fault = bad_path(west, east, path).unwrap();
    // One round trip opens the connection, and one is the request's.
    assert!(took() >= delay * 4);
    fault.undo().unwrap();
    eventually("it is fast again", west, || took() < delay * 4);
}

#[test]
fn a_port_refuses() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    breaks(&shared, &url(&shared), "refused", || {
        refuse(west, east, PORT).unwrap()
    });
}

#[test]
fn a_port_swallows() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    breaks(&shared, &url(&shared), "timeout", || {
        black_hole(west, east, PORT).unwrap()
    });
}

#[test]
fn a_panic_ends_a_fault() {
    let shared = application();
    let (west, east) = (shared.cluster(WEST), shared.cluster(EAST));
    let url = url(&shared);
    let test = || {
        let _fault = refuse(west, east, PORT).unwrap();
        assert!(answers(&shared, &url), "as a test fails");
    };
    let panicked = thread::scope(|scope| scope.spawn(test).join().is_err());
    assert!(panicked, "the fault was there");
    assert!(answers(&shared, &url), "and is gone");
}

#[test]
fn a_container_hangs() {
    let shared = application();
    let pod = pod(&shared, EAST);
    breaks(&shared, &url(&shared), "timeout", || {
        freeze_container(shared.cluster(EAST), web(&pod)).unwrap()
    });
}

#[test]
fn a_container_dies_and_comes_back() {
    let shared = application();
    let (east, pod) = (shared.cluster(EAST), pod(&shared, EAST));
    let count = || -> u32 {
        let count = status_of(&shared, &pod, "restartCount");
        count.parse().unwrap()
    };
    let before = count();
    kill_container(east, web(&pod)).unwrap();
    eventually("it was started again", east, || count() > before);
    let url = url(&shared);
    eventually("it answers", east, || answers(&shared, &url));
}

#[test]
fn an_api_server_hangs() {
    let shared = application();
    let west = shared.cluster(WEST);
    let ready = || west.kubectl(&["--request-timeout=2s", "get", "--raw", "/readyz"]);
    let fault = freeze_program(west, "kube-apiserver").unwrap();
    let start = Instant::now();
    assert!(ready().is_err());
    assert!(start.elapsed() >= Duration::from_secs(1), "it hung");
    fault.undo().unwrap();
    eventually("it answers", west, || ready().is_ok());
}

#[test]
fn an_api_server_is_away() {
    let shared = application();
    let west = shared.cluster(WEST);
    let ready = || west.kubectl(&["--request-timeout=2s", "get", "--raw", "/readyz"]);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let fault = stop_program(west, "kube-apiserver", signal).unwrap();
        // The last connections to a program that has just died are reset.
        eventually("its port refuses", west, || {
            ready().is_err_and(|error| format!("{error:#}").contains("refused"))
        });
        fault.undo().unwrap();
        eventually("it answers", west, || ready().is_ok());
    }
    eventually("its node is Ready", west, || {
        let path = r#"-o=jsonpath={.items[0].status.conditions[?(@.type=="Ready")].status}"#;
        west.kubectl(&["get", "nodes", path])
            .is_ok_and(|status| status == "True")
    });
}

#[test]
fn a_volume_is_full() {
    let shared = application();
    let (east, pod) = (shared.cluster(EAST), pod(&shared, EAST));
    let write = |file: &str| {
        let path = format!("/scratch/{file}");
        let exec = ["-n", "lab", "exec", &pod, "-c", "web", "--", "/testapp"];
        east.kubectl(&[&exec[..], &["write", &path]].concat())
            .map_err(|error| format!("{error:#}"))
    };
    write("before").unwrap();
    let fault = fill_disk(east, web(&pod), "/scratch").unwrap();
    let said = write("while").unwrap_err();
    assert!(said.contains("No space left"), "{said}");
    fault.undo().unwrap();
    write("after").unwrap();
    let refused = fill_disk(east, web(&pod), "/");
    assert!(refused.is_err(), "the machine's disk is not filled");
}

#[test]
fn a_container_opens_no_more_files() {
    let shared = application();
    let pod = pod(&shared, EAST);
    breaks(&shared, &url(&shared), "", || {
        exhaust_files(shared.cluster(EAST), web(&pod)).unwrap()
    });
}

#[test]
fn a_container_has_no_memory() {
    let shared = application();
    let (east, pod) = (shared.cluster(EAST), pod(&shared, EAST));
    let url = url(&shared);
    let fault = exhaust_memory(east, web(&pod)).unwrap();
    let large = format!("{url}/?size=16000000");
    refusal(&shared, &large);
    let reason = || status_of(&shared, &pod, "lastState.terminated.reason");
    eventually("it was killed for it", east, || reason() == "OOMKilled");
    fault.undo().unwrap();
    eventually("a new one answers", east, || answers(&shared, &large));
}

#[test]
fn a_load_balancer_moves() {
    let shared = application();
    let east = shared.cluster(EAST);
    let old = load_balancer(&shared, EAST);
    let answers_at = |address: &str| answers(&shared, &format!("http://{address}:{PORT}"));
    let fault = change_address(east, "lab", "outside").unwrap();
    eventually("it has another address", east, || {
        address_of(east, "outside") != old
    });
    let new = address_of(east, "outside");
    eventually("the new address answers", east, || answers_at(&new));
    eventually("the old one does not", east, || !answers_at(&old));
    fault.undo().unwrap();
    eventually("the old address is back", east, || answers_at(&old));
    eventually("the new one is gone", east, || !answers_at(&new));
}

#[test]
fn names_do_not_resolve() {
    let shared = application();
    let west = shared.cluster(WEST);
    let name = "web.lab.svc.cluster.local";
    let url = format!("http://{name}");
    for answer in [Answer::NxDomain, Answer::ServFail] {
        breaks(&shared, &url, "name", || {
            dns::answer(west, name, answer).unwrap()
        });
    }
    breaks(&shared, &url, "", || dns::silence(west).unwrap());
    remove_rules(&shared);
}

/// Other tests make the ConfigMap themselves.
fn remove_rules(shared: &Arc<Shared>) {
    let words = ["-n", "kube-system", "delete", "configmap", "coredns-custom"];
    shared.cluster(WEST).kubectl(&words).expect("the rules");
}
