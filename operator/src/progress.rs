//! How far each spoke of this replica is with what it pulls. In memory only: the gateway fills it from reports, the HTTP
//! API shows it, and nothing of it is ever written to the API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use nave_names::ClusterName;
use serde::Serialize;

/// How far one entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryProgress {
    /// The ModelVersion's namespace.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Bytes that are on the spoke, verified or not.
    pub bytes_done: u64,
    /// Bytes that there are; 0 = the spoke does not know yet.
    pub bytes_total: u64,
}

/// The progress of all spokes that have their session here. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct ProgressTable {
    by_cluster: Arc<RwLock<BTreeMap<ClusterName, Vec<EntryProgress>>>>,
}

impl ProgressTable {
    /// Takes in a spoke's latest report; an empty one takes the spoke out.
    pub fn set(&self, cluster: &ClusterName, entries: Vec<EntryProgress>) {
        let mut table = self.by_cluster.write().unwrap_or_else(PoisonError::into_inner);
        if entries.is_empty() {
            table.remove(cluster);
        } else {
            table.insert(cluster.clone(), entries);
        }
    }

    /// Takes a spoke out, because its session ended.
    pub fn remove(&self, cluster: &ClusterName) {
        self.by_cluster.write().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    /// What one spoke reported last.
    pub fn of(&self, cluster: &str) -> Vec<EntryProgress> {
        let table = self.by_cluster.read().unwrap_or_else(PoisonError::into_inner);
        table.get(cluster).cloned().unwrap_or_default()
    }
}
