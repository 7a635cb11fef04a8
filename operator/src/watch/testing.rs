//! A world without an API server: stores that a test fills by hand.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use kube::{
    Client,
    client::Body,
    runtime::reflector::{self, store::Writer},
};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use tokio::sync::{broadcast, watch};

use super::{
    Key, Kind, World,
    filler::{Filler, SharedClaims},
};

/// What fills the stores of [`world`].
pub(crate) struct Writers {
    pub(crate) clusters: Writer<EdgeCluster>,
    pub(crate) versions: Filler<ModelVersion>,
    pub(crate) assignments: Writer<ClusterAssignment>,
    pub(crate) policies: Writer<PlacementPolicy>,
}

/// Changes that a slow reader of [`world`] may be behind: a power of two, which is what a channel really holds.
pub(crate) const CHANGES_KEPT: usize = 16;

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
    let claims = SharedClaims::default();
    let fill_versions = Filler::with(&claims, versions_writer);
    let world = World {
        client: client(),
        clusters,
        versions,
        policies,
        assignments,
        changes: broadcast::channel(CHANGES_KEPT).0,
        undecodable: Arc::default(),
        claims,
        synced: watch::channel(BTreeSet::default()).0,
    };
    let writers = Writers {
        clusters: clusters_writer,
        versions: fill_versions,
        assignments: assignments_writer,
        policies: policies_writer,
    };
    (world, writers)
}

/// What an API server was asked, in order: `METHOD path`, and the body.
pub(crate) type Asked = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

/// An API server that notes what it is asked and answers with a status and an object.
pub(crate) fn server(
    asked: &Asked,
    answer: impl Fn(&str, &serde_json::Value) -> (u16, serde_json::Value) + Clone + Send + 'static,
) -> Client {
    let asked = Arc::clone(asked);
    let serve = move |request: http::Request<Body>| {
        let (asked, answer) = (Arc::clone(&asked), answer.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, object) = answer(&line, &body);
            asked.lock().unwrap().push((line, body));
            let body = Body::from(serde_json::to_vec(&object).unwrap());
            Ok::<_, Infallible>(http::Response::builder().status(status).body(body).unwrap())
        }
    };
    Client::new(tower::service_fn(serve), "default")
}

/// How an API server refuses.
pub(crate) fn refusal(code: u16) -> (u16, serde_json::Value) {
    (
        code,
        serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "message": "x", "reason": "x"}),
    )
}

/// The lines of what was asked since the last call, but for Events, which come when they come.
pub(crate) fn lines(asked: &Asked) -> Vec<String> {
    let lines = std::mem::take(&mut *asked.lock().unwrap()).into_iter().map(|(line, _)| line);
    lines.filter(|line| !line.ends_with("/events")).collect()
}

impl World {
    /// The kind was listed completely.
    pub(crate) fn listed(&self, kind: Kind) {
        self.synced.send_modify(|kinds| {
            kinds.insert(kind);
        });
    }

    /// The object cannot be decoded.
    pub(crate) fn unreadable(&self, key: Key) {
        self.undecodable.write().unwrap().insert(key, "of a later release".into());
    }
}
