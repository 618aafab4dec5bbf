//! Which addresses everything in the lab has, over IPv4 and IPv6.
//!
//! On the WAN the two read alike: what is 10.99.2.100 is also fd99:0:2::100.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Result;
use clap::ValueEnum;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// All pods of a cluster; the same in every cluster.
    pub(crate) const fn pods(self) -> &'static str {
        match self {
            Self::V4 => "10.42.0.0/16",
            Self::V6 => "fd42::/56",
        }
    }

    /// The pods of the `n`th node, from 1.
    pub(crate) fn pods_of_node(self, n: u8) -> String {
        let index = n - 1;
        match self {
            Self::V4 => format!("10.42.{index}.0/24"),
            Self::V6 => format!("fd42:0:0:{index:x}::/64"),
        }
    }

    /// All Services of a cluster; the same in every cluster.
    pub(crate) const fn services(self) -> &'static str {
        match self {
            Self::V4 => "10.96.0.0/16",
            Self::V6 => "fd96::/112",
        }
    }

    /// The `n`th address of a Service.
    pub(crate) fn service(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 96, 0, n).into(),
            Self::V6 => Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, n.into()).into(),
        }
    }

    /// Everything in the lab, as the machine routes it.
    pub(crate) const fn lab(self) -> &'static str {
        match self {
            Self::V4 => "10.99.0.0/16",
            Self::V6 => "fd99::/32",
        }
    }

    /// Every address.
    pub(crate) const fn everything(self) -> &'static str {
        match self {
            Self::V4 => "0.0.0.0/0",
            Self::V6 => "::/0",
        }
    }

    /// Where the programs of one node speak to each other.
    pub(crate) const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

/// The versions of IP that a cluster speaks; the first is that of what has one
/// address only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IpFamilies {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv4 first, and IPv6.
    Dual,
    /// IPv6 alone.
    V6,
}

impl IpFamilies {
    /// Each, the first one first.
    #[must_use]
    pub const fn all(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::Dual => &[Family::V4, Family::V6],
            Self::V6 => &[Family::V6],
        }
    }

    /// The first.
    #[must_use]
    pub const fn primary(self) -> Family {
        match self {
            Self::V4 | Self::Dual => Family::V4,
            Self::V6 => Family::V6,
        }
    }

    /// `f` of each, as programs take lists.
    pub(crate) fn list<T: ToString>(self, f: impl Fn(Family) -> T) -> String {
        let each = self.all().iter().map(|family| f(*family).to_string());
        each.collect::<Vec<_>>().join(",")
    }

    /// Those of the cluster of this folder: a later run asks for them.
    pub(crate) fn kept(folder: &Path) -> Self {
        let name = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        <Self as ValueEnum>::from_str(&name, false).unwrap_or_default()
    }

    /// Keeps them for [`kept`](Self::kept).
    pub(crate) fn keep(self, folder: &Path) -> Result<()> {
        let name = match self {
            Self::V4 => "v4",
            Self::Dual => "dual",
            Self::V6 => "v6",
        };
        fs::create_dir_all(folder)?;
        Ok(fs::write(folder.join(FILE), name)?)
    }
}

/// In a cluster's folder.
const FILE: &str = "ip-families";

/// The place of one cluster in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(u8);

impl Site {
    /// Where the machine itself is.
    pub(crate) const MACHINE: Self = Self(0);

    /// The `index`th cluster, from 1.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }

    /// The address of the `n`th node, from 1.
    #[must_use]
    pub fn node(self, family: Family, n: u8) -> IpAddr {
        self.address(family, 9 + n)
    }

    /// The `n`th address for Services of type LoadBalancer.
    #[must_use]
    pub fn load_balancer(self, family: Family, n: u8) -> IpAddr {
        self.address(family, 100 + n)
    }

    /// The cluster's interface in the WAN.
    #[must_use]
    pub fn bridge(self) -> String {
        format!("br{}", self.0)
    }

    /// The WAN's end of a node's link.
    pub(crate) fn port(self, node: u8) -> String {
        format!("port{}n{node}", self.0)
    }

    pub(crate) fn router(self, family: Family) -> IpAddr {
        self.address(family, 1)
    }

    /// The machine's own end of its link.
    pub(crate) fn machine(family: Family) -> IpAddr {
        Self::MACHINE.address(family, 2)
    }

    fn address(self, family: Family, last: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 99, self.0, last).into(),
            Family::V6 => {
                let (site, last) = (same_digits(self.0), same_digits(last));
                Ipv6Addr::new(0xfd99, 0, site, 0, 0, 0, 0, last).into()
            }
        }
    }
}

/// The number that is written in base 16 as this one is in base 10.
fn same_digits(n: u8) -> u16 {
    let n = u16::from(n);
    ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10)
}

/// An address of the WAN with its network, as `ip address` takes it.
pub(crate) fn on_link(address: IpAddr) -> String {
    match Family::of(address) {
        Family::V4 => format!("{address}/24"),
        Family::V6 => format!("{address}/64 nodad"),
    }
}

/// An address that is answered for and not spoken from, as `ip address` takes it.
pub(crate) fn alone(address: IpAddr) -> String {
    match Family::of(address) {
        Family::V4 => format!("{address}/32"),
        // IPv6 prefers the address most like the other end's, unless it is deprecated.
        Family::V6 => format!("{address}/128 nodad preferred_lft 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_wan_read_alike() {
        let both = |of: &dyn Fn(Family) -> IpAddr| IpFamilies::Dual.list(of);
        let site = Site::new(12);
        assert_eq!(both(&|f| site.router(f)), "10.99.12.1,fd99:0:12::1");
        assert_eq!(both(&|f| site.node(f, 1)), "10.99.12.10,fd99:0:12::10");
        assert_eq!(both(&|f| site.node(f, 8)), "10.99.12.17,fd99:0:12::17");
        let last = both(&|f| site.load_balancer(f, 99));
        assert_eq!(last, "10.99.12.199,fd99:0:12::199");
        assert_eq!(both(&Site::machine), "10.99.0.2,fd99::2");
        assert_eq!(both(&|f| f.service(10)), "10.96.0.10,fd96::a");
    }

    #[test]
    fn pods_of_nodes_are_within_those_of_the_cluster() {
        let networks = |n| IpFamilies::Dual.list(|family| family.pods_of_node(n));
        assert_eq!(networks(1), "10.42.0.0/24,fd42:0:0:0::/64");
        assert_eq!(networks(8), "10.42.7.0/24,fd42:0:0:7::/64");
    }

    #[test]
    fn a_later_run_finds_the_families_of_a_cluster() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(IpFamilies::kept(folder.path()), IpFamilies::V4);
        for families in IpFamilies::value_variants() {
            families.keep(folder.path()).unwrap();
            assert_eq!(IpFamilies::kept(folder.path()), *families);
        }
    }
}
