//! The application that the mesh's tests run in pods: a server that says what
//! it saw, and the clients that call it.
//!
//! `serve` answers HTTP/1, HTTP/2, gRPC and TCP, always with JSON that names
//! the pod and cluster that answered. `get`, `grpc` and `tcp` make single
//! calls; `load` calls at a fixed rate whatever the answers do, and `audit`
//! asks the servers what became of its requests; `write` writes a file. It
//! knows nothing of the mesh: no TLS, no discovery, no identity. That is the point:
//! it stands for the unchanged application.

mod args;
mod audit;
mod behaviour;
mod client;
mod dial;
mod duration;
mod echo;
mod failure;
mod get;
mod grpc;
mod id;
mod load;
mod numbers;
mod seen;
mod serve;
mod stop;
mod tcp;
#[cfg(test)]
mod tests;
mod write;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
        .with(args.log)
        .init();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(args.command)));

    outcome.unwrap_or_else(|error| {
        eprintln!("testapp: {error:#}");
        ExitCode::from(NO_ANSWER)
    })
}

/// The exit code when there was no answer at all; an answer that is an error
/// gives 1, and wrong arguments give 2 (from clap).
const NO_ANSWER: u8 = 3;

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::Grpc(args) => grpc::client::run(args).await,
        Command::Tcp(args) => tcp::run(args).await,
        Command::Write(args) => write::run(&args),
        Command::Load(args) => load::run(args).await,
        Command::Audit(args) => audit::run(args).await,
    }
}
