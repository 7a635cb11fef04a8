//! A world without an API server: stores that a test fills by hand.

use std::{collections::BTreeSet, sync::Arc};

use kube::{
    Client,
    runtime::reflector::{self, store::Writer},
};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use tokio::sync::{broadcast, watch};

use super::World;

/// What fills the stores of [`world`].
pub(crate) struct Writers {
    pub(crate) clusters: Writer<EdgeCluster>,
    pub(crate) versions: Writer<ModelVersion>,
    pub(crate) assignments: Writer<ClusterAssignment>,
    pub(crate) policies: Writer<PlacementPolicy>,
}

/// A client whose every request fails.
pub(crate) fn client() -> Client {
    let refuse = |_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no API server in this test"))
    };
    Client::new(tower::service_fn(refuse), "default")
}

/// A world with empty stores.
pub(crate) fn world() -> (World, Writers) {
    let (clusters, clusters_writer) = reflector::store();
    let (versions, versions_writer) = reflector::store();
    let (assignments, assignments_writer) = reflector::store();
    let (policies, policies_writer) = reflector::store();
    let world = World {
        client: client(),
        clusters,
        versions,
        policies,
        assignments,
        changes: broadcast::channel(16).0,
        undecodable: Arc::default(),
        synced: watch::channel(BTreeSet::default()).0,
    };
    let writers = Writers {
        clusters: clusters_writer,
        versions: versions_writer,
        assignments: assignments_writer,
        policies: policies_writer,
    };
    (world, writers)
}
