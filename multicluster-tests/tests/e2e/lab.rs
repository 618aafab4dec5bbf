//! The lab itself: what the tests of the mesh stand on.

mod application;
mod faults;
mod host;
mod network;

use mesh_lab::{capture::Capture, network as wan};

use self::application::{EAST, WEST, application, get, try_get};
use crate::shared::{eventually, lab_command, shared};

/// Two idle clusters take less than this together, pods included.
const MEMORY: u64 = 1_500_000_000;
/// A port that is closed between clusters until a test opens it.
const CLOSED_PORT: u16 = 8090;

#[test]
fn addresses_of_load_balancers_answer_from_the_other_cluster() {
    let shared = application();
    let address = application::load_balancer(&shared, EAST);
    let answer = get(&shared, WEST, &format!("http://{address}:4143"));
    assert!(answer.contains(r#""cluster":"east""#), "{answer}");
}

#[test]
fn clusters_have_the_same_pod_and_service_networks() {
    let shared = application();
    for cluster in [WEST, EAST] {
        let cluster = shared.cluster(cluster);
        let pods = cluster.kubectl(&["-n", "lab", "get", "pods", "-o=jsonpath={..podIP}"]);
        for address in pods.unwrap().split_whitespace() {
            assert!(address.starts_with("10.42.0."), "{address}");
        }
        let path = "-o=jsonpath={.spec.clusterIP}";
        let service = cluster.kubectl(&["-n", "lab", "get", "service", "web", path]);
        assert!(service.unwrap().starts_with("10.96."));
    }
}

#[test]
fn dns_takes_rules_of_others() {
    let shared = application();
    let west = shared.cluster(WEST);
    let rule = "--from-literal=test.override=rewrite name web.elsewhere web.lab.svc.cluster.local";
    west.kubectl(&[
        "-n",
        "kube-system",
        "create",
        "configmap",
        "coredns-custom",
        rule,
    ])
    .unwrap();
    let took = eventually("the rule is in use", west, || {
        try_get(&shared, WEST, "http://web.elsewhere").is_ok()
    });
    println!("a rule of DNS was in use after {took:?}");
    west.kubectl(&["-n", "kube-system", "delete", "configmap", "coredns-custom"])
        .unwrap();
}

#[test]
fn exec_and_logs_work() {
    let shared = application();
    let west = shared.cluster(WEST);
    let said = west.kubectl(&[
        "-n",
        "lab",
        "exec",
        "deploy/client",
        "--",
        "/testapp",
        "--version",
    ]);
    assert!(said.unwrap().starts_with("testapp"));
    let logs = west.kubectl(&["-n", "lab", "logs", "deploy/web"]).unwrap();
    assert!(logs.contains("0.0.0.0:8080"), "{logs}");
}

#[test]
fn firewall_drops_and_counts_all_but_opened_ports() {
    let shared = application();
    let address = application::load_balancer(&shared, EAST);
    let url = format!("http://{address}:{CLOSED_PORT}");

    let before = wan::dropped_packets().unwrap();
    let refused = try_get(&shared, WEST, &url);
    assert!(refused.is_err(), "{refused:?}");
    assert!(wan::dropped_packets().unwrap() > before);

    wan::open_port(CLOSED_PORT).unwrap();
    let opened = try_get(&shared, WEST, &url);
    wan::close_port(CLOSED_PORT).unwrap();
    assert!(opened.is_ok(), "{opened:?}");
    assert!(try_get(&shared, WEST, &url).is_err());
}

#[test]
fn nothing_reaches_pods_or_nodes_of_the_other_cluster() {
    let shared = application();
    let before = wan::dropped_packets().unwrap();
    // The API server is open to the machine, not to the other cluster.
    let refused = try_get(&shared, WEST, "http://10.99.2.10:6443");
    assert!(refused.is_err(), "{refused:?}");
    assert!(wan::dropped_packets().unwrap() > before);
}

#[test]
fn pods_reach_services_by_name() {
    let shared = application();
    for cluster in [WEST, EAST] {
        for name in ["web", "web.lab", "web.lab.svc.cluster.local"] {
            let answer = get(&shared, cluster, &format!("http://{name}"));
            let expected = format!(r#""cluster":"{cluster}""#);
            assert!(answer.contains(&expected), "{answer}");
        }
    }
}

#[test]
fn removed_load_balancers_lose_their_addresses() {
    let shared = application();
    let east = shared.cluster(EAST);
    east.apply(application::EXTRA_LOAD_BALANCER).unwrap();
    let mut address = String::new();
    eventually("the Service has an address", east, || {
        address = application::address_of(east, "extra");
        !address.is_empty()
    });
    let held = || host::addresses_of_node(EAST).contains(&format!("{address}/32"));
    eventually("the node has the address", east, held);
    east.kubectl(&["-n", "lab", "delete", "service", "extra"])
        .unwrap();
    eventually("the node has lost the address", east, || !held());
}

#[test]
fn second_run_is_refused() {
    let _shared = shared();
    for arguments in [&["up", "north"][..], &["down"]] {
        let said = lab_command(arguments).unwrap_err();
        assert!(said.contains("another run holds the lab"), "{said}");
    }
}

#[test]
fn status_and_logs_show_the_programs() {
    let _shared = shared();
    let status = lab_command(&["status"]).unwrap();
    for name in ["etcd", "kube-apiserver", "kubelet", "containerd", "agent"] {
        assert!(status.contains(name), "{status}");
    }
    assert!(!status.contains("has ended"), "{status}");
    let log = lab_command(&["logs", "west", "kubelet"]).unwrap();
    assert!(log.contains("Kubelet version"));
}

#[test]
fn two_idle_clusters_fit_in_memory() {
    let _shared = shared();
    let bytes = host::memory_of_lab();
    println!("two clusters take {} MB", bytes / 1_000_000);
    assert!(bytes < MEMORY, "{bytes} bytes");
}

/// Shows that a capture would see plaintext if there were any.
#[test]
fn wan_capture_sees_what_crosses() {
    let shared = application();
    let address = application::load_balancer(&shared, EAST);
    let capture = Capture::start().unwrap();
    get(
        &shared,
        WEST,
        &format!("http://{address}:4143/visible-marker"),
    );
    let captured = capture.stop().unwrap();
    assert!(captured.packets_of_port(4143).unwrap() > 0);
    assert!(captured.occurrences(b"visible-marker").unwrap() > 0);
    assert_eq!(captured.occurrences(b"never-sent").unwrap(), 0);
}
