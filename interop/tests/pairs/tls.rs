//! TLS that is the application's own: from its client to its server, unread.

use anyhow::{Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::Side;

use crate::{
    content::{SIZES, check, content},
    origin::Origin,
    place::{Place, declared, detected, server},
    report::{Group, Report},
};

const PORT: u16 = 8443;
const DECLARED: u16 = 8444;
/// Where nginx gets its answers from.
const BEHIND: u16 = 8000;
const NAME: &str = "web.pair.internal";

#[test]
fn tls_goes_through_unread() {
    let ports = [
        detected(PORT),
        declared(DECLARED, Protocol::Opaque).at(PORT),
    ];
    let mut place = Place::new(&ports);
    let _origin = Origin::http1(&place, BEHIND);
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    place.write("tls.crt", issued.cert.pem());
    place.write("tls.key", issued.signing_key.serialize_pem());
    let configuration = place.configure("nginx.conf", include_str!("../../config/nginx-tls.conf"));
    let mut nginx = server("nginx");
    nginx.args(["-e", "stderr", "-c"]).arg(configuration);
    place.start(Side::B, nginx, &[PORT]);

    let mut report = Report::new(Group::Tls);
    for (how, port) in [("detected", PORT), ("declared", DECLARED)] {
        for (what, version) in [("HTTP/1", "--http1.1"), ("HTTP/2", "--http2")] {
            for size in SIZES {
                let case = format!("{how}: curl, {what}, {size} bytes both ways");
                report.case(case, post(&place, port, version, size));
            }
        }
        let case = format!("{how}: another name is not taken for the server's");
        report.case(case, wrong_name(&place, port));
    }
    report.finish(&mut place);
}

fn curl(place: &Place, port: u16, name: &str, more: &[&str]) -> Result<String> {
    let resolve = format!("{name}:{port}:10.211.0.10");
    let url = format!("https://{name}:{port}/echo");
    let fixed = [
        "--silent",
        "--show-error",
        "--max-time",
        "25",
        "--output",
        "out",
    ];
    let trusted = ["--cacert", "tls.crt", "--resolve", &resolve, &url];
    place.run("curl", &[&fixed[..], &trusted, more].concat())
}

fn post(place: &Place, port: u16, version: &str, length: usize) -> Result<()> {
    place.write("in", content(length));
    let code = [
        "--write-out",
        "%{http_code}",
        "--data-binary",
        "@in",
        version,
    ];
    let said = curl(place, port, NAME, &code)?;
    ensure!(said == "200", "{said}");
    check(&std::fs::read(place.file("out"))?, length)
}

/// The certificate that the client sees is the server's, and no one else's.
fn wrong_name(place: &Place, port: u16) -> Result<()> {
    let refused = curl(place, port, "other.pair.internal", &[]).err();
    let text = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure!(
        text.contains("SSL: no alternative certificate subject name"),
        "{text:?}"
    );
    Ok(())
}
