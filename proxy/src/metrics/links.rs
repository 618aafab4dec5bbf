//! The links in use, told when somebody asks.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use mesh_dataplane::tunnel::{LinkReport, Tunnels};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};

/// What is known of the links, once there are tunnels. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LinkMetrics(Arc<OnceLock<Tunnels>>);

impl LinkMetrics {
    /// From now on these tunnels are told of.
    pub(crate) fn follow(&self, tunnels: Tunnels) {
        // There is one pool of tunnels.
        let _ = self.0.set(tunnels);
    }
}

impl fmt::Debug for LinkMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkMetrics")
    }
}

impl Collector for LinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.get() {
            Some(tunnels) => encode(&tunnels.report(Instant::now()), &mut encoder),
            None => Ok(()),
        }
    }
}

fn encode(links: &[LinkReport], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Whether traffic that could go elsewhere may use the link";
    let mut available =
        encoder.encode_descriptor("link_available", help, None, MetricType::Gauge)?;
    for link in links {
        let value = i64::from(link.is_available);
        available
            .encode_family(&[("link", &*link.link)])?
            .encode_gauge(&value)?;
    }
    let help = "Addresses of the link's gateway, by what is known of them";
    let mut addresses =
        encoder.encode_descriptor("link_gateway_addresses", help, None, MetricType::Gauge)?;
    for link in links {
        for (state, count) in [
            ("live", link.live),
            ("dialling", link.dialling),
            ("resting", link.resting),
            ("idle", link.idle),
        ] {
            addresses
                .encode_family(&[("link", &*link.link), ("state", state)])?
                .encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
        }
    }
    let help = "Tunnels that were asked for";
    let mut opened =
        encoder.encode_descriptor("link_tunnels_opened", help, None, MetricType::Counter)?;
    for link in links {
        let labels = [("link", &*link.link)];
        ConstCounter::new(link.opened).encode(opened.encode_family(&labels)?)?;
    }
    let help = "Tunnels for which there was no connection to the gateway";
    let mut failed =
        encoder.encode_descriptor("link_tunnels_failed", help, None, MetricType::Counter)?;
    for link in links {
        for (reason, count) in &link.failed {
            let labels = [("link", &*link.link), ("reason", *reason)];
            ConstCounter::new(*count).encode(failed.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Fixed(Vec<LinkReport>);

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode(&self.0, &mut encoder)
        }
    }

    #[test]
    fn links_are_told_of_by_name() {
        let east = LinkReport {
            link: "east".into(),
            is_available: true,
            live: 2,
            resting: 1,
            opened: 7,
            failed: [("timeout", 3)].into(),
            ..LinkReport::default()
        };
        let mut registry = Registry::default();
        let proxy = registry.sub_registry_with_prefix("mesh_proxy");
        proxy.register_collector(Box::new(Fixed(vec![east])));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"mesh_proxy_link_available{link="east"} 1"#,
            r#"mesh_proxy_link_gateway_addresses{link="east",state="live"} 2"#,
            r#"mesh_proxy_link_gateway_addresses{link="east",state="resting"} 1"#,
            r#"mesh_proxy_link_tunnels_opened_total{link="east"} 7"#,
            r#"mesh_proxy_link_tunnels_failed_total{link="east",reason="timeout"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
