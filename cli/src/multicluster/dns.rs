//! The rule that makes `web.east` mean the Service `web-east`.
//!
//! It lives in a file of our own that CoreDNS includes, where the cluster's
//! Corefile includes such files. A Corefile is never edited: it is not ours.

use std::collections::BTreeSet;

use mesh_core::cluster::ClusterName;

/// ConfigMap, in [`NAMESPACE`], with what the Corefile includes.
pub(crate) const OVERRIDES_CONFIG_MAP: &str = "coredns-custom";
/// Our key in it.
pub(crate) const OVERRIDES_KEY: &str = "mesh.override";
/// ConfigMap, in [`NAMESPACE`], with the Corefile.
pub(crate) const COREFILE_CONFIG_MAP: &str = "coredns";
/// Where both are.
pub(crate) const NAMESPACE: &str = "kube-system";

/// What is known of a cluster's DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DnsFacts {
    /// The Corefile, if the cluster has CoreDNS and lets us see it.
    pub(crate) corefile: Option<String>,
    /// What [`OVERRIDES_KEY`] holds.
    pub(crate) overrides: Option<String>,
}

/// What to do about a cluster's DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsChange {
    /// Nothing.
    Unchanged,
    /// [`OVERRIDES_KEY`] gets this text; `None` takes the key away.
    Write(Option<String>),
    /// We cannot; the user adds this rule.
    ByHand {
        /// Why we cannot.
        reason: &'static str,
        /// The rule.
        rule: String,
    },
}

/// Whether names of a linked cluster work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleState {
    /// They do.
    Present,
    /// CoreDNS would take the rule, and has none.
    Missing,
    /// CoreDNS has none, and includes no files of others.
    NotImported,
    /// CoreDNS could not be seen.
    Unseen,
}

impl DnsFacts {
    /// Whether names of `peer` work: by our file, or by a Corefile that its
    /// owner has given the rule.
    pub(crate) fn rule_of(&self, peer: &ClusterName) -> RuleState {
        let Some(corefile) = &self.corefile else {
            return RuleState::Unseen;
        };
        let wanted = rule(peer, cluster_domain(corefile));
        let holds = |text: &str| {
            let mut lines = wanted.lines().filter(|line| !line.starts_with('#'));
            lines.all(|wanted| text.lines().any(|line| line.trim() == wanted))
        };
        let included = includes_overrides(corefile);
        if holds(corefile) || (included && self.overrides.as_deref().is_some_and(holds)) {
            RuleState::Present
        } else if included {
            RuleState::Missing
        } else {
            RuleState::NotImported
        }
    }

    /// What makes names of `peer` work.
    pub(crate) fn with(&self, peer: &ClusterName) -> DnsChange {
        self.with_all(std::slice::from_ref(peer))
    }

    /// The rules for `wanted`, as this cluster's CoreDNS needs them.
    pub(crate) fn rules(&self, wanted: &[ClusterName]) -> String {
        let domain = self
            .corefile
            .as_deref()
            .map_or(DEFAULT_DOMAIN, cluster_domain);
        wanted.iter().map(|peer| rule(peer, domain)).collect()
    }

    /// What makes names of all of `wanted` work.
    pub(crate) fn with_all(&self, wanted: &[ClusterName]) -> DnsChange {
        let mut peers = self.peers();
        peers.extend(wanted.iter().cloned());
        let Some(corefile) = &self.corefile else {
            return DnsChange::ByHand {
                reason: "no CoreDNS could be seen in kube-system",
                rule: self.rules(wanted),
            };
        };
        if !includes_overrides(corefile) {
            return DnsChange::ByHand {
                reason: "the Corefile includes no files of others (import .../custom/*.override)",
                rule: self.rules(wanted),
            };
        }
        self.write(&peers, cluster_domain(corefile))
    }

    /// What makes names of `peer` work no more.
    pub(crate) fn without(&self, peer: &ClusterName) -> DnsChange {
        let mut peers = self.peers();
        if !peers.remove(peer) {
            return DnsChange::Unchanged;
        }
        let domain = self
            .corefile
            .as_deref()
            .map_or(DEFAULT_DOMAIN, cluster_domain);
        self.write(&peers, domain)
    }

    fn write(&self, peers: &BTreeSet<ClusterName>, domain: &str) -> DnsChange {
        let text: String = peers.iter().map(|peer| rule(peer, domain)).collect();
        let text = Some(text).filter(|text| !text.is_empty());
        if text == self.overrides {
            DnsChange::Unchanged
        } else {
            DnsChange::Write(text)
        }
    }

    /// The clusters whose rules are there.
    fn peers(&self) -> BTreeSet<ClusterName> {
        self.overrides
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.strip_prefix(HEAD)?.parse().ok())
            .collect()
    }
}

const DEFAULT_DOMAIN: &str = "cluster.local";
/// The comment above the rules of one cluster; its name follows.
const HEAD: &str = "# mesh link ";

/// The rules for one cluster, with a comment that names it.
///
/// `web.east` is asked, by a pod in `shop`, as `web.east.shop.svc.cluster.local`.
pub(crate) fn rule(peer: &ClusterName, domain: &str) -> String {
    let dotted = domain.replace('.', r"\.");
    let to = format!("{{1}}-{peer}.{{2}}.svc.{domain}.");
    let label = "([a-z0-9-]+)";
    format!(
        "{HEAD}{peer}\n\
         rewrite stop name regex ^{label}\\.{peer}\\.{label}\\.svc\\.{dotted}\\.$ {to} answer auto\n\
         rewrite stop name regex ^{label}\\.{label}\\.svc\\.{peer}\\.$ {to} answer auto\n"
    )
}

fn includes_overrides(corefile: &str) -> bool {
    statements(corefile).any(
        |words| matches!(words[..], ["import", path, ..] if path.ends_with("/custom/*.override")),
    )
}

/// The domain of Services: the first zone of the `kubernetes` plugin.
fn cluster_domain(corefile: &str) -> &str {
    statements(corefile)
        .find_map(|words| match words[..] {
            ["kubernetes", zone, ..] if zone != "{" => Some(zone.trim_end_matches('.')),
            _ => None,
        })
        .unwrap_or(DEFAULT_DOMAIN)
}

fn statements(corefile: &str) -> impl Iterator<Item = Vec<&str>> {
    corefile
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| line.split_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COREFILE: &str = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa {\n    }\n    \
                            import /etc/coredns/custom/*.override\n}\n";

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    fn facts(overrides: Option<&str>) -> DnsFacts {
        DnsFacts {
            corefile: Some(COREFILE.into()),
            overrides: overrides.map(Into::into),
        }
    }

    const EAST: &str = r"# mesh link east
rewrite stop name regex ^([a-z0-9-]+)\.east\.([a-z0-9-]+)\.svc\.cluster\.local\.$ {1}-east.{2}.svc.cluster.local. answer auto
rewrite stop name regex ^([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.east\.$ {1}-east.{2}.svc.cluster.local. answer auto
";

    #[test]
    fn the_rule_is_written_once() {
        assert_eq!(
            facts(None).with(&name("east")),
            DnsChange::Write(Some(EAST.into()))
        );
        assert_eq!(facts(Some(EAST)).with(&name("east")), DnsChange::Unchanged);
    }

    #[test]
    fn rules_of_several_clusters_share_the_file_in_order() {
        let DnsChange::Write(Some(both)) = facts(Some(EAST)).with(&name("a")) else {
            panic!("not written");
        };
        let heads: Vec<_> = both.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(heads, ["# mesh link a", "# mesh link east"]);
        assert_eq!(
            facts(Some(&both)).without(&name("a")),
            DnsChange::Write(Some(EAST.into()))
        );
    }

    #[test]
    fn unlinking_takes_the_last_rule_away_and_no_other() {
        assert_eq!(
            facts(Some(EAST)).without(&name("east")),
            DnsChange::Write(None)
        );
        assert_eq!(
            facts(Some(EAST)).without(&name("west")),
            DnsChange::Unchanged
        );
        assert_eq!(facts(None).without(&name("east")), DnsChange::Unchanged);
    }

    #[test]
    fn a_corefile_that_includes_nothing_is_left_to_its_owner() {
        for corefile in [
            ".:53 {\n  kubernetes corp.example {\n}\n}",
            "# import /a/custom/*.override",
        ] {
            let facts = DnsFacts {
                corefile: Some(corefile.into()),
                overrides: None,
            };
            assert!(matches!(
                facts.with(&name("east")),
                DnsChange::ByHand { .. }
            ));
        }
        assert!(matches!(
            DnsFacts::default().with(&name("east")),
            DnsChange::ByHand { .. }
        ));
    }

    #[test]
    fn a_rule_counts_where_coredns_reads_it() {
        let east = name("east");
        assert_eq!(facts(Some(EAST)).rule_of(&east), RuleState::Present);
        assert_eq!(facts(None).rule_of(&east), RuleState::Missing);
        assert_eq!(facts(Some(EAST)).rule_of(&name("west")), RuleState::Missing);
        let mut unread = facts(Some(EAST));
        unread.corefile = Some("kubernetes cluster.local {\n}".into());
        assert_eq!(unread.rule_of(&east), RuleState::NotImported);
        let by_hand = format!("kubernetes cluster.local {{\n}}\n{EAST}");
        unread.corefile = Some(by_hand);
        assert_eq!(unread.rule_of(&east), RuleState::Present);
        assert_eq!(DnsFacts::default().rule_of(&east), RuleState::Unseen);
    }

    #[test]
    fn the_rule_follows_the_clusters_domain() {
        assert_eq!(
            cluster_domain("kubernetes corp.example. in-addr.arpa {"),
            "corp.example"
        );
        assert_eq!(cluster_domain("kubernetes {"), "cluster.local");
        assert!(rule(&name("east"), "corp.example").contains(r"\.svc\.corp\.example\.$ {1}-east"));
    }
}
