//! A program's identity: obtained from the control plane, and kept fresh.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use linkerd2_proxy_api::identity::{CertifyRequest, identity_client::IdentityClient};
use mesh_core::{
    identity::{SpiffeId, TrustDomain},
    link::Links,
    ports,
};
use mesh_runtime::Backoff;
use mesh_tls::{Certificate, KeyRequest, Tls, Trust, parse_bundle};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::{
    channel::{self, Server},
    links,
    resolve::Resolver,
};

/// How long one request for a certificate may take.
const CERTIFY: Duration = Duration::from_secs(10);
/// Files of the identity are small; more is a mistake.
const LARGEST_FILE: u64 = 1 << 20;

/// What a program needs to know to become somebody.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkloadConfig {
    /// Folder with the local roots (`ca.crt`) and the name of the trust domain
    /// (`trust-domain`)
    #[arg(
        long,
        env = "MESH_ROOTS_DIR",
        default_value = "/var/run/mesh.dev/roots"
    )]
    pub roots_dir: PathBuf,
    /// The projected ServiceAccount token
    #[arg(
        long,
        env = "MESH_TOKEN_FILE",
        default_value = "/var/run/mesh.dev/identity/token"
    )]
    pub token_file: PathBuf,
    /// Name or address of mesh-control
    #[arg(
        long,
        env = "MESH_CONTROL_HOST",
        default_value = "mesh-control.mesh-system.svc"
    )]
    pub control_host: String,
}

/// The program's identity and its way to the control plane.
#[derive(Clone)]
pub struct ControlPlane {
    tls: Tls,
    channel: Channel,
    resolver: Resolver,
    pub(crate) links: LastLinks,
}

impl ControlPlane {
    /// Reads the roots and starts to ask for a certificate; it goes on asking
    /// until it has one, and renews it for as long as `tasks` live.
    ///
    /// # Errors
    /// If the roots cannot be read or understood.
    pub fn start(config: &WorkloadConfig, tasks: &TaskTracker) -> Result<Self> {
        let roots = Roots::read(&config.roots_dir)?;
        let tls = Tls::new(roots.trust(None)?);
        let resolver = Resolver::from_system()?;
        let identity = control_identity(&roots.trust_domain)?;
        let server = |port| Server {
            host: config.control_host.as_str().into(),
            port,
            identity: identity.clone(),
        };
        let certify =
            channel::unauthenticated(server(ports::CERTIFY), tls.clone(), resolver.clone());
        let channel = channel::authenticated(server(ports::CONTROL), tls.clone(), resolver.clone());
        let links = LastLinks::default();
        let identity = Identity {
            config: config.clone(),
            tls: tls.clone(),
            links: links.clone(),
        };
        tasks.spawn(identity.stay_certified(certify));
        Ok(Self {
            tls,
            channel,
            resolver,
            links,
        })
    }

    /// Our certificate and trust.
    #[must_use]
    pub const fn tls(&self) -> &Tls {
        &self.tls
    }

    /// gRPC to mesh-control, authenticated on both sides.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Names to addresses.
    #[must_use]
    pub const fn resolver(&self) -> &Resolver {
        &self.resolver
    }
}

/// The identity of the control plane of a trust domain.
///
/// # Errors
/// Never, for the names it is made of.
pub fn control_identity(trust_domain: &TrustDomain) -> Result<SpiffeId> {
    SpiffeId::new(trust_domain, "mesh-system", "mesh-control").context("mesh-control's identity")
}

/// What a pod knows of its cluster before it has any stream.
struct Roots {
    trust_domain: TrustDomain,
    certificates: Vec<Vec<u8>>,
}

impl Roots {
    fn read(folder: &Path) -> Result<Self> {
        let trust_domain = read(&folder.join("trust-domain"))?;
        let trust_domain = trust_domain
            .trim()
            .parse()
            .with_context(|| format!("{}/trust-domain", folder.display()))?;
        let bundle = read(&folder.join("ca.crt"))?;
        let certificates =
            parse_bundle(&bundle).with_context(|| format!("{}/ca.crt", folder.display()))?;
        Ok(Self {
            trust_domain,
            certificates,
        })
    }

    /// Trust in these roots, and in those of the links, if any are known.
    fn trust(&self, links: Option<&Links>) -> Result<Trust> {
        let links = links.map_or(&[][..], |links| &links.links);
        Ok(links::trust(&self.trust_domain, &self.certificates, links)?)
    }
}

fn read(path: &Path) -> Result<String> {
    let size = path
        .metadata()
        .with_context(|| format!("{} cannot be read", path.display()))?
        .len();
    ensure!(size <= LARGEST_FILE, "{} is too large", path.display());
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// What the stream of links last said, kept for when the roots are read again.
pub(crate) type LastLinks = Arc<Mutex<Option<Arc<Links>>>>;

/// What obtaining a certificate needs.
struct Identity {
    config: WorkloadConfig,
    tls: Tls,
    links: LastLinks,
}

impl Identity {
    /// Asks for a certificate, waits until most of its life is over, asks again.
    async fn stay_certified(self, channel: Channel) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut client = IdentityClient::new(channel);
        let mut failed = false;
        loop {
            let attempt = timeout(CERTIFY, self.certify(&mut client, failed))
                .await
                .unwrap_or_else(|_| Err(anyhow!("mesh-control does not answer in time")));
            failed = attempt.is_err();
            let wait = match attempt {
                Ok(certificate) => {
                    backoff.reset();
                    info!(identity = %certificate.id(), "certified");
                    let pause = renewal(&certificate, SystemTime::now(), rand::random());
                    self.tls.set_certificate(certificate);
                    pause
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "no certificate yet");
                    backoff.next()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One request. Roots and token are read anew: both are replaced while we
    /// run.
    async fn certify(
        &self,
        client: &mut IdentityClient<Channel>,
        failed: bool,
    ) -> Result<Certificate> {
        let roots = Roots::read(&self.config.roots_dir)?;
        let links = self.last_links();
        if links.is_none() || failed {
            // Else the stream of links keeps the trust, local roots included.
            // After a failure the file may know of roots that the stream could
            // not tell us of any more.
            self.tls.set_trust(roots.trust(links.as_deref())?);
        }
        let token = read(&self.config.token_file)?;
        let identity = identity_of_token(&token, &roots.trust_domain)?;
        let key = KeyRequest::generate()?;
        let request = CertifyRequest {
            identity: identity.to_string(),
            token: token.trim().as_bytes().to_vec(),
            certificate_signing_request: key.csr_der().to_vec(),
        };
        let response = client.certify(request).await?.into_inner();
        let certificate = key.certify(
            response.leaf_certificate,
            response.intermediate_certificates,
        )?;
        ensure!(
            *certificate.id() == identity,
            "the certificate names {}, not {identity}",
            certificate.id()
        );
        Ok(certificate)
    }

    fn last_links(&self) -> Option<Arc<Links>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.clone()
    }
}

/// The pause before a certificate is renewed: 65 % to 70 % of what is left of
/// its life, so that those that started together do not renew together.
fn renewal(certificate: &Certificate, now: SystemTime, chance: f64) -> Duration {
    let left = certificate.valid_until().duration_since(now);
    let share = chance.clamp(0.0, 1.0).mul_add(0.05, 0.65);
    left.unwrap_or_default()
        .mul_f64(share)
        .max(Duration::from_secs(1))
}

/// Whom the token speaks for, read without verifying it: mesh-control does that.
fn identity_of_token(token: &str, trust_domain: &TrustDomain) -> Result<SpiffeId> {
    let payload = token.split('.').nth(1).context("the token is no JWT")?;
    let claims = URL_SAFE_NO_PAD
        .decode(payload)
        .context("the token is no JWT")?;
    let claims: Claims = serde_json::from_slice(&claims).context("the token's claims")?;
    let parts: Vec<&str> = claims.sub.split(':').collect();
    let ["system", "serviceaccount", namespace, account] = parts[..] else {
        bail!(
            "the token is for {:?}, not for a ServiceAccount",
            claims.sub
        );
    };
    Ok(SpiffeId::new(trust_domain, namespace, account)?)
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_speaks_for_its_service_account() {
        let west = "west".parse().unwrap();
        let id = identity_of_token(&token(r#"{"sub":"system:serviceaccount:shop:web"}"#), &west);
        assert_eq!(id.unwrap().as_uri(), "spiffe://west/ns/shop/sa/web");
    }

    #[test]
    fn anything_else_is_no_workload() {
        let west = "west".parse().unwrap();
        for bad in [
            String::new(),
            "a.b".to_owned(),
            token("{}"),
            token(r#"{"sub":"system:node:n1"}"#),
            token(r#"{"sub":"system:serviceaccount:shop:web:x"}"#),
            token(r#"{"sub":"system:serviceaccount:../etc:web"}"#),
        ] {
            assert!(identity_of_token(&bad, &west).is_err(), "{bad}");
        }
    }

    #[test]
    fn certificates_are_renewed_well_before_they_end() {
        let root = mesh_testing::ca::TestRoot::new("west");
        let certificate = root.issue("spiffe://west/ns/shop/sa/web");
        let now = SystemTime::now();
        let left = certificate.valid_until().duration_since(now).unwrap();
        for chance in [0.0, 0.5, 1.0] {
            let pause = renewal(&certificate, now, chance);
            assert!(pause >= left.mul_f64(0.64) && pause <= left.mul_f64(0.71));
        }
        let late = certificate.valid_until() + Duration::from_secs(60);
        assert_eq!(renewal(&certificate, late, 0.5), Duration::from_secs(1));
    }
}
