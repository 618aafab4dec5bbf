//! What a linked cluster exports, as its feed says it.
//!
//! The peer is another owner's cluster: nothing it says is taken for valid.
//! What is wrong with one Service never touches another.

use std::{collections::BTreeSet, fmt};

use mesh_api::names;
use mesh_core::identity::{is_dns_label, is_dns_subdomain};
use mesh_proto::v1;

use crate::introduction::Introduction;

/// Everything that a peer exports to us, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The uid of the cluster that says it.
    pub(crate) cluster_uid: String,
    /// Its exported Services, in its order.
    pub(crate) services: Vec<Export>,
    /// How many more there are that are not looked at.
    pub(crate) left_out: usize,
    /// What it says of itself.
    pub(crate) introduction: Introduction,
}

impl From<v1::ExportedServices> for Snapshot {
    fn from(message: v1::ExportedServices) -> Self {
        Self {
            cluster_uid: message.cluster_uid,
            left_out: message.services.len().saturating_sub(MOST_SERVICES),
            services: message
                .services
                .into_iter()
                .take(MOST_SERVICES)
                .map(Export::from)
                .collect(),
            introduction: Introduction::new(message.bundle, message.gateway_hosts),
        }
    }
}

/// Far more than a link may have mirrors.
const MOST_SERVICES: usize = 20_000;

/// One exported Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Its namespace there and here. Unchecked.
    pub(crate) namespace: String,
    /// Its name there. Unchecked.
    pub(crate) name: String,
    /// What it offers, or why that cannot be offered here.
    pub(crate) offer: Result<Offer, InvalidOffer>,
}

impl From<v1::ExportedService> for Export {
    /// Takes name and ports, and the one annotation that says how to read
    /// bytes. Whatever else the peer sends is dropped here.
    fn from(message: v1::ExportedService) -> Self {
        let opaque_ports = message.annotations.get(names::OPAQUE_PORTS);
        Self {
            namespace: message.namespace,
            name: message.name,
            offer: Offer::new(&message.ports, opaque_ports.map(String::as_str)),
        }
    }
}

/// What a Service offers: always something that Kubernetes accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// At least one, in order of their numbers.
    pub(crate) ports: Vec<Port>,
    /// The value of the annotation [`names::OPAQUE_PORTS`].
    pub(crate) opaque_ports: Option<String>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// 1 to 65535.
    pub(crate) number: u16,
    /// A DNS label; may be missing when it is the only port.
    pub(crate) name: Option<String>,
    /// What it speaks, a name as Kubernetes allows it.
    pub(crate) app_protocol: Option<String>,
}

impl Offer {
    fn new(
        ports: &[v1::ExportedServicePort],
        opaque_ports: Option<&str>,
    ) -> Result<Self, InvalidOffer> {
        if ports.is_empty() || ports.len() > MAX_PORTS {
            return Err(InvalidOffer::PortCount(ports.len()));
        }
        let mut ports = ports
            .iter()
            .map(Port::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        check_unique(&ports)?;
        ports.sort();
        Ok(Self {
            ports,
            opaque_ports: opaque_ports.map(opaque_list).transpose()?,
        })
    }
}

impl TryFrom<&v1::ExportedServicePort> for Port {
    type Error = InvalidOffer;

    fn try_from(port: &v1::ExportedServicePort) -> Result<Self, InvalidOffer> {
        let number = match u16::try_from(port.port) {
            Ok(number) if number != 0 => number,
            _ => return Err(InvalidOffer::PortNumber(port.port)),
        };
        let name = non_empty(&port.name);
        if name.is_some_and(|name| !is_dns_label(name)) {
            return Err(InvalidOffer::PortName(number));
        }
        let app_protocol = non_empty(&port.app_protocol);
        if app_protocol.is_some_and(|name| !is_qualified_name(name)) {
            return Err(InvalidOffer::AppProtocol(number));
        }
        Ok(Self {
            number,
            name: name.map(Into::into),
            app_protocol: app_protocol.map(Into::into),
        })
    }
}

fn check_unique(ports: &[Port]) -> Result<(), InvalidOffer> {
    let mut numbers = BTreeSet::new();
    let mut names = BTreeSet::new();
    for port in ports {
        if !numbers.insert(port.number) {
            return Err(InvalidOffer::PortTwice(port.number));
        }
        if ports.len() > 1 && !port.name.as_ref().is_some_and(|name| names.insert(name)) {
            return Err(InvalidOffer::PortName(port.number));
        }
    }
    Ok(())
}

/// Why a Service's ports cannot be offered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidOffer {
    /// None, or too many.
    PortCount(usize),
    /// Not 1 to 65535.
    PortNumber(u32),
    /// No DNS label, missing among several, or used twice.
    PortName(u16),
    /// Two ports of one number.
    PortTwice(u16),
    /// Not a name that Kubernetes accepts.
    AppProtocol(u16),
    /// The annotation is no list of ports.
    OpaquePorts,
}

impl fmt::Display for InvalidOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortCount(0) => f.write_str("it has no TCP port"),
            Self::PortCount(count) => write!(f, "it has {count} ports, more than {MAX_PORTS}"),
            Self::PortNumber(port) => write!(f, "{port} is no port"),
            Self::PortName(port) => {
                write!(
                    f,
                    "the name of port {port} is no DNS label, missing or used twice"
                )
            }
            Self::PortTwice(port) => write!(f, "it has port {port} twice"),
            Self::AppProtocol(port) => write!(f, "the appProtocol of port {port} is no legal name"),
            Self::OpaquePorts => {
                write!(
                    f,
                    "its annotation {} is no list of ports",
                    names::OPAQUE_PORTS
                )
            }
        }
    }
}

/// Ports, ranges and names of ports, separated by commas.
fn opaque_list(text: &str) -> Result<String, InvalidOffer> {
    let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b',' | b' ');
    if text.len() <= MAX_OPAQUE_PORTS && text.bytes().all(legal) {
        Ok(text.into())
    } else {
        Err(InvalidOffer::OpaquePorts)
    }
}

/// A name, perhaps behind a DNS prefix and a slash, as Kubernetes has it for
/// label keys and `appProtocol`.
fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = name.as_bytes();
    prefix.is_none_or(is_dns_subdomain)
        && (1..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && name.bytes().all(inner)
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// More ports than any Service has; keeps one message from being all ports.
const MAX_PORTS: usize = 250;
/// Bytes.
const MAX_OPAQUE_PORTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u32, name: &str, app_protocol: &str) -> v1::ExportedServicePort {
        v1::ExportedServicePort {
            name: name.into(),
            port: number,
            app_protocol: app_protocol.into(),
        }
    }

    fn offer(ports: &[v1::ExportedServicePort]) -> Result<Offer, InvalidOffer> {
        Offer::new(ports, None)
    }

    #[test]
    fn ports_come_as_they_are_there_in_one_order() {
        let ports = offer(&[
            port(443, "https", ""),
            port(80, "http", "kubernetes.io/h2c"),
        ])
        .unwrap()
        .ports;
        assert_eq!(ports[0].number, 80);
        assert_eq!(ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
        assert_eq!(ports[1].name.as_deref(), Some("https"));
    }

    #[test]
    fn m5_ports_that_kubernetes_would_refuse_are_refused_here() {
        for (ports, reason) in [
            (vec![], InvalidOffer::PortCount(0)),
            (vec![port(0, "", "")], InvalidOffer::PortNumber(0)),
            (vec![port(65_536, "", "")], InvalidOffer::PortNumber(65_536)),
            (
                vec![port(80, "a", ""), port(80, "b", "")],
                InvalidOffer::PortTwice(80),
            ),
            (
                vec![port(80, "a", ""), port(81, "a", "")],
                InvalidOffer::PortName(81),
            ),
            (
                vec![port(80, "", ""), port(81, "b", "")],
                InvalidOffer::PortName(80),
            ),
            (vec![port(80, "Web", "")], InvalidOffer::PortName(80)),
            (vec![port(80, "web\n", "")], InvalidOffer::PortName(80)),
            (vec![port(80, "", "a b")], InvalidOffer::AppProtocol(80)),
            (vec![port(80, "", "a/b/c")], InvalidOffer::AppProtocol(80)),
            (vec![port(80, "", "-a")], InvalidOffer::AppProtocol(80)),
        ] {
            assert_eq!(offer(&ports), Err(reason), "{ports:?}");
        }
        let many: Vec<_> = (1..=251).map(|n| port(n, &format!("p{n}"), "")).collect();
        assert_eq!(offer(&many), Err(InvalidOffer::PortCount(251)));
    }

    #[test]
    fn m8_a_flood_of_services_is_cut_off_and_counted() {
        let services = vec![v1::ExportedService::default(); 100_000];
        let message = v1::ExportedServices {
            services,
            ..v1::ExportedServices::default()
        };
        let snapshot = Snapshot::from(message);
        assert_eq!(snapshot.services.len(), 20_000);
        assert_eq!(snapshot.left_out, 80_000);
    }

    #[test]
    fn m4_of_all_annotations_and_labels_only_opaque_ports_is_taken() {
        let foreign = [
            (names::OPAQUE_PORTS, "25,4000-4100"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
            (names::EXPORTED, "true"),
        ];
        let map = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let export = Export::from(v1::ExportedService {
            namespace: "shop".into(),
            name: "web".into(),
            ports: vec![port(80, "", "")],
            labels: foreign.into_iter().map(map).collect(),
            annotations: foreign.into_iter().map(map).collect(),
            ready_endpoints: 3,
        });
        let expected = Offer {
            ports: vec![Port {
                number: 80,
                name: None,
                app_protocol: None,
            }],
            opaque_ports: Some("25,4000-4100".into()),
        };
        assert_eq!(export.offer, Ok(expected));
    }

    #[test]
    fn m4_an_annotation_that_is_no_port_list_is_refused() {
        for bad in ["80\n", "{}", &"1,".repeat(600)] {
            let offer = Offer::new(&[port(80, "", "")], Some(bad));
            assert_eq!(offer, Err(InvalidOffer::OpaquePorts), "{bad:?}");
        }
    }
}
