//! How far pulls are. That is in the memory of the hub's replicas only, each knowing its own sessions: they are asked
//! through the API server, or at the addresses that the user names. Without an answer the fleet is shown without it.

use futures::future::join_all;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde::Deserialize;

use super::fleet::{EntryRow, Fleet, Progress};

const PATH: &str = "api/v1/fleet";
/// The port of the replicas' HTTP API.
const PORT: u16 = 8080;

/// What one replica answers; more is in it, and is in the objects too.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    clusters: Vec<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    namespace: String,
    model: String,
    version: String,
    bytes_done: Option<u64>,
    bytes_total: Option<u64>,
}

/// Asks every replica.
pub(super) async fn fetch(client: &Client, hub_namespace: &str, hub_urls: &[String]) -> Vec<Answer> {
    if hub_urls.is_empty() {
        return fetch_through_api_server(client, hub_namespace).await;
    }
    let asked = hub_urls.iter().map(|url| async move {
        let response = reqwest::get(format!("{}/{PATH}", url.trim_end_matches('/'))).await.ok()?;
        serde_json::from_slice(&response.bytes().await.ok()?).ok()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn fetch_through_api_server(client: &Client, namespace: &str) -> Vec<Answer> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_the_hub = ListParams::default().labels("app.kubernetes.io/name=nave-operator");
    let Ok(pods) = pods.list(&of_the_hub).await else { return Vec::new() };
    let asked = pods.items.iter().map(|pod| async move {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{}:{PORT}/proxy/{PATH}", pod.name_any());
        let request = Request::get(path).body(Vec::new()).ok()?;
        client.request(request).await.ok()
    });
    join_all(asked).await.into_iter().flatten().collect()
}

impl Fleet {
    /// Whether anything is under way whose progress somebody would want to see.
    pub(super) fn is_pulling(&self) -> bool {
        self.entries.iter().any(EntryRow::is_pulling)
    }

    /// Puts the replicas' answers beside what is under way.
    pub(super) fn add_progress(&mut self, answers: &[Answer]) {
        for row in self.entries.iter_mut().filter(|row| row.is_pulling()) {
            row.progress = answers.iter().find_map(|answer| answer.progress_of(row));
        }
    }
}

impl Answer {
    fn progress_of(&self, row: &EntryRow) -> Option<Progress> {
        let cluster = self.clusters.iter().find(|cluster| cluster.name == row.cluster)?;
        let same = |entry: &&Entry| {
            entry.namespace == row.namespace && entry.model == row.model && entry.version == row.version
        };
        let entry = cluster.entries.iter().find(same)?;
        Some(Progress { bytes_done: entry.bytes_done?, bytes_total: entry.bytes_total? })
    }
}
