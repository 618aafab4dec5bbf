//! `lib/core`: names that come from peers, in certificates, feeds and headers. One
//! spelling for each, which is read as what was written.

use std::{fmt, str::FromStr};

use mesh_core::{
    authorization::IdentityPattern,
    cluster::ClusterName,
    endpoint::{EndpointId, LinkPrefix},
    identity::{SpiffeId, TrustDomain},
};

/// One name.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    spelt_as_read::<TrustDomain>(text);
    spelt_as_read::<ClusterName>(text);
    spelt_as_read::<EndpointId>(text);
    read_again::<LinkPrefix>(text);
    read_again::<IdentityPattern>(text);
    if let Some(id) = spelt_as_read::<SpiffeId>(text) {
        identity(&id);
    }
}

/// What is taken is written as it was.
fn spelt_as_read<T: FromStr + fmt::Display>(text: &str) -> Option<T> {
    let name = text.parse::<T>().ok()?;
    assert_eq!(name.to_string(), text, "written in another way");
    Some(name)
}

/// What is taken is the same again when it was written.
fn read_again<T: FromStr + fmt::Display + fmt::Debug + PartialEq>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        let again = name.to_string().parse::<T>().ok();
        assert_eq!(again.as_ref(), Some(&name), "{text}");
    }
}

/// An identity is made of its parts, and is what its own pattern means.
fn identity(id: &SpiffeId) {
    let parts = [
        id.trust_domain().as_str(),
        id.namespace(),
        id.service_account(),
    ];
    let same = SpiffeId::new(id.trust_domain(), parts[1], parts[2]);
    assert_eq!(same.ok().as_ref(), Some(id));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    assert!(
        parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(legal)),
        "{id}"
    );
    assert!(IdentityPattern::from(id).matches(id), "{id}");
    let other: Option<TrustDomain> = format!("{}x", parts[0]).parse().ok();
    if let Some(other) = other {
        assert!(!IdentityPattern::all_of(other).matches(id), "{id}");
    }
}
