//! Arrows go down only: programs, then `lib/*`, then `lib/core`.

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand};

/// Every crate, also those still to come, and the crates of ours that it may
/// depend on. A crate or an arrow that is not here is refused; a new one is a
/// decision about the architecture and is made in this list.
const ARROWS: &[(&str, &[&str])] = &[
    // Libraries, from the bottom.
    ("mesh-core", &[]),
    ("mesh-net", &[]),
    ("mesh-runtime", &[]),
    ("mesh-wire", &["core"]),
    ("mesh-http", &["core", "wire"]),
    ("mesh-drive", &["http", "net"]),
    ("mesh-tls", &["core"]),
    ("mesh-proto", &["core"]),
    ("mesh-api", &["core"]),
    (
        "mesh-dataplane",
        &[
            "core", "drive", "http", "net", "proto", "runtime", "tls", "wire",
        ],
    ),
    (
        "mesh-testing",
        &["api", "core", "http", "net", "proto", "tls", "wire"],
    ),
    // It plays the control plane of the sidecars that it starts.
    ("mesh-pair", &["core", "net", "proto", "tls"]),
    // Programs.
    (
        "mesh-proxy",
        &[
            "core",
            "dataplane",
            "drive",
            "http",
            "net",
            "proto",
            "runtime",
            "tls",
            "wire",
        ],
    ),
    (
        "mesh-gateway",
        &[
            "core",
            "dataplane",
            "drive",
            "http",
            "net",
            "proto",
            "runtime",
            "tls",
            "wire",
        ],
    ),
    (
        "mesh-mirror",
        &["api", "core", "dataplane", "proto", "runtime", "tls"],
    ),
    (
        "mesh-control",
        &["api", "core", "dataplane", "net", "proto", "runtime", "tls"],
    ),
    ("mesh-redirect", &["core", "net", "runtime"]),
    ("mesh-cli", &["api", "core", "tls"]),
    // What tries them from outside, and so knows none of them. (Its tests have
    // an intruder, who speaks as they do.)
    (
        "mesh-lab",
        &["core", "dataplane", "http", "proto", "tls", "wire"],
    ),
    ("mesh-testapp", &[]),
    // It plays the measured sidecars' application and client.
    ("mesh-bench", &["core", "http", "tls"]),
    // It knows what the control plane of a pair may be told to say, and is itself a
    // peer that does nothing.
    ("mesh-interop", &["core", "tls"]),
    ("mesh-architecture", &[]),
];

/// These stand beside the others: any crate may use them, in tests only.
const TESTING: &[&str] = &["mesh-testing", "mesh-pair"];
/// What is a test itself, and is never shipped.
const TESTS: &[&str] = &["mesh-bench", "mesh-pair"];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo describes the workspace that runs this test")
}

/// What is wrong with an arrow from `from`, or nothing.
fn fault(from: &str, dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    let is_test = dependency.kind == DependencyKind::Development || TESTS.contains(&from);
    if TESTING.contains(&to) && is_test {
        return None;
    }
    if TESTING.contains(&to) {
        return Some(format!("{from} -> {to}: dev-dependencies only"));
    }
    let allowed = ARROWS.iter().find(|(name, _)| *name == from)?.1;
    let to_short = to.strip_prefix("mesh-")?;
    (!allowed.contains(&to_short)).then(|| format!("{from} -> {to}: not in the list of arrows"))
}

#[test]
fn every_crate_is_planned() {
    let unplanned: Vec<_> = workspace()
        .packages
        .into_iter()
        .map(|package| package.name.to_string())
        .filter(|name| !ARROWS.iter().any(|(planned, _)| planned == name))
        .collect();
    assert!(
        unplanned.is_empty(),
        "not in the list of crates: {unplanned:?}"
    );
}

#[test]
fn every_arrow_is_allowed() {
    let faults: Vec<_> = workspace()
        .packages
        .iter()
        .flat_map(|package| {
            let ours = package.dependencies.iter().filter(|to| to.path.is_some());
            ours.filter_map(|dependency| fault(&package.name, dependency))
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_list_itself_goes_down_only() {
    // Every arrow points to a crate that stands earlier in the list.
    for (index, (name, allowed)) in ARROWS.iter().enumerate() {
        for to in *allowed {
            let earlier = ARROWS[..index]
                .iter()
                .any(|(before, _)| before.strip_prefix("mesh-") == Some(to));
            assert!(earlier, "{name} -> {to} does not point down");
        }
    }
}

#[test]
fn no_arrow_leads_to_a_program() {
    let libraries: Vec<_> = workspace()
        .packages
        .iter()
        .filter(|package| package.manifest_path.as_str().contains("/lib/"))
        .filter_map(|package| package.name.strip_prefix("mesh-").map(str::to_owned))
        .collect();
    for (name, allowed) in ARROWS {
        for to in *allowed {
            let library = libraries.iter().any(|library| library == to);
            assert!(library, "{name} -> {to} leads to a program");
        }
    }
}
