//! The generated code in `src/gen` is the code of today's `.proto` files.
//!
//! It is kept in the repository so that a build needs no protobuf compiler.
//! `MESH_WRITE_PROTO=1 cargo test -p mesh-proto` writes it anew.

use std::{fs, path::PathBuf};

#[test]
fn generated_code_is_up_to_date() {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let root = PathBuf::from(root);
    let out = tempfile::tempdir().expect("a temporary folder");
    generate(&root, out.path());

    let fresh = fs::read_to_string(out.path().join("mesh.v1.rs")).expect("generated code");
    let kept = root.join("src/gen/mesh.v1.rs");
    if std::env::var_os("MESH_WRITE_PROTO").is_some() {
        fs::write(&kept, &fresh).expect("written");
    }
    let current = fs::read_to_string(&kept).unwrap_or_default();
    assert!(
        current == fresh,
        "run `MESH_WRITE_PROTO=1 cargo test -p mesh-proto`"
    );
}

fn generate(root: &std::path::Path, out: &std::path::Path) {
    let files = protox::compile(["mesh/v1/mesh.proto"], [root.join("proto"), stock_protos()])
        .expect("the .proto files compile");
    tonic_prost_build::configure()
        .out_dir(out)
        .build_transport(false)
        .extern_path(
            ".io.linkerd.proxy.destination",
            "::linkerd2_proxy_api::destination",
        )
        .extern_path(
            ".io.linkerd.proxy.http_route",
            "::linkerd2_proxy_api::http_route",
        )
        .extern_path(".io.linkerd.proxy.net", "::linkerd2_proxy_api::net")
        .compile_fds(files)
        .expect("code is generated");
}

/// The `.proto` files that the crate `linkerd2-proxy-api` ships.
fn stock_protos() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new()
        .exec()
        .expect("cargo metadata");
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "linkerd2-proxy-api")
        .expect("linkerd2-proxy-api is a dependency");
    package
        .manifest_path
        .parent()
        .expect("a folder")
        .join("proto")
        .into_std_path_buf()
}
