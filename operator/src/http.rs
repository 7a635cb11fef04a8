//! The hub's read-only HTTP API: `GET /api/v1/fleet`. What the API server stores of each cluster, with the progress of
//! pulls that only this replica's memory has. Health and metrics are nave-runtime's.

use axum::{Json, Router, extract::State, routing::get};
use kube::ResourceExt as _;
use nave_crds::{
    ClusterAssignment, EdgeCluster,
    view::conditions::{self, Status},
};
use serde::Serialize;

use crate::{
    progress::{EntryProgress, ProgressTable},
    watch::World,
};

/// The routes.
pub fn router(gateway: &str, world: World, progress: ProgressTable) -> Router {
    let fleet = Fleet { gateway: gateway.to_owned(), world, progress };
    Router::new().route("/api/v1/fleet", get(show)).with_state(fleet)
}

#[derive(Clone)]
struct Fleet {
    gateway: String,
    world: World,
    progress: ProgressTable,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FleetView {
    /// The replica that answers: it knows the progress of its own sessions only.
    gateway: String,
    clusters: Vec<ClusterView>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterView {
    name: String,
    accepted: bool,
    connected: &'static str,
    ready: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    generation: i64,
    observed_generation: i64,
    entries: Vec<EntryView>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryView {
    namespace: String,
    model: String,
    version: String,
    phase: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_total: Option<u64>,
}

async fn show(State(fleet): State<Fleet>) -> Json<FleetView> {
    let mut clusters = fleet.world.clusters.state();
    clusters.sort_by_cached_key(|cluster| cluster.name_any());
    let view = |cluster: &EdgeCluster| {
        let name = cluster.name_any();
        let assignment = fleet.world.assignment(&name);
        cluster_view(cluster, assignment.as_deref(), &fleet.progress.of(&name))
    };
    let clusters = clusters.iter().map(|cluster| view(cluster)).collect();
    Json(FleetView { gateway: fleet.gateway, clusters })
}

fn cluster_view(
    cluster: &EdgeCluster,
    assignment: Option<&ClusterAssignment>,
    progress: &[EntryProgress],
) -> ClusterView {
    let status = cluster.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = |type_| Status::as_str(conditions::status(conditions, type_));
    let reported = assignment.and_then(|assignment| assignment.status.as_ref());
    let entries = reported.map(|status| status.entries.as_slice()).unwrap_or_default();
    let entries = entries.iter().map(|row| {
        let same = |p: &&EntryProgress| {
            p.namespace == row.namespace && p.model == row.model && p.version == row.version
        };
        let progress = progress.iter().find(same);
        EntryView {
            namespace: row.namespace.clone(),
            model: row.model.clone(),
            version: row.version.clone(),
            phase: row.phase.as_str(),
            reason: row.reason.clone(),
            bytes_done: progress.map(|p| p.bytes_done),
            bytes_total: progress.map(|p| p.bytes_total),
        }
    });
    ClusterView {
        name: cluster.name_any(),
        accepted: cluster.spec.accepted,
        connected: condition(conditions::CONNECTED),
        ready: condition(conditions::READY),
        gateway: status.and_then(|status| status.session.as_ref()).map(|session| session.gateway.clone()),
        generation: assignment.map_or(0, |assignment| assignment.spec.generation),
        observed_generation: reported.and_then(|status| status.observed_generation).unwrap_or(0),
        entries: entries.collect(),
    }
}

#[cfg(test)]
mod tests {
    use nave_crds::EdgeClusterSpec;

    use super::*;

    #[test]
    fn a_cluster_shows_what_is_stored_and_how_far_a_pull_is() {
        let cluster = EdgeCluster::new("bridge-a12", EdgeClusterSpec::default());
        let value = serde_json::json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment", "metadata": {"name": "bridge-a12"},
            "spec": {"generation": 4}, "status": {"observedGeneration": 3, "entries": [
                {"namespace": "n", "model": "m", "version": "1", "phase": "Pulling", "since": "2026-01-01T00:00:00Z"}]}
        });
        let assignment = serde_json::from_value(value).unwrap();
        let progress = EntryProgress {
            namespace: "n".into(),
            model: "m".into(),
            version: "1".into(),
            bytes_done: 5,
            bytes_total: 9,
        };
        let view = serde_json::to_value(cluster_view(&cluster, Some(&assignment), &[progress])).unwrap();
        let entry = serde_json::json!({
            "namespace": "n", "model": "m", "version": "1", "phase": "Pulling", "bytesDone": 5, "bytesTotal": 9
        });
        assert_eq!(view["entries"], serde_json::json!([entry]));
        assert_eq!((&view["connected"], &view["generation"]), (&"Unknown".into(), &4.into()));
        let silent = cluster_view(&cluster, Some(&assignment), &[]);
        assert_eq!(silent.entries[0].bytes_done, None, "another replica's session: not known here");
    }
}
