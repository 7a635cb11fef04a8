//! Brings changes of the stores to the sessions they concern. One task; its work grows with what changed.

use nave_names::ClusterName;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{sessions::Sessions, table::Table};
use crate::watch::{Change, Kind, World};

/// Runs until `stop`.
pub(super) async fn run(world: World, sessions: Sessions, table: Table, stop: CancellationToken) {
    let mut changes = world.changes.subscribe();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::Object(key)) => match key.kind {
                Kind::Cluster | Kind::Assignment => {
                    sessions.poke(&key.name);
                    if let Ok(cluster) = ClusterName::new(&*key.name) {
                        table.look_at(&cluster);
                    }
                }
                // A spoke hears of versions and policies through its assignment.
                Kind::Policy | Kind::Version => {}
            },
            Ok(Change::Relisted(_)) | Err(RecvError::Lagged(_)) => {
                for cluster in sessions.poke_all() {
                    table.look_at(&cluster);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
