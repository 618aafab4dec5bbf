//! Host names to addresses, without the C library.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::{ResolverBuilder, TokioResolver, net::runtime::TokioRuntimeProvider};
use tokio::time::timeout;

/// How long one look-up may take, search domains and retries included.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many names' last good answers are kept.
const REMEMBERED: usize = 1024;

/// When a name that could not be resolved is worth another look-up.
const SHORTLY: Duration = Duration::from_secs(2);
/// How long an address stays itself.
const LONG: Duration = Duration::from_secs(3600);

/// Looks names up as `/etc/resolv.conf` says. Answers are kept as long as
/// their TTL allows; when a look-up fails, the last good answer is used.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<TokioResolver>,
    last_good: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
}

impl Resolver {
    /// Reads `/etc/resolv.conf`.
    ///
    /// # Errors
    /// If that file cannot be read or understood.
    pub fn from_system() -> Result<Self, ResolveError> {
        let builder = TokioResolver::builder_tokio()
            .map_err(|error| ResolveError::new("/etc/resolv.conf", error))?;
        Self::build(builder)
    }

    /// Asks the server at this address alone.
    ///
    /// # Errors
    /// Never, for this configuration.
    #[cfg(test)]
    pub(crate) fn asking(server: std::net::SocketAddr) -> Result<Self, ResolveError> {
        use hickory_resolver::{config::*, net::runtime::TokioRuntimeProvider};
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().timeout = Duration::from_millis(300);
        Self::build(builder)
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        // What does not exist may be there in a moment.
        builder.options_mut().negative_max_ttl = Some(SHORTLY);
        let inner = builder
            .build()
            .map_err(|error| ResolveError::new("/etc/resolv.conf", error))?;
        Ok(Self {
            inner: Arc::new(inner),
            last_good: Arc::default(),
        })
    }

    /// The addresses of `host`, which may be an address itself; at least one.
    ///
    /// # Errors
    /// If there are none and never were.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Ok(self.answer(host).await?.addresses)
    }

    /// The same, with how long that is true.
    ///
    /// # Errors
    /// If there are none and never were.
    pub(crate) async fn answer(&self, host: &str) -> Result<Answer, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(Answer {
                addresses: vec![address],
                valid_until: Instant::now() + LONG,
            });
        }
        let error = match timeout(DEADLINE, self.inner.lookup_ip(host)).await {
            Ok(Ok(answer)) => {
                let addresses: Vec<IpAddr> = answer.iter().collect();
                if !addresses.is_empty() {
                    self.remember(host, &addresses);
                    return Ok(Answer {
                        addresses,
                        valid_until: answer.valid_until(),
                    });
                }
                ResolveError::new(host, "it has no address")
            }
            Ok(Err(error)) => ResolveError::new(host, error),
            Err(_) => ResolveError::new(host, "no answer in time"),
        };
        let addresses = self.recall(host).ok_or(error)?;
        Ok(Answer {
            addresses,
            valid_until: Instant::now() + SHORTLY,
        })
    }

    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut last_good = self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last_good.len() >= REMEMBERED {
            last_good.clear();
        }
        last_good.insert(host.to_owned(), addresses.to_vec());
    }

    fn recall(&self, host: &str) -> Option<Vec<IpAddr>> {
        let last_good = self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last_good.get(host).cloned()
    }
}

/// Addresses, and for how long they are those.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) valid_until: Instant,
}

impl Answer {
    /// With those of another name.
    pub(crate) fn extend(&mut self, other: Self) {
        self.valid_until = self.valid_until.min(other.valid_until);
        for address in other.addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
    }
}

/// A name that has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host} cannot be resolved: {reason}")]
pub struct ResolveError {
    host: String,
    reason: String,
}

impl ResolveError {
    /// There was no name to resolve.
    pub(crate) fn no_host() -> Self {
        Self::new("the gateway", "it has no name and no address")
    }

    fn new(host: &str, reason: impl ToString) -> Self {
        Self {
            host: host.to_owned(),
            reason: reason.to_string(),
        }
    }
}
