//! Host names to addresses, without the C library.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::TokioResolver;
use tokio::time::timeout;

/// How long one look-up may take, search domains and retries included.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many names' last good answers are kept.
const REMEMBERED: usize = 1024;

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
        let inner = TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
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
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let error = match timeout(DEADLINE, self.inner.lookup_ip(host)).await {
            Ok(Ok(answer)) => {
                let addresses: Vec<IpAddr> = answer.iter().collect();
                if !addresses.is_empty() {
                    self.remember(host, &addresses);
                    return Ok(addresses);
                }
                ResolveError::new(host, "it has no address")
            }
            Ok(Err(error)) => ResolveError::new(host, error),
            Err(_) => ResolveError::new(host, "no answer in time"),
        };
        self.recall(host).ok_or(error)
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

/// A name that has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host} cannot be resolved: {reason}")]
pub struct ResolveError {
    host: String,
    reason: String,
}

impl ResolveError {
    fn new(host: &str, reason: impl ToString) -> Self {
        Self {
            host: host.to_owned(),
            reason: reason.to_string(),
        }
    }
}
