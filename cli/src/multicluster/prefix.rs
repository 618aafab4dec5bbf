//! Chooses the addresses that stand for a peer's endpoints.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use mesh_core::{cluster::ClusterName, endpoint::LinkPrefix};
use sha2::{Digest, Sha256};

/// fd6d:6573: unique local addresses (RFC 4193) with "mes" as their random part.
const BASE: u128 = 0xfd6d_6573 << 96;

/// A prefix for the link to `peer` that none of `taken` overlaps: always the
/// same for a name, unless that one is taken.
pub(super) fn allocate(peer: &ClusterName, taken: &[LinkPrefix]) -> LinkPrefix {
    let mut attempt = 0_u32;
    loop {
        let prefix = candidate(peer, attempt);
        if !taken.contains(&prefix) {
            return prefix;
        }
        // 2^32 candidates and a few taken: this ends soon.
        attempt = attempt.wrapping_add(1);
    }
}

fn candidate(peer: &ClusterName, attempt: u32) -> LinkPrefix {
    let mut hash = Sha256::new();
    hash.update(attempt.to_be_bytes());
    hash.update(peer.as_str());
    let digest = hash.finalize();
    let chosen = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let network = Ipv6Addr::from(BASE | u128::from(chosen) << 64);
    Ipv6Net::new_assert(network, 64)
        .try_into()
        .expect("a /64 within fd00::/8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ClusterName {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_keeps_its_prefix() {
        let prefix = allocate(&name("east"), &[]);
        assert_eq!(prefix, allocate(&name("east"), &[]));
        assert!(prefix.to_string().starts_with("fd6d:6573:"));
        assert_ne!(prefix, allocate(&name("north"), &[]));
    }

    #[test]
    fn a_prefix_that_is_taken_is_not_given_again() {
        let mut taken = Vec::new();
        for _ in 0..50 {
            let prefix = allocate(&name("east"), &taken);
            assert!(!taken.contains(&prefix));
            taken.push(prefix);
        }
    }
}
