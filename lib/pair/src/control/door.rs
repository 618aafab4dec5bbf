//! The two ports of the control plane: TLS, and gRPC inside it.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use mesh_proto::v1::{
    discovery_server::DiscoveryServer, gateway_tables_server::GatewayTablesServer,
    inbound_policies_server::InboundPoliciesServer, links_server::LinksServer,
};
use mesh_tls::{ALPN_H2, Session as TlsSession, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Connected};

use super::Script;

/// Sessions that wait to be served: there are two sidecars.
const WAITING: usize = 8;

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| address.to_string())
}

/// Serves certificates, to clients that have none.
pub(super) async fn serve_certify(listener: TcpListener, tls: Tls, script: Script) -> Result<()> {
    let sessions = accept(listener, async move |socket| {
        tls.accept_unauthenticated(socket, ALPN_H2).await.ok()
    });
    let server = Server::builder().add_service(IdentityServer::new(script));
    Ok(server.serve_with_incoming(sessions).await?)
}

/// Serves everything else, to clients that have one.
pub(super) async fn serve_streams(listener: TcpListener, tls: Tls, script: Script) -> Result<()> {
    let sessions = accept(listener, async move |socket| {
        let accepted = tls.accept(socket, ALPN_H2).await;
        accepted.ok().map(|(session, _)| session)
    });
    let server = Server::builder()
        .add_service(DiscoveryServer::new(script.clone()))
        .add_service(InboundPoliciesServer::new(script.clone()))
        .add_service(GatewayTablesServer::new(script.clone()))
        .add_service(LinksServer::new(script));
    Ok(server.serve_with_incoming(sessions).await?)
}

/// The sessions of all who connect, one handshake after the other. It ends with
/// the runtime, or when nobody takes sessions any more.
fn accept(
    listener: TcpListener,
    handshake: impl AsyncFn(TcpStream) -> Option<TlsSession<TcpStream>> + 'static,
) -> ReceiverStream<io::Result<Session>> {
    let (sender, sessions) = mpsc::channel(WAITING);
    tokio::task::spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Some(session) = handshake(socket).await
                && sender.send(Ok(Session(session))).await.is_err()
            {
                return;
            }
        }
    });
    ReceiverStream::new(sessions)
}

struct Session(TlsSession<TcpStream>);

impl Connected for Session {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Session {
    mesh_net::pass_reads!(0);
}

impl AsyncWrite for Session {
    mesh_net::pass_writes!(0);
}
