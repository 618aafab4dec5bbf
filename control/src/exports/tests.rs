use super::*;
use crate::fixtures::{key, link, snapshot};

fn ids(message: &v1::ExportedEndpoints) -> Vec<u64> {
    message
        .endpoints
        .iter()
        .map(|endpoint| endpoint.id)
        .collect()
}

fn web() -> Name {
    ("shop".to_owned(), "web".to_owned())
}

/// With a second pod of `web`, of another ServiceAccount, whose port 80 is
/// `target`.
fn with_second(target: u16) -> Snapshot {
    let mut snapshot = snapshot();
    let mut pod = snapshot.pods[&("shop".to_owned(), "web-1".to_owned())].clone();
    pod.uid = "uid-web-2".to_owned();
    pod.ips = vec!["10.42.0.8".parse().unwrap()];
    pod.identity = Some("spiffe://east/ns/shop/sa/canary".parse().unwrap());
    snapshot
        .pods
        .insert(("shop".to_owned(), "web-2".to_owned()), pod);
    let slices = snapshot.endpoints.get_mut(&web()).unwrap();
    let mut second = slices[0].clone();
    second.ports[0].1 = target;
    second.members[0].ip = "10.42.0.8".parse().unwrap();
    second.members[0].pod = Some("web-2".to_owned());
    second.members[0].ready = false;
    slices.push(second);
    snapshot
}

#[test]
fn m14_a_peer_reads_its_exports_and_nothing_else() {
    let snapshot = snapshot();
    let west = link("west");
    let message = services(&snapshot, &west, "uid");
    let names: Vec<_> = message.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["web"],
        "neither vault, nor api (north only), nor a mirror"
    );
    let name = |name: &str| ("shop".to_owned(), name.to_owned());
    assert!(endpoints(&snapshot, &key(), &west, &name("web")).exported);
    for hidden in ["vault", "api", "web-north", "nothing"] {
        let message = endpoints(&snapshot, &key(), &west, &name(hidden));
        assert_eq!(message, v1::ExportedEndpoints::default(), "{hidden}");
    }
}

#[test]
fn m14_what_is_said_of_an_export_names_no_pod_and_no_address() {
    let message = endpoints(&with_second(8080), &key(), &link("west"), &web());
    let said = format!("{message:?}");
    for hidden in ["10.42.0", "web-1", "web-2", "uid-"] {
        assert!(!said.contains(hidden), "{hidden} is in {said}");
    }
}

#[test]
fn an_id_is_one_peers_alone() {
    let snapshot = snapshot();
    let west = endpoints(&snapshot, &key(), &link("west"), &web());
    let north = endpoints(&snapshot, &key(), &link("north"), &web());
    assert_eq!(ids(&west).len(), 1);
    assert_ne!(ids(&west), ids(&north));
    assert_ne!(west.id, north.id);
    assert!(!ids(&west).contains(&west.id));
}

#[test]
fn an_export_names_whoever_may_answer_for_it() {
    let message = endpoints(&with_second(8080), &key(), &link("west"), &web());
    assert_eq!(message.endpoints.len(), 1, "one pod is ready");
    let accounts = ["canary", "web"].map(|name| format!("spiffe://east/ns/shop/sa/{name}"));
    assert_eq!(message.identities, accounts, "the other soon will be");
    assert_eq!(message.ports[0].target_port, 8080);
}

#[test]
fn a_port_that_differs_between_pods_has_no_meaning_for_the_whole() {
    let message = endpoints(&with_second(9090), &key(), &link("west"), &web());
    assert_eq!(message.endpoints[0].ports.len(), 1);
    assert!(message.ports.is_empty());
}

#[test]
fn the_table_keeps_what_is_about_to_end_and_the_feed_does_not() {
    let mut snapshot = snapshot();
    snapshot.endpoints.get_mut(&web()).unwrap()[0].members[0].ready = false;
    assert!(ids(&endpoints(&snapshot, &key(), &link("west"), &web())).is_empty());
    let table = table(&snapshot, &key());
    let (whole, single): (Vec<_>, Vec<_>) = table
        .routes
        .iter()
        .partition(|route| route.address.is_none());
    assert_eq!(single.len(), 3, "web twice, api once");
    assert_eq!(whole.len(), 3, "and each as a whole");
    let ready = |name: &str| {
        let of_name = |r: &&&v1::gateway_table::Route| r.service.as_ref().unwrap().name == name;
        let routes = whole.iter().filter(of_name);
        routes
            .map(|route| route.members[0].ready)
            .collect::<Vec<_>>()
    };
    assert_eq!((ready("web"), ready("api")), (vec![false; 2], vec![true]));
}

#[test]
fn g1_the_table_leads_to_exported_pods_only_and_each_id_to_one_peer() {
    let table = table(&with_second(8080), &key());
    for route in &table.routes {
        let name = &route.service.as_ref().unwrap().name;
        assert_ne!(name, "vault");
        assert!(name != "api" || route.trust_domain == "north");
    }
    let ids: BTreeSet<u64> = table.routes.iter().map(|route| route.id).collect();
    assert_eq!(ids.len(), table.routes.len());
}
