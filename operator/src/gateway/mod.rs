//! The gateway: spokes enrol here and hold their sessions here. Every replica is one. It writes what spokes report, and
//! decides nothing about what they are to run.

mod admission;
mod attempts;
mod desired;
mod enroll;
mod feed;
mod metrics;
mod observed;
mod outbox;
mod peers;
mod schedule;
mod service;
mod session;
mod sessions;
mod shared;
mod standing;
mod status;
mod table;
mod tls;
mod urls;

use std::{sync::Arc, time::Duration};

use nave_proto::{
    MAX_MESSAGE_BYTES,
    v1::{enrollment_server::EnrollmentServer, session_server::SessionServer},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use self::metrics::GatewayMetrics;
use self::{
    enroll::Enroller, peers::SitePeers, service::Service, sessions::Sessions, shared::Shared, table::Table,
    urls::Minter,
};
use crate::{
    pki::{self, Authority},
    precedence::Precedence,
    progress::ProgressTable,
    watch::World,
};

/// HTTP/2 pings find connections that are dead in both directions. 10 s cost 11% of a core at 8,000 sessions; heartbeats
/// notice sooner anyway.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// After the drain began, streams that do not end by themselves are cut off.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How a gateway runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The replica's name.
    pub gateway: String,
    /// The hub's namespace.
    pub namespace: String,
    /// Names in the hub's certificate.
    pub server_names: Vec<String>,
    /// How often both sides say that they are there.
    pub heartbeat: Duration,
    /// How long a spoke without a session still counts as connected.
    pub grace_period: Duration,
    /// Life of spokes' certificates.
    pub certificate_life: Duration,
    /// Life of presigned URLs.
    pub url_life: Duration,
}

/// What a gateway works with.
#[derive(Debug)]
pub struct Gateway {
    /// How it runs.
    pub config: Config,
    /// What it knows of the API server.
    pub world: World,
    /// Who issues and checks spokes' certificates.
    pub authority: Authority,
    /// Where the progress of pulls goes.
    pub progress: ProgressTable,
    /// Whose writes go first.
    pub precedence: Precedence,
    /// What it counts.
    pub metrics: GatewayMetrics,
}

/// Serves spokes until `stop`; then ends the sessions, and writes what is left to write.
///
/// # Errors
/// The certificate authority cannot serve TLS, or the listener broke.
pub async fn serve(gateway: Gateway, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let Gateway { config, world, authority, progress, precedence, metrics } = gateway;
    let tls = pki::server_config(&authority, &config.server_names)?;
    let (name, grace_period) = (config.gateway.clone(), config.grace_period);
    let table = Table::new(world.clone(), name, grace_period, precedence, metrics.clone());
    let shared = Shared {
        minter: Minter::new(world.clone(), config.url_life, metrics.clone()),
        world: world.clone(),
        authority: authority.clone(),
        gateway: config.gateway,
        heartbeat: config.heartbeat,
        certificate_life: config.certificate_life,
        sessions: Sessions::default(),
        peers: SitePeers::default(),
        table: table.clone(),
        progress,
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let enroller = Enroller {
        client: world.client.clone(),
        namespace: config.namespace,
        authority,
        certificate_life: config.certificate_life,
        metrics,
        attempts: std::sync::Mutex::default(),
    };
    let feed = feed::Feed {
        sessions: shared.sessions.clone(),
        peers: shared.peers.clone(),
        table: table.clone(),
        world,
    };
    let feed = tokio::spawn(feed.run(stop.clone()));
    // The writer outlives the sessions: what they said last is written.
    let closed = CancellationToken::new();
    let writer = tokio::spawn(table.run(closed.clone()));
    let session = SessionServer::new(Service(shared))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let enrolment = EnrollmentServer::new(enroller).max_decoding_message_size(64 << 10);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(Some(16))
        .add_service(session)
        .add_service(enrolment)
        .serve_with_incoming_shutdown(
            tls::incoming(listener, Arc::clone(&tls), stop.clone()),
            stop.clone().cancelled_owned(),
        );
    let cut_off = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    let served = tokio::select! {
        served = server => served,
        () = cut_off => Ok(()),
    };
    closed.cancel();
    writer.await?;
    feed.abort();
    Ok(served?)
}
