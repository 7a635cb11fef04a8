//! The door for the peers: accepts their connections, TCP then TLS, and hands them to the service.

use std::{io, time::Duration};

use anyhow::Context as _;
use nave_proto::v1::neighbour_server::NeighbourServer;
use nave_runtime::drain::Drain;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use super::{Neighbourhood, neighbourhood::WINDOW, service::Service};

/// A handshake on a LAN.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at once: a site is at most a hundred spokes, and each keeps one connection.
const HANDSHAKES: usize = 32;
/// Streams of one peer at once: it follows a few pulls, and reads a few chunks of each.
const STREAMS: u32 = 64;
/// After an accept failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After the drain began: streams that follow a pull never end by themselves.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the peers until the agent drains.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, neighbourhood: Neighbourhood, drain: Drain) -> anyhow::Result<()> {
    let (ready, connections) = mpsc::channel(HANDSHAKES);
    let accepting = tokio::spawn(accept(listener, neighbourhood.clone(), ready));
    let ended = drain.clone();
    let server = Server::builder()
        .max_concurrent_streams(Some(STREAMS))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_service(NeighbourServer::new(Service(neighbourhood)))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move { ended.started().await });
    let cut_off = async {
        drain.started().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    let served = tokio::select! {
        served = server => served,
        () = cut_off => Ok(()),
    };
    accepting.abort();
    served.context("the door for this site's peers broke")
}

async fn accept(
    listener: TcpListener,
    neighbourhood: Neighbourhood,
    ready: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    loop {
        let Ok(slot) = ready.clone().reserve_owned().await else { return };
        let (tcp, address) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(tls) = neighbourhood.tls() else { continue };
        tokio::spawn(async move {
            let handshake = async {
                tcp.set_nodelay(true)?;
                TlsAcceptor::from(tls.server.clone()).accept(tcp).await
            };
            match timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => drop(slot.send(Ok(stream))),
                Ok(Err(error)) => tracing::warn!(%address, %error, "refused a peer: TLS failed"),
                Err(_) => tracing::info!(%address, "a peer's TLS handshake took too long"),
            }
        });
    }
}
