//! What the probe pages of mesh-mirror and of the sidecar say.
//!
//! They may be of another version than this command: fields that are missing
//! mean that nothing is known, and never that something is well.

use serde::Deserialize;

/// Who a program is, and what time it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Own {
    /// Its certificate, if it has one.
    pub(crate) certificate: Option<Certificate>,
    /// Its clock, in seconds since 1970.
    pub(crate) clock: u64,
}

/// A program's own certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) identity: String,
    /// Seconds since 1970.
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

/// `GET /probe?link=NAME` of mesh-mirror.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct LinkProbe {
    #[serde(flatten)]
    pub(crate) own: Own,
    #[serde(default)]
    pub(crate) gateways: Vec<GatewayProbe>,
}

/// One address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct GatewayProbe {
    pub(crate) address: String,
    /// `dial`, `tls`, `probe`, `exports`, as far as it came.
    pub(crate) steps: Vec<Step>,
}

/// One step of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) ok: bool,
    #[serde(default)]
    pub(crate) millis: u64,
    /// One word for programs.
    #[serde(default)]
    pub(crate) reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub(crate) text: String,
}

impl GatewayProbe {
    /// The step, if it was reached.
    pub(crate) fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.step == name)
    }

    /// Whether the gateway itself answered.
    pub(crate) fn answers(&self) -> bool {
        self.step("probe").is_some_and(|step| step.ok)
    }

    /// The step that failed before the gateway answered.
    pub(crate) fn failure(&self) -> Option<&Step> {
        let before = |step: &&Step| step.step != "exports";
        self.steps.iter().filter(before).find(|step| !step.ok)
    }
}

/// `GET /probe?address=IP:PORT` of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SidecarProbe {
    #[serde(flatten)]
    pub(crate) own: Own,
    /// `service`, `pod`, `unknown`, `undefined-port`, `undiscovered`.
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) backends: Vec<BackendProbe>,
}

/// A backend, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct BackendProbe {
    /// `namespace/name`.
    pub(crate) service: String,
    /// Its port; 0 from a sidecar that does not say.
    #[serde(default)]
    pub(crate) port: u16,
    /// Whether the control plane knows its endpoints.
    #[serde(default)]
    pub(crate) known: bool,
    #[serde(default)]
    pub(crate) endpoints: usize,
    /// Some of the endpoints, tried.
    #[serde(default)]
    pub(crate) tried: Vec<Attempt>,
}

/// An endpoint that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) endpoint: String,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) millis: u64,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Its sidecar would let us in.
    Admitted,
    /// It would not.
    Refused,
    /// No connection.
    Failed,
    /// It has no sidecar.
    Unmeshed,
    /// Connected, and its sidecar is too old to say.
    #[serde(other)]
    Unknown,
}

impl SidecarProbe {
    /// What it says of a backend, at this port if one is given.
    pub(crate) fn backend(
        &self,
        namespace: &str,
        name: &str,
        port: Option<u16>,
    ) -> Option<&BackendProbe> {
        let full = format!("{namespace}/{name}");
        let is_port = |said: u16| said == 0 || port.is_none_or(|port| port == said);
        let mut backends = self.backends.iter();
        backends.find(|backend| backend.service == full && is_port(backend.port))
    }
}

impl BackendProbe {
    /// Whether some endpoint's sidecar was spoken to.
    pub(crate) fn connected(&self) -> bool {
        self.tried.iter().any(|attempt| {
            matches!(
                attempt.outcome,
                Outcome::Admitted | Outcome::Refused | Outcome::Unknown
            )
        })
    }
}
