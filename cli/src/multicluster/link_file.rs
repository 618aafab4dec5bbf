//! A Link that somebody sent as a file: it is used only if its roots are those
//! whose fingerprints were told by another way.

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use kube::ResourceExt;
use mesh_api::link::Link;
use mesh_core::identity::TrustDomain;

use super::facts::fingerprints;
use crate::yaml::{read, split};

/// Files are a few kilobytes.
const LARGEST: u64 = 1 << 20;

/// The Link to `cluster` in the file at `path`.
///
/// # Errors
/// If it cannot be read, holds something else, or other roots.
pub(super) fn read_file(path: &Path, cluster: &str, told: &[String]) -> anyhow::Result<Link> {
    let shown = path.display();
    let size = fs::metadata(path)
        .with_context(|| format!("{shown} cannot be read"))?
        .len();
    ensure!(size <= LARGEST, "{shown} is too large to be a Link");
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    parse(&text, cluster, told).with_context(|| format!("{shown}"))
}

fn parse(text: &str, cluster: &str, told: &[String]) -> anyhow::Result<Link> {
    let documents = split::documents(text);
    let mut objects = Vec::new();
    for document in &documents {
        objects.extend(read::document(document.text)?);
    }
    let [object] = &objects[..] else {
        bail!("it holds {} objects, not one Link", objects.len());
    };
    ensure!(object["kind"] == "Link", "it holds no Link");
    let link: Link = serde_json::from_value(object.clone()).context("it holds no valid Link")?;
    ensure!(
        link.name_any() == cluster && link.spec.cluster == cluster,
        "it is the Link to {}, not to {cluster}",
        link.spec.cluster
    );
    require(&link, told)?;
    Ok(link)
}

/// Every root in the Link must have been told of, and all that were told of
/// must be in it.
fn require(link: &Link, told: &[String]) -> anyhow::Result<()> {
    let mut found: Vec<String> = fingerprints(&link.spec.bundle)?
        .iter()
        .map(|text| normal(text))
        .collect();
    let mut wanted: Vec<String> = told.iter().map(|text| normal(text)).collect();
    for list in [&mut found, &mut wanted] {
        list.sort();
        list.dedup();
    }
    ensure!(
        !wanted.is_empty() && found == wanted,
        "its roots are not those of --fingerprint: it has SHA256:{}",
        found.join(", SHA256:")
    );
    let roots = mesh_tls::parse_bundle(&link.spec.bundle)?;
    link.spec.to_model(&link.name_any(), roots)?;
    Ok(())
}

/// One spelling: hexadecimal digits in upper case.
fn normal(fingerprint: &str) -> String {
    let digits = fingerprint.trim().to_ascii_uppercase();
    let digits = digits.strip_prefix("SHA256:").unwrap_or(&digits);
    digits.chars().filter(|c| *c != ':').collect()
}

/// Checks that `link` leads to another root of trust than `local`.
///
/// # Errors
/// If it does not.
pub(super) fn require_foreign(link: &Link, local: &TrustDomain) -> anyhow::Result<()> {
    ensure!(
        link.spec.trust_domain != local.as_str(),
        "both clusters have the trust domain {local}: install one of them with another --trust-domain"
    );
    Ok(())
}

/// Checks that no other Link has the prefix or the trust domain of `link`.
///
/// # Errors
/// Names the other Link.
pub(super) fn require_free(link: &Link, existing: &[Link]) -> anyhow::Result<()> {
    let others = existing
        .iter()
        .filter(|other| other.name_any() != link.name_any());
    for other in others {
        ensure!(
            other.spec.prefix != link.spec.prefix,
            "the Link {} has the prefix {} already: have the file made for this cluster",
            other.name_any(),
            link.spec.prefix
        );
        ensure!(
            other.spec.trust_domain != link.spec.trust_domain,
            "the Link {} already leads to the trust domain {}",
            other.name_any(),
            link.spec.trust_domain
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mesh_api::link::Direction;
    use mesh_testing::ca::TestRoot;

    use super::*;
    use crate::{multicluster::tests::link_to, yaml::print};

    fn file(root: &TestRoot) -> String {
        let mut link = link_to("east", Direction::Both);
        link.spec.bundle = root.bundle_pem();
        print::document(&serde_json::to_value(&link).unwrap())
    }

    #[test]
    fn a_link_from_a_file_has_the_roots_that_were_told() {
        let (east, other) = (TestRoot::new("east"), TestRoot::new("east"));
        let told = fingerprints(&east.bundle_pem()).unwrap();
        let link = parse(&file(&east), "east", &told).unwrap();
        assert_eq!(link.spec.cluster, "east");
        let spelled = vec![format!(
            "SHA256:{}",
            told[0].replace(':', "").to_lowercase()
        )];
        assert!(parse(&file(&east), "east", &spelled).is_ok());

        let forged = parse(&file(&other), "east", &told).unwrap_err();
        assert!(
            forged.to_string().starts_with("its roots are not those"),
            "{forged}"
        );
        assert!(
            parse(&file(&east), "east", &[]).is_err(),
            "nothing was told"
        );
        let two = [told[0].clone(), "AB".into()];
        assert!(parse(&file(&east), "east", &two).is_err());
    }

    #[test]
    fn another_object_or_another_link_is_refused() {
        let east = TestRoot::new("east");
        let told = fingerprints(&east.bundle_pem()).unwrap();
        assert!(parse(&file(&east), "north", &told).is_err());
        let two = format!("{}---\n{}", file(&east), file(&east));
        assert!(parse(&two, "east", &told).is_err());
        for bad in ["", "kind: Secret\n", "kind: Link\n", "]["] {
            assert!(parse(bad, "east", &told).is_err(), "{bad:?}");
        }
        let link = parse(&file(&east), "east", &told).unwrap();
        assert!(require_foreign(&link, &"east".parse().unwrap()).is_err());
        assert!(require_free(&link, std::slice::from_ref(&link)).is_ok());
        let mut other = link_to("north", Direction::Both);
        assert!(require_free(&link, std::slice::from_ref(&other)).is_ok());
        other.spec.prefix.clone_from(&link.spec.prefix);
        assert!(require_free(&link, &[other]).is_err());
    }
}
