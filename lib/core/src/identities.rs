//! Who may answer for an endpoint.

use std::{fmt, sync::Arc};

use crate::identity::SpiffeId;

/// One identity, or several of which any will do: behind the id of a whole
/// export may be any of its pods. Never empty, sorted, without repetitions.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identities(Arc<[SpiffeId]>);

impl Identities {
    /// Any of `ids`; none if there is none.
    #[must_use]
    pub fn any_of(ids: impl IntoIterator<Item = SpiffeId>) -> Option<Self> {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort();
        ids.dedup();
        (!ids.is_empty()).then(|| Self(ids.into()))
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[SpiffeId] {
        &self.0
    }
}

impl From<SpiffeId> for Identities {
    fn from(id: SpiffeId) -> Self {
        Self([id].into())
    }
}

impl fmt::Display for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [only] => only.fmt(f),
            [first, others @ ..] => write!(f, "{first} or {} others", others.len()),
            [] => Ok(()),
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(account: &str) -> SpiffeId {
        let text = format!("spiffe://east/ns/shop/sa/{account}");
        text.parse().unwrap()
    }

    #[test]
    fn the_same_ids_in_any_order_are_the_same() {
        let some = Identities::any_of([id("web"), id("api"), id("web")]).unwrap();
        assert_eq!(
            Some(&some),
            Identities::any_of([id("api"), id("web")]).as_ref()
        );
        assert_eq!(some.as_slice(), [id("api"), id("web")]);
        assert_eq!(Identities::any_of([id("web")]), Some(id("web").into()));
        assert_eq!(Identities::any_of([]), None, "nobody may answer");
    }

    #[test]
    fn a_log_names_the_first_and_counts_the_others() {
        let one: Identities = id("web").into();
        assert_eq!(one.to_string(), "spiffe://east/ns/shop/sa/web");
        let some = Identities::any_of([id("a"), id("b"), id("c")]).unwrap();
        assert_eq!(some.to_string(), "spiffe://east/ns/shop/sa/a or 2 others");
    }
}
