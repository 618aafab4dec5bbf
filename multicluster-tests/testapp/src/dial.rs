//! Names to addresses to connections.
//!
//! Names are resolved here and not by the C library, because the program is
//! static. `/etc/resolv.conf` is honoured with its search list and `ndots`,
//! and nothing is cached, as with the C library.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;

/// Opens TCP connections by name or address.
pub(crate) struct Dialer {
    /// None where the system names no server; numeric addresses still work.
    resolver: Option<TokioResolver>,
}

impl Dialer {
    /// Reads `/etc/resolv.conf`.
    pub(crate) fn from_system() -> Self {
        let resolver = system_resolver()
            .inspect_err(|error| tracing::warn!("names cannot be resolved: {error}"))
            .ok();
        Self { resolver }
    }

    /// Tries the host's addresses in order until one accepts, all of it before
    /// `deadline`. The failure is that of the last address.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, Failure> {
        timeout_at(deadline, self.connect_first(host, port))
            .await
            .unwrap_or(Err(Failure::ConnectTimeout))
    }

    async fn connect_first(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let mut failure = Failure::Resolve;
        for ip in self.addresses(host).await? {
            match TcpStream::connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => {
                    tracing::info!("{ip}:{port}: {error}");
                    failure = Failure::of_io(&error);
                }
            }
        }
        Err(failure)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Some(ip) = numeric(host) {
            return Ok(vec![ip]);
        }
        let resolver = self.resolver.as_ref().ok_or(Failure::Resolve)?;
        let found = resolver.lookup_ip(host).await.map_err(|error| {
            tracing::info!("{host}: {error}");
            Failure::Resolve
        })?;
        Ok(found.iter().collect())
    }
}

fn system_resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    builder.build()
}

/// The address that needs no look-up: numeric, with or without brackets, or
/// `localhost`.
fn numeric(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_hosts_need_no_lookup() {
        for (host, want) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("[fd00::1]", Some("fd00::1")),
            ("fd00::1", Some("fd00::1")),
            ("localhost", Some("127.0.0.1")),
            ("web-east", None),
            ("10.1.2.3.example", None),
        ] {
            assert_eq!(numeric(host), want.map(|ip| ip.parse().unwrap()), "{host}");
        }
    }
}
