//! What can be told of a link.

use std::{collections::BTreeMap, sync::Arc};

/// The state of one link, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// The link's name.
    pub link: Arc<str>,
    /// Whether traffic that could go elsewhere may use it.
    pub is_available: bool,
    /// Addresses of its gateway that are connected.
    pub live: u64,
    /// Addresses that are being dialled.
    pub dialling: u64,
    /// Addresses that could not be reached.
    pub resting: u64,
    /// Addresses that are not needed.
    pub idle: u64,
    /// Tunnels that were asked for.
    pub opened: u64,
    /// Tunnels for which there was no connection, by reason.
    pub failed: BTreeMap<&'static str, u64>,
}

impl LinkReport {
    /// With what is known of another gateway of the same link; the newer one
    /// says whether the link is available.
    pub(super) fn merge(&mut self, older: Self) {
        self.live += older.live;
        self.dialling += older.dialling;
        self.resting += older.resting;
        self.idle += older.idle;
        self.opened += older.opened;
        for (reason, count) in older.failed {
            *self.failed.entry(reason).or_default() += count;
        }
    }
}
