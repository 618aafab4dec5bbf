//! What a name that a user types means.

use anyhow::{bail, ensure};
use mesh_core::identity::is_dns_label;

use super::facts::Target;

/// The Service that `asked` means to a pod in `namespace`. `links` are the
/// names of the linked clusters, `namespaces` those of this cluster.
///
/// # Errors
/// If it is the name of no Service.
pub(crate) fn target(
    asked: &str,
    namespace: &str,
    links: &[String],
    namespaces: &[String],
) -> anyhow::Result<Target> {
    let labels: Vec<&str> = asked.trim_end_matches('.').split('.').collect();
    ensure!(
        asked.len() <= 253 && labels.iter().all(|label| is_dns_label(label)),
        "{asked:?} is no name of a Service"
    );
    let local = |name: &str, namespace: &str| Target {
        asked: asked.into(),
        namespace: namespace.into(),
        name: name.into(),
        alias: None,
    };
    let linked = |name: &str, namespace: &str, cluster: &str| Target {
        asked: asked.into(),
        namespace: namespace.into(),
        name: format!("{name}-{cluster}"),
        alias: Some(cluster.into()),
    };
    let known = |names: &[String], name: &str| names.iter().any(|known| known == name);
    Ok(match labels[..] {
        [name] => local(name, namespace),
        [name, second] if known(links, second) => linked(name, namespace, second),
        [name, second] if known(namespaces, second) => local(name, second),
        // Then there is neither: what is missing is most likely the Link.
        [name, second] => linked(name, namespace, second),
        [name, second, "svc"] => local(name, second),
        [name, second, "svc", "cluster", "local"] if known(links, second) => {
            linked(name, namespace, second)
        }
        [name, cluster, namespace, "svc", "cluster", "local"] => linked(name, namespace, cluster),
        [name, second, "svc", "cluster", "local"] => local(name, second),
        [name, second, "svc", cluster] => linked(name, second, cluster),
        _ => bail!("{asked} is no name of a Service: try web, web-east or web.east"),
    })
}

/// The linked cluster and the Service there that the local name `name` would
/// stand for: the longest name of a cluster wins.
pub(crate) fn mirrored<'a>(name: &'a str, links: &'a [String]) -> Option<(&'a str, &'a str)> {
    let stands = |cluster: &'a String| {
        let service = name.strip_suffix(cluster.as_str())?.strip_suffix('-')?;
        (!service.is_empty()).then_some((cluster.as_str(), service))
    };
    links
        .iter()
        .filter_map(stands)
        .max_by_key(|(cluster, _)| cluster.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_leads_to_its_service() {
        let links = ["east".to_owned()];
        let namespaces = ["shop".to_owned(), "bank".to_owned()];
        let means = |asked: &str| {
            let target = target(asked, "shop", &links, &namespaces).unwrap();
            (target.namespace + "/" + &target.name, target.alias)
        };
        let east = || Some("east".to_owned());
        for (asked, service, alias) in [
            ("web", "shop/web", None),
            ("web-east", "shop/web-east", None),
            ("web.east", "shop/web-east", east()),
            ("web.bank", "bank/web", None),
            ("web.bank.svc", "bank/web", None),
            ("web.bank.svc.cluster.local.", "bank/web", None),
            ("web.bank.svc.east", "bank/web-east", east()),
            ("web.east.bank.svc.cluster.local", "bank/web-east", east()),
            ("web.north", "shop/web-north", Some("north".into())),
        ] {
            assert_eq!(means(asked), (service.into(), alias), "{asked}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".", "Web", "web..east", "a.b.c", "web\u{1b}[31m", "a/b"] {
            assert!(target(bad, "shop", &[], &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mirror_is_known_by_its_ending() {
        let links = ["east".to_owned(), "far-east".to_owned()];
        assert_eq!(mirrored("web-east", &links), Some(("east", "web")));
        assert_eq!(mirrored("web-far-east", &links), Some(("far-east", "web")));
        assert_eq!(mirrored("-east", &links), None);
        assert_eq!(mirrored("web", &links), None);
    }
}
