use std::{collections::HashSet, sync::Arc};

use ipnet::IpNet;
use mesh_core::link::{Gateway, Link, Links};

use super::{InvalidMessage, parse, port_from_proto};
use crate::v1;

/// All links of a cluster.
///
/// # Errors
/// Names the field that is wrong. Two links with one prefix or one trust
/// domain, or with the local trust domain, are refused: an address or an
/// identity would have two meanings.
pub fn links_from_proto(message: v1::LinkSet) -> Result<Links, InvalidMessage> {
    let local = message
        .local
        .ok_or_else(|| InvalidMessage::missing("local"))?;
    let links = message
        .links
        .into_iter()
        .map(|link| link_from_proto(link).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let links = Links {
        cluster: parse("cluster", &message.cluster)?,
        trust_domain: parse("local.trust_domain", &local.trust_domain)?,
        roots: local.roots,
        links,
    };
    check_unique(&links)?;
    Ok(links)
}

fn check_unique(links: &Links) -> Result<(), InvalidMessage> {
    let mut trust_domains = HashSet::from([&links.trust_domain]);
    let mut prefixes = HashSet::new();
    for link in &links.links {
        if !trust_domains.insert(&link.trust_domain) {
            return Err(InvalidMessage::new(
                "links.bundle.trust_domain",
                "is used twice",
            ));
        }
        if !prefixes.insert(link.prefix) {
            return Err(InvalidMessage::new("links.prefix", "is used twice"));
        }
    }
    Ok(())
}

/// The message of all links.
#[must_use]
pub fn links_to_proto(links: &Links) -> v1::LinkSet {
    v1::LinkSet {
        local: Some(v1::Bundle {
            trust_domain: links.trust_domain.to_string(),
            roots: links.roots.clone(),
        }),
        cluster: links.cluster.to_string(),
        links: links.links.iter().map(|link| link_to_proto(link)).collect(),
    }
}

fn link_from_proto(message: v1::Link) -> Result<Link, InvalidMessage> {
    let bundle = message
        .bundle
        .ok_or_else(|| InvalidMessage::missing("link.bundle"))?;
    let gateway = message
        .gateway
        .ok_or_else(|| InvalidMessage::missing("link.gateway"))?;
    let prefix: IpNet = message
        .prefix
        .ok_or_else(|| InvalidMessage::missing("link.prefix"))?
        .try_into()
        .map_err(|error| InvalidMessage::new("link.prefix", error))?;
    let IpNet::V6(prefix) = prefix else {
        return Err(InvalidMessage::new("link.prefix", "is not IPv6"));
    };
    Ok(Link {
        name: message.name.into(),
        cluster: parse("link.cluster", &message.cluster)?,
        trust_domain: parse("link.bundle.trust_domain", &bundle.trust_domain)?,
        roots: bundle.roots,
        gateway: Gateway {
            hosts: gateway.hosts.into_iter().map(Into::into).collect(),
            port: port_from_proto("link.gateway.port", gateway.port)?,
            identity: parse("link.gateway.identity", &gateway.identity)?,
            server_name: gateway.server_name.into(),
        },
        prefix: prefix
            .try_into()
            .map_err(|error| InvalidMessage::new("link.prefix", error))?,
        control: parse("link.control_identity", &message.control_identity)?,
        mirror: parse("link.mirror_identity", &message.mirror_identity)?,
        import: message.import,
        export: message.export,
    })
}

fn link_to_proto(link: &Link) -> v1::Link {
    v1::Link {
        name: link.name.to_string(),
        cluster: link.cluster.to_string(),
        bundle: Some(v1::Bundle {
            trust_domain: link.trust_domain.to_string(),
            roots: link.roots.clone(),
        }),
        gateway: Some(v1::Gateway {
            hosts: link.gateway.hosts.iter().map(ToString::to_string).collect(),
            port: link.gateway.port.into(),
            identity: link.gateway.identity.to_string(),
            server_name: link.gateway.server_name.to_string(),
        }),
        prefix: Some(IpNet::V6(link.prefix.network()).into()),
        control_identity: link.control.to_string(),
        mirror_identity: link.mirror.to_string(),
        import: link.import,
        export: link.export,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let link = Link {
            name: "east".into(),
            cluster: "east".parse().unwrap(),
            trust_domain: "east".parse().unwrap(),
            roots: vec![vec![1, 2, 3]],
            gateway: Gateway {
                hosts: vec!["10.99.2.100".into()],
                port: 4143,
                identity: "spiffe://east/ns/mesh-multicluster/sa/mesh-gateway"
                    .parse()
                    .unwrap(),
                server_name: "gateway.east.mesh".into(),
            },
            prefix: "fd6d:6573:6800:1::/64".parse().unwrap(),
            control: "spiffe://east/ns/mesh-system/sa/mesh-control"
                .parse()
                .unwrap(),
            mirror: "spiffe://east/ns/mesh-multicluster/sa/mesh-mirror"
                .parse()
                .unwrap(),
            import: true,
            export: false,
        };
        Links {
            cluster: "west".parse().unwrap(),
            trust_domain: "west".parse().unwrap(),
            roots: vec![vec![4, 5]],
            links: vec![Arc::new(link)],
        }
    }

    #[test]
    fn links_survive_their_message() {
        let links = links();
        assert_eq!(links_from_proto(links_to_proto(&links)), Ok(links));
    }

    #[test]
    fn two_links_never_share_a_prefix_or_a_trust_domain() {
        let mut same = links();
        same.links.push(same.links[0].clone());
        assert!(links_from_proto(links_to_proto(&same)).is_err());

        let mut local = links();
        local.trust_domain = "east".parse().unwrap();
        assert!(links_from_proto(links_to_proto(&local)).is_err());
    }
}
