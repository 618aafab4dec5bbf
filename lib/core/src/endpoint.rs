//! How the endpoints of a linked cluster are named and addressed.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use ipnet::Ipv6Net;

/// The opaque id of an exported endpoint: a MAC, made by the exporting
/// cluster, over the importing peer, the Service and the pod. An export as a
/// whole has one too, made of a constant in the pod's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u64);

impl FromStr for EndpointId {
    type Err = InvalidEndpointId;

    fn from_str(text: &str) -> Result<Self, InvalidEndpointId> {
        let exact =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !exact {
            return Err(InvalidEndpointId);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| InvalidEndpointId)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 16 hexadecimal digits in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint id is 16 hexadecimal digits in lower case")]
pub struct InvalidEndpointId;

/// The /64 whose addresses stand, in the importing cluster, for the endpoints
/// behind one link. Such an address is valid only from discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkPrefix(Ipv6Net);

impl LinkPrefix {
    /// The address that stands for `id`.
    #[must_use]
    pub fn address(self, id: EndpointId) -> Ipv6Addr {
        let prefix = u128::from(self.0.network());
        Ipv6Addr::from(prefix | u128::from(id.0))
    }

    /// The endpoint that `address` stands for, if it is one of this prefix's.
    #[must_use]
    pub fn endpoint(self, address: Ipv6Addr) -> Option<EndpointId> {
        let low = u128::from(address) & u128::from(u64::MAX);
        self.0
            .contains(&address)
            .then(|| EndpointId(u64::try_from(low).unwrap_or_default()))
    }

    /// The prefix as a network.
    #[must_use]
    pub const fn network(self) -> Ipv6Net {
        self.0
    }
}

impl TryFrom<Ipv6Net> for LinkPrefix {
    type Error = InvalidLinkPrefix;

    fn try_from(network: Ipv6Net) -> Result<Self, InvalidLinkPrefix> {
        let unique_local = network.network().segments()[0] & 0xfe00 == 0xfc00;
        if network.prefix_len() == 64 && unique_local {
            Ok(Self(network.trunc()))
        } else {
            Err(InvalidLinkPrefix)
        }
    }
}

impl FromStr for LinkPrefix {
    type Err = InvalidLinkPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidLinkPrefix> {
        text.parse::<Ipv6Net>()
            .map_err(|_| InvalidLinkPrefix)?
            .try_into()
    }
}

impl fmt::Display for LinkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The network is not a /64 of unique local addresses (RFC 4193).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link's prefix is a /64 within fc00::/7")]
pub struct InvalidLinkPrefix;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_address() {
        let prefix: LinkPrefix = "fd6d:6573:6801:2::/64".parse().unwrap();
        let id = EndpointId(0x0123_4567_89ab_cdef);
        let address = prefix.address(id);
        assert_eq!(address.to_string(), "fd6d:6573:6801:2:123:4567:89ab:cdef");
        assert_eq!(prefix.endpoint(address), Some(id));
    }

    #[test]
    fn an_address_of_another_prefix_is_no_endpoint() {
        let prefix: LinkPrefix = "fd6d:6573:6801:2::/64".parse().unwrap();
        assert_eq!(
            prefix.endpoint("fd6d:6573:6801:3::1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn prefixes_are_unique_local_and_64_bits() {
        for bad in ["2001:db8::/64", "fd00::/63", "fd00::/65", "10.0.0.0/8", ""] {
            assert!(bad.parse::<LinkPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn g2_an_endpoint_id_has_one_spelling() {
        assert_eq!(
            "00000000000000ff".parse::<EndpointId>(),
            Ok(EndpointId(255))
        );
        for bad in [
            "ff",
            "00000000000000FF",
            "+0000000000000ff",
            "00000000000000ff0",
        ] {
            assert!(bad.parse::<EndpointId>().is_err(), "{bad}");
        }
    }
}
