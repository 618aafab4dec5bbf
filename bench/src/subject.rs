//! Who is measured.

use std::fmt;

/// A pair of proxies, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Subject {
    /// No proxy: what client and back end cost by themselves.
    Direct,
    /// This repository's sidecar.
    Mesh,
    Haproxy,
    Envoy,
    Nginx,
}

impl Subject {
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Mesh,
        Self::Haproxy,
        Self::Envoy,
        Self::Nginx,
    ];

    /// Its name in results.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mesh => "mesh",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
