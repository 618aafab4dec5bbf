//! The user's clusters, by contexts of the kubeconfig.
//!
//! Every question has a deadline, and every failure says which cluster, what
//! was asked and what to do (C9).

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};

use crate::text::escaped;

/// Which kubeconfig, and which context of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig; $KUBECONFIG or ~/.kube/config unless given
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of this cluster; the current one unless given
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl ClusterArgs {
    /// The kubeconfig, and the name of the context of this cluster.
    ///
    /// # Errors
    /// If there is no kubeconfig, or it has no such context.
    pub(crate) fn resolve(&self) -> anyhow::Result<(Kubeconfig, String)> {
        let kubeconfig = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        }
        .context("no kubeconfig: name one with --kubeconfig or $KUBECONFIG")?;
        let context = self
            .context
            .clone()
            .or_else(|| kubeconfig.current_context.clone().filter(|c| !c.is_empty()))
            .ok_or_else(|| {
                anyhow!(
                    "the kubeconfig has no current context: name one with --context ({})",
                    contexts(&kubeconfig)
                )
            })?;
        require_context(&kubeconfig, &context, "--context")?;
        Ok((kubeconfig, context))
    }
}

/// Checks that `kubeconfig` has `context`.
///
/// # Errors
/// Lists the contexts that there are.
pub(crate) fn require_context(
    kubeconfig: &Kubeconfig,
    context: &str,
    option: &str,
) -> anyhow::Result<()> {
    if kubeconfig.contexts.iter().any(|c| c.name == context) {
        return Ok(());
    }
    bail!(
        "the kubeconfig has no context {:?}: name one with {option} ({})",
        escaped(context),
        contexts(kubeconfig)
    )
}

fn contexts(kubeconfig: &Kubeconfig) -> String {
    if kubeconfig.contexts.is_empty() {
        return "it has none at all".into();
    }
    let names: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|c| escaped(&c.name))
        .collect();
    format!("it has {}", names.join(", "))
}

/// One cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The context through which it is reached.
    pub(crate) context: String,
    /// To be asked through [`Cluster::ask`].
    pub(crate) client: Client,
    server: String,
}

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl Cluster {
    /// The cluster behind `context`. Does not call it yet.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used.
    pub(crate) async fn new(kubeconfig: &Kubeconfig, context: &str) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: Some(context.into()),
            ..KubeConfigOptions::default()
        };
        let unusable = || {
            format!(
                "context {}: the kubeconfig cannot be used",
                escaped(context)
            )
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options)
            .await
            .with_context(unusable)?;
        config.connect_timeout = Some(DEADLINE);
        config.read_timeout = Some(DEADLINE);
        config.write_timeout = Some(DEADLINE);
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        Ok(Self {
            context: context.into(),
            client: Client::try_from(config).with_context(unusable)?,
            server,
        })
    }

    /// The answer to `question`; `what` completes "may not ..." and "cannot ...".
    ///
    /// # Errors
    /// Says which cluster, what was asked, and what to do.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = kube::Result<T>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(DEADLINE, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(anyhow!(self.explain(what, &error))),
            Err(_) => Err(anyhow!(
                "context {}: {} did not answer within {} s: check that the cluster runs and can be reached",
                escaped(&self.context),
                self.server,
                DEADLINE.as_secs()
            )),
        }
    }

    /// A page of the admin port of a pod, through the API server.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(crate) async fn page(
        &self,
        namespace: &str,
        pod: &str,
        page: &str,
    ) -> anyhow::Result<String> {
        let what = format!("get pods/proxy of {namespace}/{pod}");
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}:{}/proxy/{page}",
            mesh_core::ports::ADMIN
        );
        let request = http::Request::get(path)
            .body(Vec::new())
            .with_context(|| format!("cannot ask for {}", escaped(page)))?;
        self.ask(&what, self.client.request_text(request)).await
    }

    fn explain(&self, what: &str, error: &kube::Error) -> String {
        let context = escaped(&self.context);
        match error {
            kube::Error::Api(status) => refusal(&context, what, status),
            other => format!(
                "context {context}: cannot reach {}: {}: check that the cluster runs and that the context is right",
                self.server,
                deepest(other)
            ),
        }
    }
}

/// What the API server said, and what to do.
fn refusal(context: &str, what: &str, status: &Status) -> String {
    let message = escaped(&status.message);
    match status.code {
        401 => {
            format!("context {context}: the cluster does not accept your credentials: log in again")
        }
        403 => format!(
            "context {context}: you may not {what}: ask who runs the cluster for this right ({message})"
        ),
        404 if status
            .message
            .contains("the server could not find the requested resource")
            || status.message.contains("page not found") =>
        {
            format!(
                "context {context}: cannot {what}: the cluster does not know this kind of object: run `mesh install` there first"
            )
        }
        code => format!("context {context}: cannot {what}: {message} (code {code})"),
    }
}

/// The innermost cause: the outer ones only say that a request failed.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    escaped(&cause.to_string())
}

/// Runs `work` to its end on this thread.
///
/// # Errors
/// As `work` does.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(text: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(text).unwrap()
    }

    const TWO: &str = "\
contexts:
- {name: west, context: {cluster: west}}
- {name: east, context: {cluster: east}}
clusters:
- {name: west, cluster: {server: 'http://127.0.0.1:9'}}
";

    fn status(code: u16, message: &str) -> Status {
        Status {
            code,
            message: message.into(),
            ..Status::default()
        }
    }

    #[test]
    fn c9_a_wrong_context_is_answered_with_the_right_ones() {
        let error = require_context(&kubeconfig(TWO), "north", "--context").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kubeconfig has no context \"north\": name one with --context (it has west, east)"
        );
    }

    #[test]
    fn c9_without_a_kubeconfig_the_user_is_told_how_to_name_one() {
        let args = ClusterArgs {
            kubeconfig: Some("/nonexistent".into()),
            context: None,
        };
        let error = args.resolve().unwrap_err();
        assert!(format!("{error:#}").starts_with("no kubeconfig: name one with --kubeconfig"));
    }

    #[test]
    fn c9_an_unreachable_cluster_is_named() {
        let error = block_on(async {
            let cluster = Cluster::new(&kubeconfig(TWO), "west").await?;
            cluster
                .ask("read its version", cluster.client.apiserver_version())
                .await
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("context west: cannot reach http://127.0.0.1:9/: "),
            "{text}"
        );
    }

    #[test]
    fn c9_what_is_forbidden_is_said_plainly() {
        assert_eq!(
            refusal(
                "west",
                "list Links",
                &status(403, "links.mesh.dev is forbidden")
            ),
            "context west: you may not list Links: ask who runs the cluster for this right \
             (links.mesh.dev is forbidden)"
        );
        assert!(refusal("west", "x", &status(401, "")).contains("log in again"));
        assert!(refusal("west", "x", &status(500, "a\u{1b}b")).contains("a\\u{1b}b (code 500)"));
    }
}
