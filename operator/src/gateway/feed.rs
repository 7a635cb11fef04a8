//! Brings changes of the stores to the sessions they concern. One task; its work grows with what changed.

use std::sync::Arc;

use nave_names::ClusterName;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{peers::SitePeers, sessions::Sessions, table::Table};
use crate::watch::{Change, Kind, World};

/// From where to where.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) world: World,
    pub(super) sessions: Sessions,
    pub(super) peers: SitePeers,
    pub(super) table: Table,
}

impl Feed {
    /// Runs until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut changes = self.world.changes.subscribe();
        self.look_at_all();
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(Change::Object(key) | Change::Deleted(key, _)) => match key.kind {
                    Kind::Cluster | Kind::Assignment => self.look_at(&key.name),
                    // A spoke hears of versions and policies through its assignment.
                    Kind::Policy | Kind::Version => {}
                },
                Ok(Change::Relisted(_)) | Err(RecvError::Lagged(_)) => self.look_at_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn look_at(&self, name: &str) {
        for concerned in self.update_peers(name) {
            self.sessions.poke(&concerned);
        }
        self.sessions.poke(name);
        if let Ok(cluster) = ClusterName::new(name) {
            self.table.look_at(&cluster);
        }
    }

    fn look_at_all(&self) {
        let clusters = self.world.clusters.state();
        let mut names: Vec<Arc<str>> =
            clusters.iter().filter_map(|c| c.metadata.name.as_deref().map(Arc::from)).collect();
        names.extend(self.peers.clusters());
        for name in names {
            self.update_peers(&name);
        }
        for cluster in self.sessions.poke_all() {
            self.table.look_at(&cluster);
        }
    }

    fn update_peers(&self, name: &str) -> Vec<Arc<str>> {
        self.peers.update(name, self.world.cluster(name).as_deref(), self.world.assignment(name).as_deref())
    }
}
