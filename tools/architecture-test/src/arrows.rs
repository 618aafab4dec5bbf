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
    ("mesh-lab", &["core", "dataplane", "proto", "tls", "wire"]),
    ("mesh-testapp", &[]),
    // It plays the measured sidecars' control plane, application and client.
    ("mesh-bench", &["core", "http", "proto", "tls"]),
    ("mesh-architecture", &[]),
];

/// Stands beside the others: any crate may use it, in tests only.
const TESTING: &str = "mesh-testing";
/// Programs that are a test themselves, and are never shipped.
const TESTS: &[&str] = &["mesh-bench"];

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
    if to == TESTING && is_test {
        return None;
    }
    if to == TESTING {
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
