//! What all sessions of a replica work with.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{metrics::GatewayMetrics, peers::SitePeers, sessions::Sessions, table::Table, urls::Minter};
use crate::{pki::Authority, progress::ProgressTable, watch::World};

/// What every session uses. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) authority: Authority,
    pub(super) gateway: String,
    pub(super) heartbeat: Duration,
    pub(super) certificate_life: Duration,
    pub(super) sessions: Sessions,
    pub(super) peers: SitePeers,
    pub(super) table: Table,
    pub(super) minter: Minter,
    pub(super) progress: ProgressTable,
    pub(super) metrics: GatewayMetrics,
    pub(super) stop: CancellationToken,
}
