//! Policy of now, and of later: a client that is let in stays in for as long
//! as it would be let in again.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use mesh_core::{
    authorization::{Client, Rule},
    identity::SpiffeId,
    inbound::{Admission, InboundPolicy, Refusal},
};
use mesh_dataplane::message::Request;
use mesh_drive::conduit::Conduit;
use mesh_http::{event::StreamId, fault::Code};
use tracing::info;

use super::Inbound;

/// Who wants something of the pod.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// None without a sidecar.
    pub(super) identity: Option<SpiffeId>,
    /// Where the connection comes from: a gateway's, if the caller is foreign.
    pub(super) address: IpAddr,
}

impl Caller {
    pub(super) const fn as_client(&self) -> Client<'_> {
        Client {
            identity: self.identity.as_ref(),
            address: self.address,
        }
    }
}

impl Inbound {
    /// Lets `caller` in to `port`, if policy says so now.
    pub(super) fn permit(&self, caller: &Caller, port: u16) -> Result<(), Refusal> {
        let (policy, trust) = (self.policy(), self.tls.trust());
        let rule = policy.authorize(trust.local(), caller.as_client(), port)?;
        self.note(rule, caller, port);
        Ok(())
    }

    /// Returns when policy would no longer let `caller` in to `port`.
    pub(super) async fn withdrawn(&self, caller: &Caller, port: u16) {
        let mut policy = self.policy.clone();
        loop {
            if !self.still_admits(caller, port) {
                return;
            }
            if policy.changed().await.is_err() {
                // Nobody is left who could withdraw it: the program ends.
                std::future::pending::<()>().await;
            }
        }
    }

    fn still_admits(&self, caller: &Caller, port: u16) -> bool {
        let (policy, trust) = (self.policy(), self.tls.trust());
        let decision = policy.authorize(trust.local(), caller.as_client(), port);
        if decision.is_err() {
            self.metrics.refused("inbound", "withdrawn");
        }
        decision.is_ok()
    }

    fn note(&self, rule: &Rule, caller: &Caller, port: u16) {
        if rule.audit {
            self.metrics.audited();
            let identity = caller.identity.as_ref().map(SpiffeId::as_uri);
            info!(
                target: "mesh_proxy::audit",
                client = identity.unwrap_or("unauthenticated"),
                address = %caller.address,
                port,
                policy = &*rule.name,
                "admitted"
            );
        }
    }
}

/// What policy has let in on one caller's connection.
pub(super) struct Guests {
    caller: Caller,
    /// Known from the first one on.
    connection: OnceLock<Conduit>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// The streams, and the ports that they were let in to. Some are over.
    streams: Vec<(StreamId, u16)>,
    /// The port that was asked for last, and the policy that admits the caller
    /// there without anything to note.
    known: Option<(u16, Arc<InboundPolicy>)>,
}

/// Streams that are over are forgotten when there are so many, and when they are
/// most.
const SWEEP: usize = 64;

impl Guests {
    pub(super) fn new(caller: Caller) -> Self {
        Self {
            caller,
            connection: OnceLock::new(),
            inside: Mutex::default(),
        }
    }

    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Lets a request in to `port`, if policy says so now, for as long as it does.
    pub(super) fn admit(
        &self,
        inbound: &Inbound,
        port: u16,
        request: &Request,
    ) -> Result<(), Refusal> {
        let exchange = request.body.exchange();
        let connection = exchange.conduit();
        self.connection.get_or_init(|| connection.clone());
        let mut inside = self.inside();
        if !inside.knows(inbound, port) {
            inside.learn(inbound, &self.caller, port)?;
        }
        inside.sweep(connection);
        inside.streams.push((exchange.stream(), port));
        Ok(())
    }

    /// The same for who may have no identity: everybody may ask for the pod's
    /// health, which is short, and so is no tunnel.
    pub(super) fn admit_unknown(
        &self,
        inbound: &Inbound,
        port: u16,
        request: &Request,
    ) -> Result<(), Refusal> {
        let Err(refusal) = self.admit(inbound, port, request) else {
            return Ok(());
        };
        if request.head.asks_for_tunnel() {
            return Err(refusal);
        }
        let asked = str::from_utf8(request.head.path()).unwrap_or_default();
        let method = str::from_utf8(request.head.method()).unwrap_or_default();
        let (policy, trust) = (inbound.policy(), inbound.tls.trust());
        let client = self.caller.as_client();
        match policy.authorize_request(trust.local(), client, port, method, asked) {
            Ok(Admission::Probe) => Ok(()),
            Ok(Admission::Rule(_)) | Err(_) => Err(refusal),
        }
    }

    /// Breaks off what policy does not let in any more, as often as it changes.
    /// It does not return.
    pub(super) async fn watch(&self, inbound: &Inbound) -> ! {
        let mut policy = inbound.policy.clone();
        while policy.changed().await.is_ok() {
            self.expel(inbound);
        }
        // Nobody is left who could change it: the program ends.
        std::future::pending().await
    }

    fn expel(&self, inbound: &Inbound) {
        let Some(connection) = self.connection.get() else {
            return;
        };
        let mut expelled = Vec::new();
        self.inside().streams.retain(|(stream, port)| {
            if !connection.has(*stream) {
                return false;
            }
            let stays = inbound.still_admits(&self.caller, *port);
            if !stays {
                expelled.push(*stream);
            }
            stays
        });
        for stream in expelled {
            connection.give_up(stream, Code::Cancel);
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Whether the policy of now is the one that admitted the caller to the port.
    fn knows(&self, inbound: &Inbound, port: u16) -> bool {
        let Some((known, then)) = &self.known else {
            return false;
        };
        let now = inbound.policy.borrow();
        let now = now.as_ref().unwrap_or(&inbound.first_policy);
        *known == port && Arc::ptr_eq(then, now)
    }

    fn learn(&mut self, inbound: &Inbound, caller: &Caller, port: u16) -> Result<(), Refusal> {
        let (policy, trust) = (inbound.policy(), inbound.tls.trust());
        let rule = policy.authorize(trust.local(), caller.as_client(), port)?;
        inbound.note(rule, caller, port);
        self.known = (!rule.audit).then(|| (port, policy.clone()));
        Ok(())
    }

    fn sweep(&mut self, connection: &Conduit) {
        if self.streams.len() >= SWEEP && self.streams.len() >= 2 * connection.streams() {
            self.streams.retain(|(stream, _)| connection.has(*stream));
        }
    }
}
