//! Writes to this cluster's API server.

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::Service, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Error, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use mesh_api::{
    link::{Link, LinkStatus},
    names,
};
use serde_json::json;
use tokio::time::timeout;

use crate::{mirror::ServiceName, news::Note, plan::Action};

/// Writes Services and the status of Links.
#[derive(Clone)]
pub(crate) struct Writer(Client);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// The object is no longer what the decision was made on: look again.
    Outdated,
    /// The API server refused it or did not answer.
    Failed(String),
}

impl Writer {
    pub(crate) const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Writes one Service. What exists is only changed at the version that the
    /// decision was made on, so a second writer does no harm.
    pub(crate) async fn execute(&self, action: &Action) -> Outcome {
        let api = self.services(action.name());
        let request = async {
            match action {
                Action::Create { name, mirror } => {
                    let service = mirror.to_service(name);
                    api.create(&post(), &service).await.map(drop)
                }
                Action::Update {
                    name,
                    mirror,
                    resource_version,
                } => {
                    let patch = Patch::Merge(mirror.to_patch(resource_version));
                    api.patch(&name.name, &patch_params(), &patch)
                        .await
                        .map(drop)
                }
                Action::Delete {
                    name,
                    uid,
                    resource_version,
                } => {
                    let only = DeleteParams::default().preconditions(Preconditions {
                        resource_version: Some(resource_version.clone()),
                        uid: Some(uid.clone()),
                    });
                    api.delete(&name.name, &only).await.map(drop)
                }
            }
        };
        within_deadline(request).await
    }

    /// Replaces the status of a Link, if the Link is still of this version.
    pub(crate) async fn write_status(&self, link: &Link, status: &LinkStatus) -> Outcome {
        let api: Api<Link> = Api::all(self.0.clone());
        let name = link.name_any();
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": link.resource_version(), "uid": link.uid() },
            "status": status,
        }));
        let request = async {
            api.patch_status(&name, &patch_params(), &patch)
                .await
                .map(drop)
        };
        within_deadline(request).await
    }

    /// Writes an Event of `now` about a Link. One that is lost is lost.
    pub(crate) async fn write_event(&self, link: &Link, note: &Note, now: Timestamp) -> Outcome {
        let api: Api<Event> = Api::namespaced(self.0.clone(), EVENT_NAMESPACE);
        let event = event(link, note, now);
        let request = async { api.create(&post(), &event).await.map(drop) };
        within_deadline(request).await
    }

    fn services(&self, name: &ServiceName) -> Api<Service> {
        Api::namespaced(self.0.clone(), &name.namespace)
    }
}

fn event(link: &Link, note: &Note, now: Timestamp) -> Event {
    let name: String = link.name_any().chars().take(MAX_NAME).collect();
    let kind = if note.warning { "Warning" } else { "Normal" };
    Event {
        metadata: ObjectMeta {
            namespace: Some(EVENT_NAMESPACE.into()),
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        regarding: Some(link.object_ref(&())),
        reason: Some(note.reason.into()),
        note: Some(note.text.chars().take(MAX_NOTE).collect()),
        type_: Some(kind.into()),
        action: Some("Mirror".into()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(format!("mesh.dev/{}", names::MIRROR_CONTROLLER)),
        reporting_instance: Some(names::MIRROR_CONTROLLER.into()),
        ..Event::default()
    }
}

async fn within_deadline(request: impl Future<Output = Result<(), Error>>) -> Outcome {
    match timeout(DEADLINE, request).await {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => outcome(&error),
        Err(_) => Outcome::Failed(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

fn outcome(error: &Error) -> Outcome {
    match error {
        Error::Api(status) if status.code == 409 || status.code == 404 => Outcome::Outdated,
        Error::Api(status) => Outcome::Failed(status.message.clone()),
        other => Outcome::Failed(other.to_string()),
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(names::MIRROR_CONTROLLER.into()),
        ..PostParams::default()
    }
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::MIRROR_CONTROLLER.into()),
        ..PatchParams::default()
    }
}

/// Where Events about objects without a namespace are.
const EVENT_NAMESPACE: &str = "default";
/// Of a Link's name, so that the Event's is not too long.
const MAX_NAME: usize = 200;
/// As Kubernetes allows, whatever the characters are.
const MAX_NOTE: usize = 250;
const DEADLINE: Duration = Duration::from_secs(10);
