//! What a Service that asks to be exported is told: its condition
//! `mesh.dev/Exported`. One that does not ask has none.

use std::fmt::Display;

use super::members::{Members, members};
use crate::snapshot::{Export, Name, Service, Snapshot};

/// Names that a message holds; of more it gives the number.
const NAMED: usize = 5;

/// The content of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whether any of its pods may be shared.
    pub(crate) exported: bool,
    pub(crate) reason: String,
    /// For a person.
    pub(crate) message: String,
}

/// The condition that `service` should have.
pub(crate) fn condition(snapshot: &Snapshot, name: &Name, service: &Service) -> Option<Said> {
    match &service.export {
        Export::No => None,
        Export::Impossible(why) => Some(said(false, "NotExportable", format!("It {why}."))),
        Export::All | Export::To(_) => Some(of_members(&members(snapshot, name, service))),
    }
}

fn of_members(members: &Members<'_>) -> Said {
    let mut left_out = Vec::new();
    if !members.unmeshed.is_empty() {
        let names = some(&members.unmeshed);
        left_out.push(format!(
            "These pods have no sidecar that takes its ports, and are left out: {names}."
        ));
    }
    if !members.not_pods.is_empty() {
        let addresses = some(&members.not_pods);
        left_out.push(format!(
            "These addresses are no pods that may be shared, and are left out: {addresses}."
        ));
    }
    let anybody = !members.shared.is_empty();
    if left_out.is_empty() {
        let message = "Its pods are shared with linked clusters.".to_owned();
        return said(true, "Exported", message);
    }
    let reason = match (anybody, members.unmeshed.is_empty()) {
        (_, false) => "UnmeshedPods",
        (true, true) => "Exported",
        (false, true) => "NotExportable",
    };
    said(anybody, reason, left_out.join(" "))
}

fn said(exported: bool, reason: &str, message: String) -> Said {
    Said {
        exported,
        reason: reason.to_owned(),
        message,
    }
}

fn some<T: Display>(all: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> String {
    let mut all = all.into_iter();
    let count = all.len();
    let names: Vec<_> = all
        .by_ref()
        .take(NAMED)
        .map(|item| item.to_string())
        .collect();
    let names = names.join(", ");
    match count.saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::snapshot;

    fn of(snapshot: &Snapshot, service: &str) -> Option<(bool, String, String)> {
        let name = ("shop".to_owned(), service.to_owned());
        let said = condition(snapshot, &name, &snapshot.services[&name])?;
        Some((said.exported, said.reason, said.message))
    }

    #[test]
    fn a_service_that_does_not_ask_is_told_nothing() {
        assert_eq!(of(&snapshot(), "vault"), None);
        assert_eq!(of(&snapshot(), "web-north"), None);
    }

    #[test]
    fn one_whose_pods_are_all_meshed_is_exported() {
        let (exported, reason, _) = of(&snapshot(), "web").unwrap();
        assert_eq!((exported, &*reason), (true, "Exported"));
    }

    #[test]
    fn pods_without_a_sidecar_are_named_up_to_a_number() {
        let mut snapshot = snapshot();
        let web = ("shop".to_owned(), "web".to_owned());
        let mut pod = snapshot.pods[&("shop".to_owned(), "web-1".to_owned())].clone();
        pod.meshed = false;
        for n in 1..8 {
            let ip = format!("10.42.1.{n}").parse().unwrap();
            pod.ips = vec![ip];
            let name = format!("plain-{n}");
            snapshot
                .pods
                .insert(("shop".to_owned(), name.clone()), pod.clone());
            let slice = &mut snapshot.endpoints.get_mut(&web).unwrap()[0];
            let mut member = slice.members[0].clone();
            member.ip = ip;
            member.pod = Some(name);
            slice.members.push(member);
        }
        let (exported, reason, message) = of(&snapshot, "web").unwrap();
        assert_eq!((exported, &*reason), (true, "UnmeshedPods"));
        assert!(
            message.ends_with("plain-4, plain-5 and 2 more."),
            "{message}"
        );
    }

    #[test]
    fn g4_a_service_of_addresses_that_nobody_may_reach_is_told_so() {
        let mut snapshot = snapshot();
        snapshot.reserved.insert("10.42.0.7".parse().unwrap());
        let (exported, reason, message) = of(&snapshot, "web").unwrap();
        assert_eq!((exported, &*reason), (false, "NotExportable"));
        assert!(message.contains("10.42.0.7"), "{message}");
    }

    #[test]
    fn what_cannot_be_exported_says_why() {
        let mut snapshot = snapshot();
        let web = ("shop".to_owned(), "web".to_owned());
        snapshot.services.get_mut(&web).unwrap().export = Export::Impossible("is headless");
        let (exported, reason, message) = of(&snapshot, "web").unwrap();
        assert_eq!(
            (exported, &*reason, &*message),
            (false, "NotExportable", "It is headless.")
        );
    }
}
