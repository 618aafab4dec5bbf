//! What the user reads before two clusters are linked.

use std::fmt::Write;

use kube::ResourceExt;
use mesh_api::link::Direction;

use super::{
    dns::DnsChange,
    plan::{Change, Plan, Side},
};
use crate::text::{escaped, escaped_lines};

/// What `plan` will do.
pub(super) fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    for side in [&plan.local, &plan.remote] {
        // Writing to a String cannot fail.
        let _ = write_side(&mut out, side);
    }
    out
}

/// What will be done in one cluster.
pub(super) fn side(side: &Side) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_side(&mut out, side);
    out
}

fn write_side(out: &mut String, side: &Side) -> std::fmt::Result {
    let spec = &side.link.spec;
    writeln!(
        out,
        "In {}: Link {}, {}",
        escaped(&side.context),
        escaped(&side.link.name_any()),
        match side.change {
            Change::Create => "new",
            Change::Update => "changed",
            Change::None => "unchanged",
        }
    )?;
    writeln!(out, "  direction     {}", direction(spec.direction))?;
    writeln!(out, "  trust domain  {}", escaped(&spec.trust_domain))?;
    for fingerprint in &side.fingerprints {
        writeln!(out, "  root SHA-256  {fingerprint}")?;
    }
    let addresses: Vec<String> = spec.gateway.addresses.iter().map(|a| escaped(a)).collect();
    match addresses[..] {
        [] => writeln!(out, "  gateway       none")?,
        _ => writeln!(
            out,
            "  gateway       {} port {}",
            addresses.join(", "),
            spec.gateway.port
        )?,
    }
    writeln!(out, "  prefix        {}", spec.prefix)
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Both => "both: uses what the peer exports, and the other way round",
        Direction::Import => "import: uses what the peer exports",
        Direction::Export => "export: the peer uses what is exported here",
        Direction::TrustOnly => "trust only: the peer's identities can be named in policies",
    }
}

/// What happened to a Link.
pub(super) fn link_done(side: &Side) -> String {
    format!(
        "{}: Link {} {}\n",
        escaped(&side.context),
        escaped(&side.link.name_any()),
        match side.change {
            Change::Create => "created",
            Change::Update => "updated",
            Change::None => "unchanged",
        }
    )
}

/// What happened to the names of the cluster `peer` in `context`.
pub(super) fn dns_done(context: &str, peer: &str, change: &DnsChange) -> String {
    let context = escaped(context);
    match change {
        DnsChange::Unchanged => format!("{context}: DNS unchanged\n"),
        DnsChange::Write(_) => {
            format!(
                "{context}: DNS rule for *.{peer} updated (ConfigMap kube-system/coredns-custom)\n"
            )
        }
        DnsChange::ByHand { reason, rule } => format!(
            "{context}: the Service is called web-{peer}; for web.{peer} to work too, add this to \
             CoreDNS by hand, as {reason}:\n\n{}\n",
            escaped_lines(rule)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multicluster::plan::tests::facts;

    #[test]
    fn the_user_sees_both_roots_and_what_changes() {
        let planned =
            crate::multicluster::plan::plan(&facts("west"), &facts("east"), Direction::Import);
        let text = plan(&planned.unwrap());
        let prefix = text.lines().find(|line| line.contains("prefix")).unwrap();
        let expected = "\
In ctx-west: Link east, new
  direction     import: uses what the peer exports
  trust domain  east
  root SHA-256  AB:east
  gateway       192.0.2.1 port 4143
";
        assert_eq!(text.split(prefix).next(), Some(expected));
        assert!(text.contains("In ctx-east: Link west, new\n"));
        assert!(text.contains("root SHA-256  AB:west\n"));
    }

    #[test]
    fn a_rule_to_add_by_hand_is_printed_whole() {
        let change = DnsChange::ByHand {
            reason: "it rains",
            rule: "# x\nrewrite y\n".into(),
        };
        let text = dns_done("west", "east", &change);
        assert!(
            text.ends_with("as it rains:\n\n# x\nrewrite y\n\n"),
            "{text}"
        );
    }
}
