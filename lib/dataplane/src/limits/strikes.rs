//! How often limits have struck, for the metrics and the log.

use std::{fmt, time::Duration};

use mesh_core::limits::{Limit, Program};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::Bounds;

/// How often the log is told, at most.
const PACE: Duration = Duration::from_secs(10);

/// What has struck, by direction. As a collector it shows `limits_total`.
#[derive(Clone, Debug)]
pub struct Strikes {
    program: Program,
    directions: Vec<(&'static str, Bounds)>,
}

/// Something that has struck since the last look.
#[derive(Debug, PartialEq, Eq)]
struct News {
    limit: Limit,
    direction: &'static str,
    times: u64,
}

impl Strikes {
    /// Of these directions.
    #[must_use]
    pub const fn new(program: Program, directions: Vec<(&'static str, Bounds)>) -> Self {
        Self {
            program,
            directions,
        }
    }

    /// Writes into the log what has struck since the last time, a line for each
    /// limit, whoever provokes however many. It does not return.
    pub async fn report(self) {
        let mut known = self.counts();
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for News {
                limit,
                direction,
                times,
            } in self.news(&mut known)
            {
                warn!(%limit, direction, times, "a limit has struck");
            }
        }
    }

    /// What has struck that was not `known`, but for what is no news.
    fn news(&self, known: &mut Vec<u64>) -> Vec<News> {
        let now = self.counts();
        let before = std::mem::replace(known, now.clone());
        self.all()
            .zip(before.into_iter().zip(now))
            .filter(|((_, _, limit), (before, now))| now > before && !is_ordinary(*limit))
            .map(|((direction, _, limit), (before, now))| News {
                limit,
                direction,
                times: now - before,
            })
            .collect()
    }

    fn counts(&self) -> Vec<u64> {
        self.all()
            .map(|(_, bounds, limit)| bounds.struck(limit))
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Bounds, Limit)> {
        self.directions.iter().flat_map(|(direction, bounds)| {
            Limit::of(self.program).map(move |limit| (*direction, bounds, limit))
        })
    }
}

/// Connections end like this every day.
const fn is_ordinary(limit: Limit) -> bool {
    matches!(limit, Limit::IdleTime | Limit::ServerIdleTime)
}

impl Collector for Strikes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How often limits have struck";
        let mut family = encoder.encode_descriptor("limits", help, None, MetricType::Counter)?;
        for (direction, bounds, limit) in self.all() {
            let label = limit.label();
            let labels = [("limit", &*label), ("direction", direction)];
            ConstCounter::new(bounds.struck(limit)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn what_has_struck_is_shown_and_the_rest_is_zero() {
        let (inbound, outbound) = (Bounds::default(), Bounds::default());
        inbound.strike(Limit::DetectTime);
        inbound.strike(Limit::DetectTime);
        let directions = vec![("inbound", inbound), ("outbound", outbound)];
        let strikes = Strikes::new(Program::Sidecar, directions);
        let mut registry = Registry::default();
        let proxy = registry.sub_registry_with_prefix("mesh_proxy");
        proxy.register_collector(Box::new(strikes));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"mesh_proxy_limits_total{limit="detect_time",direction="inbound"} 2"#,
            r#"mesh_proxy_limits_total{limit="detect_time",direction="outbound"} 0"#,
            r#"mesh_proxy_limits_total{limit="header_bytes",direction="inbound"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let lines = text.lines().filter(|line| line.contains("_total{"));
        assert_eq!(lines.count(), 2 * Limit::of(Program::Sidecar).count());
        assert!(!text.contains("tunnels"), "{text}");
    }

    #[test]
    fn a_flood_of_strikes_is_one_line() {
        let bounds = Bounds::default();
        let strikes = Strikes::new(Program::Sidecar, vec![("inbound", bounds.clone())]);
        let mut known = strikes.counts();
        for _ in 0..10_000 {
            bounds.strike(Limit::HandshakeTime);
            bounds
                .servers()
                .struck
                .count(super::super::Bound::ServerIdleTime);
        }
        let line = News {
            limit: Limit::HandshakeTime,
            direction: "inbound",
            times: 10_000,
        };
        assert_eq!(strikes.news(&mut known), [line]);
        assert_eq!(strikes.news(&mut known), []);
    }
}
