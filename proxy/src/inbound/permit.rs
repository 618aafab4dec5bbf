//! Policy of now, and of later: a client that is let in stays in for as long
//! as it would be let in again.

use std::{future::Future, net::IpAddr, sync::Arc};

use http_body::Body as _;
use mesh_core::{
    authorization::{Client, Rule},
    identity::SpiffeId,
    inbound::{Admission, Refusal},
};
use mesh_dataplane::message::{Body, Watch};
use tracing::info;

use super::Inbound;
use crate::PolicyReceiver;

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

/// A caller was let in to a port.
#[derive(Clone)]
pub(super) struct Permit {
    inbound: Arc<Inbound>,
    caller: Caller,
    port: u16,
    /// Has seen the policy that let the caller in.
    policy: PolicyReceiver,
}

/// A caller was let in for one request.
pub(super) enum RequestPermit {
    /// For as long as policy says so.
    Watched(Permit),
    /// A question for the pod's health is short.
    Probe,
}

impl Inbound {
    /// Lets `caller` in to `port`, if policy says so now.
    pub(super) fn permit(self: &Arc<Self>, caller: &Caller, port: u16) -> Result<Permit, Refusal> {
        let mut policy = self.policy.clone();
        let now = policy.borrow_and_update().clone();
        let now = now.unwrap_or_else(|| self.first_policy.clone());
        let trust = self.tls.trust();
        let rule = now.authorize(trust.local(), caller.as_client(), port)?;
        self.note(rule, caller, port);
        Ok(Permit {
            inbound: self.clone(),
            caller: caller.clone(),
            port,
            policy,
        })
    }

    /// Lets a request of `caller` in to `port`, if policy says so now.
    pub(super) fn permit_request<B>(
        self: &Arc<Self>,
        caller: &Caller,
        port: u16,
        request: &http::Request<B>,
    ) -> Result<RequestPermit, Refusal> {
        let permit = self.permit(caller, port);
        let Err(refusal) = permit else {
            return permit.map(RequestPermit::Watched);
        };
        let asked = request.uri().path_and_query();
        let asked = asked.map_or("/", http::uri::PathAndQuery::as_str);
        let method = request.method().as_str();
        let (trust, now) = (self.tls.trust(), self.policy());
        match now.authorize_request(trust.local(), caller.as_client(), port, method, asked) {
            Ok(Admission::Probe) => Ok(RequestPermit::Probe),
            Ok(Admission::Rule(_)) | Err(_) => Err(refusal),
        }
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

impl Permit {
    /// Returns when policy would no longer let the caller in.
    pub(super) async fn withdrawn(&mut self) {
        loop {
            if self.policy.changed().await.is_err() {
                // Nobody is left who could withdraw it: the program ends.
                std::future::pending::<()>().await;
            }
            if !self.still_holds() {
                return;
            }
        }
    }

    /// Ends when policy would no longer let the caller in.
    pub(super) fn watch(mut self) -> Watch {
        Box::pin(async move { self.withdrawn().await })
    }

    fn still_holds(&mut self) -> bool {
        let now = self.policy.borrow_and_update().clone();
        let now = now.unwrap_or_else(|| self.inbound.first_policy.clone());
        let trust = self.inbound.tls.trust();
        let decision = now.authorize(trust.local(), self.caller.as_client(), self.port);
        if decision.is_err() {
            self.inbound.metrics.refused("inbound", "withdrawn");
        }
        decision.is_ok()
    }
}

impl RequestPermit {
    /// What `answering` says, unless the permit is withdrawn before.
    pub(super) async fn hold<T>(&mut self, answering: impl Future<Output = T>) -> Option<T> {
        match self {
            Self::Probe => Some(answering.await),
            Self::Watched(permit) => tokio::select! {
                answer = answering => Some(answer),
                () = permit.withdrawn() => None,
            },
        }
    }

    /// `body`, broken off when the permit is withdrawn.
    pub(super) fn watch(self, body: Body) -> Body {
        match (self, body) {
            (Self::Watched(permit), Body::Incoming(incoming)) if !incoming.is_end_stream() => {
                Body::Incoming(incoming.watched(permit.watch()))
            }
            (Self::Watched(_) | Self::Probe, body) => body,
        }
    }
}
