//! The Session service: who may open a stream, and the task that serves it.

use std::pin::Pin;

use nave_proto::v1::{HubMessage, SpokeMessage, session_server::Session as SessionService};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{metrics::SessionEnd, session, shared::Shared, tls::PeerInfo};
use crate::pki::peer_of;

/// The service.
#[derive(Debug)]
pub(super) struct Service(pub(super) Shared);

#[tonic::async_trait]
impl SessionService for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<HubMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<SpokeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let info = request.extensions().get::<PeerInfo>().cloned();
        let certificate = info.as_ref().and_then(|info| info.certificate.as_ref());
        let certificate = certificate
            .ok_or_else(|| Status::unauthenticated("a session needs a client certificate: enrol first"))?;
        let peer = peer_of(certificate).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let inbound = request.into_inner();
        // Room for one: what comes after it is decided when this one is gone.
        let (outbound, stream) = mpsc::channel(1);
        let shared = self.0.clone();
        tokio::spawn(async move {
            let metrics = shared.metrics.clone();
            let cluster = peer.cluster.clone();
            metrics.sessions.inc();
            let ended = session::serve(shared, peer, inbound, &outbound).await;
            metrics.sessions.dec();
            let reason = match &ended {
                Ok(reason) => *reason,
                Err(status) => end_of(status.code()),
            };
            metrics.ended(reason);
            tracing::info!(%cluster, ?reason, "session ended");
            if let Err(status) = ended {
                // Nobody reads it where the connection is gone already.
                if outbound.send(Err(status)).await.is_err() {
                    tracing::debug!(%cluster, "the spoke was gone before it was told why");
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn end_of(code: Code) -> SessionEnd {
    let reasons = [
        (Code::PermissionDenied, SessionEnd::Refused),
        (Code::Unauthenticated, SessionEnd::Expired),
        (Code::Aborted, SessionEnd::Replaced),
        (Code::Unavailable, SessionEnd::Drained),
    ];
    reasons.iter().find(|(of, _)| *of == code).map_or(SessionEnd::Protocol, |(_, reason)| *reason)
}
