//! TLS that is the application's own: from its client to its server, unread.

use anyhow::{Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::{control::Port, namespace::Side};

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

/// Ports with TLSRoutes, and where those lead to.
const LED: u16 = 8445;
const LED_DECLARED: u16 = 8448;
const EAST: u16 = 8446;
const WEST: u16 = 8447;

#[test]
fn tls_goes_through_unread() {
    let ports = [
        detected(PORT),
        declared(DECLARED, Protocol::Opaque).at(PORT),
        led(detected(LED)),
        led(declared(LED_DECLARED, Protocol::Opaque)),
        detected(EAST),
        detected(WEST),
    ];
    let mut place = Place::new(&ports);
    let _origin = Origin::http1(&place, BEHIND);
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    place.write("tls.crt", issued.cert.pem());
    place.write("tls.key", issued.signing_key.serialize_pem());
    let configuration = place.configure("nginx.conf", include_str!("../../config/nginx-tls.conf"));
    let mut nginx = server("nginx");
    nginx.args(["-e", "stderr", "-c"]).arg(configuration);
    place.start(Side::B, nginx, &[PORT, EAST, WEST]);

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
    for (how, port) in [("detected", LED), ("declared", LED_DECLARED)] {
        for (name, backend) in [
            ("east.pair.internal", EAST),
            ("EAST.pair.internal", EAST),
            ("a.west.pair.internal", WEST),
            ("b.a.west.pair.internal", WEST),
        ] {
            let case = format!("{how}: TLS for {name} goes where its route leads");
            report.case(case, answered_by(&place, port, name, backend));
        }
        for name in ["west.pair.internal", "other.pair.internal", "10.211.0.10"] {
            let case = format!("{how}: TLS for {name}, of which no route speaks, is refused");
            report.case(case, refused(&place, port, name));
        }
    }
    let case = "detected: what is no TLS goes to the Service itself";
    report.case(case, no_tls(&place));
    report.finish(&mut place);
}

/// The Service itself is [`PORT`], and its TLSRoutes lead to two others.
fn led(port: Port) -> Port {
    let port = port.at(PORT).leading("east.pair.internal", EAST);
    port.leading("*.west.pair.internal", WEST)
}

fn answered_by(place: &Place, port: u16, name: &str, backend: u16) -> Result<()> {
    curl(place, port, name, &["--insecure"])?;
    let said = std::fs::read_to_string(place.file("out"))?;
    let expected = format!("{} at {backend}", name.to_ascii_lowercase());
    ensure!(said == expected, "{said:?} is not {expected:?}");
    Ok(())
}

/// The client is told why.
fn refused(place: &Place, port: u16, name: &str) -> Result<()> {
    let refused = curl(place, port, name, &["--insecure"]).err();
    let text = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure!(text.contains("unrecognized name"), "{text:?}");
    Ok(())
}

fn no_tls(place: &Place) -> Result<()> {
    let url = format!("http://10.211.0.10:{LED}/");
    place.run(
        "curl",
        &["--silent", "--max-time", "25", "--output", "out", &url],
    )?;
    let said = std::fs::read_to_string(place.file("out"))?;
    ensure!(said.contains("plain HTTP request was sent"), "{said:?}");
    Ok(())
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
