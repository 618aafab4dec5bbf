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
use mesh_tls::{Certificate, KeyRequest, Tls, TlsError, Trust, parse_bundle};
use tokio::time::{Instant, error::Elapsed, sleep, timeout};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status, transport::Channel};
use tracing::{info, warn};

use crate::{
    channel::{self, Server},
    clock::ClockConfig,
    health::{CLOCK_OFF, IdentityHealth},
    links,
    renewal::{Renewal, premature, retry, rotated},
    resolve::Resolver,
};

/// How long one request for a certificate may take.
const CERTIFY: Duration = Duration::from_secs(10);
/// The clock is looked at so often: it may have been set.
const CLOCK: Duration = Duration::from_secs(60);
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
    /// The clock that it goes by
    #[command(flatten)]
    pub clock: ClockConfig,
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
    pub fn start(
        config: &WorkloadConfig,
        health: IdentityHealth,
        tasks: &TaskTracker,
    ) -> Result<Self> {
        let roots = Roots::read(&config.roots_dir)?;
        let tls = Tls::new(roots.trust(None)?, config.clock.clock());
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
            health: health.clone(),
        };
        tasks.spawn(health.watch(tls.clone()));
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
    fn trust(&self, last: Option<&Links>) -> Result<Trust> {
        let mut roots = last.map_or_else(Vec::new, |last| last.roots.clone());
        for root in &self.certificates {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        let links = last.map_or(&[][..], |links| &links.links);
        Ok(links::trust(&self.trust_domain, &roots, links)?)
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
    health: IdentityHealth,
}

impl Identity {
    /// Asks for a certificate, waits until most of its life is over, asks again.
    async fn stay_certified(self, channel: Channel) {
        let mut client = IdentityClient::new(channel);
        let mut failures = 0_u32;
        loop {
            let attempt = timeout(CERTIFY, self.certify(&mut client, failures > 0)).await;
            let outcome = outcome(&attempt);
            self.health.attempted(outcome);
            let attempt =
                attempt.unwrap_or_else(|_| Err(anyhow!("mesh-control does not answer in time")));
            match attempt {
                Ok(certificate) => {
                    failures = 0;
                    info!(identity = %certificate.id(), "certified");
                    self.health.certified();
                    self.tls.set_certificate(certificate.clone());
                    self.renewal_due(&certificate).await;
                }
                Err(error) => {
                    let (ends, now) = (self.tls.valid_until(), self.tls.clock().now());
                    let error = format!("{error:#}");
                    let left = ends.map(|ends| ends.duration_since(now).unwrap_or_default());
                    warn!(error, outcome, ?left, "no new certificate yet");
                    if left.is_none_or(|left| left.is_zero()) {
                        self.health.uncertified(outcome, ends);
                    }
                    let pause = retry(ends, now, failures, rand::random());
                    failures = failures.saturating_add(1);
                    sleep(pause).await;
                }
            }
        }
    }

    /// Returns when `certificate` is to be replaced: most of its life is over,
    /// or another root signs.
    async fn renewal_due(&self, certificate: &Certificate) {
        let issued = Instant::now();
        let renewal = Renewal::of(certificate, self.tls.clock().now(), rand::random());
        loop {
            let left = renewal.left(self.tls.clock().now(), issued.elapsed());
            if left.is_zero() {
                return;
            }
            let roots = self.tls.trust().local_roots();
            // The first is the one that signs.
            if roots
                .first()
                .is_some_and(|root| !certificate.is_rooted_in(root))
            {
                info!("another root signs: our certificate is replaced");
                return sleep(left.min(rotated(rand::random()))).await;
            }
            tokio::select! {
                () = sleep(left.min(CLOCK)) => {}
                () = self.tls.local_roots_changed(&roots) => {}
            }
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
            // not tell us of any more, or still lack some that it told us of.
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
        self.check_time(&certificate)?;
        Ok(certificate)
    }

    /// Refuses a certificate that is of no use by our clock.
    fn check_time(&self, certificate: &Certificate) -> Result<(), ClockOff> {
        let now = self.tls.clock().now();
        if certificate.valid_until() <= now {
            return Err(ClockOff::Ended);
        }
        if let Some(early) = premature(certificate, self.good_until(), now) {
            return Err(ClockOff::Early(early.as_secs()));
        }
        if let Ok(early) = certificate.not_before().duration_since(now) {
            let seconds = early.as_secs();
            warn!(
                seconds,
                "our certificate is not valid yet by our clock: is it right, and mesh-control's?"
            );
        }
        Ok(())
    }

    /// The end of the certificate that we have. One of a root that is trusted
    /// no more is worth nothing: nobody accepts it.
    fn good_until(&self) -> Option<SystemTime> {
        let roots = self.tls.trust().local_roots();
        let ours = self.tls.certificate()?;
        let is_accepted = roots.iter().any(|root| ours.is_rooted_in(root));
        is_accepted.then(|| ours.valid_until())
    }

    fn last_links(&self) -> Option<Arc<Links>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.clone()
    }
}

/// What is issued shows that a clock is off: ours, or mesh-control's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ClockOff {
    #[error("the certificate has ended already: is the clock right, here and at mesh-control?")]
    Ended,
    #[error(
        "the certificate is not valid for another {0} s: is the clock right, here and at \
         mesh-control?"
    )]
    Early(u64),
}

/// Whether an attempt failed over what time it is.
fn is_about_time(error: &anyhow::Error) -> bool {
    error.is::<ClockOff>() || TlsError::behind(&**error).is_some_and(TlsError::is_about_time)
}

/// What came of an attempt, as a label; the set of values is closed.
fn outcome(attempt: &Result<Result<Certificate>, Elapsed>) -> &'static str {
    match attempt {
        Ok(Ok(_)) => "ok",
        Err(Elapsed { .. }) => "timeout",
        Ok(Err(error)) if is_about_time(error) => CLOCK_OFF,
        Ok(Err(error)) => match error.downcast_ref::<Status>().map(Status::code) {
            Some(Code::Unavailable | Code::Unknown | Code::Cancelled) => "unreachable",
            Some(Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument) => {
                "refused"
            }
            Some(_) => "error",
            // Our files, or a certificate that is not ours.
            None => "unusable",
        },
    }
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
mod outage;

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
}
