//! The gateway reads nothing of what it carries: it has no code that could.

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::files::sources;

/// What could speak the protocol of an inner session. (The TLS of the outer
/// one is in `mesh-tls` and its HTTP/2 in `mesh-drive`, which only ever accept
/// here; see below.)
const INNER_CLIENTS: &[&str] = &[
    "h2",
    "hyper",
    "hyper-util",
    "mesh-proxy",
    "reqwest",
    "rustls",
    "tokio-rustls",
    "tonic",
];

#[test]
fn g14_the_gateway_depends_on_no_client_of_an_inner_session() {
    let workspace = MetadataCommand::new().no_deps().exec();
    let packages = workspace.expect("cargo describes the workspace").packages;
    let gateway = packages
        .iter()
        .find(|package| package.name == "mesh-gateway");
    let gateway = gateway.expect("the gateway is in the workspace");
    let found: Vec<_> = gateway
        .dependencies
        .iter()
        .filter(|to| to.kind != DependencyKind::Development)
        .filter(|to| INNER_CLIENTS.contains(&to.name.as_str()))
        .map(|to| to.name.clone())
        .collect();
    assert!(found.is_empty(), "the gateway could look inside: {found:?}");
}

#[test]
fn g14_the_gateway_opens_no_session_of_its_own() {
    // Connections to sidecars, and the client's side of TLS and of HTTP.
    let signs = [
        "dataplane::peer",
        "Peers",
        "tls.connect",
        ".connect_unauthenticated(",
        "conduit::connect",
        "Http1",
    ];
    let (mut seen, mut served, mut unread) = (0, 0, 0);
    for (path, text) in sources() {
        let path = path.to_string_lossy().into_owned();
        if !path.starts_with("gateway/src") || path.contains("tests") {
            continue;
        }
        seen += 1;
        for sign in signs {
            assert!(!text.contains(sign), "{path}: {sign}");
        }
        served += text.matches("conduit::serve(").count();
        // Bytes to upstreams have no form.
        unread += text.matches("conduit::bytes(").count();
    }
    assert!(seen > 5, "the gateway's sources were not found");
    assert_eq!((served, unread), (1, 1), "its two kinds of connections");
}
