//! Accepts spokes' connections: TCP, then TLS, with bounds on how long and how many at once, and what TLS learned of the
//! other side handed on to the services.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// A handshake over the worst of links takes a few round trips; longer is a connection that was forgotten.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Handshakes at once. Each costs 0.6 ms of a core: this is a backlog of a fraction of a second, and bounds the memory
/// that connections without an identity can take.
const HANDSHAKES: usize = 256;
/// After an accept failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who connected, as TLS knows it.
#[derive(Clone, Debug)]
pub(super) struct PeerInfo {
    /// Where from.
    pub(super) address: SocketAddr,
    /// The certificate, checked against the CA; none from a spoke that is about to enrol.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct PeerStream {
    tls: TlsStream<TcpStream>,
    info: PeerInfo,
}

/// The connections, until `stop`.
pub(super) fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<PeerStream>> {
    let (ready, connections) = mpsc::channel(HANDSHAKES);
    tokio::spawn(accept(listener, TlsAcceptor::from(config), ready, stop));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<io::Result<PeerStream>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, address) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(acceptor, tcp, address)).await;
            drop(slot);
            match shaken {
                Ok(Ok(stream)) => {
                    // Nobody takes connections any more: the hub is stopping.
                    if ready.send(Ok(stream)).await.is_err() {
                        tracing::debug!(%address, "connection came too late");
                    }
                }
                Ok(Err(error)) => tracing::info!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::info!(%address, "TLS handshake took too long"),
            }
        });
    }
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream, address: SocketAddr) -> io::Result<PeerStream> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    Ok(PeerStream { tls, info: PeerInfo { address, certificate } })
}

impl Connected for PeerStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
