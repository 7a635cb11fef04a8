//! Tests of a round: what is sent to the API server, and what others are told meanwhile.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use futures::FutureExt as _;
use kube::{Client, client::Body, runtime::watcher::Event};
use nave_crds::{ClusterAssignment, EdgeCluster};
use nave_runtime::admin::SharedRegistry;
use serde_json::json;

use super::*;
use crate::watch::testing;

/// A cluster that is asked to serve by a policy which is gone.
fn orphaned() -> (EdgeCluster, ClusterAssignment) {
    let cluster = json!({"metadata": {"name": "a"}, "spec": {"accepted": true}});
    let entry = json!({
        "namespace": "vision", "policy": "gone", "model": "m", "version": "1", "action": "Serve",
        "manifestDigest": "sha256:1",
    });
    let assignment = json!({"metadata": {"name": "a"}, "spec": {"generation": 3, "entries": [entry]}});
    (serde_json::from_value(cluster).unwrap(), serde_json::from_value(assignment).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_give_way_while_assignments_are_written_and_no_longer() {
    let (cluster, assignment) = orphaned();
    let precedence = Precedence::default();
    let gives_way = |precedence: &Precedence| precedence.give_way().now_or_never().is_none();
    let written = Arc::new(Mutex::new(Vec::new()));
    let store = {
        let (precedence, written, assignment) =
            (precedence.clone(), Arc::clone(&written), assignment.clone());
        move |request: http::Request<Body>| {
            written.lock().unwrap().push((request.uri().path().to_owned(), gives_way(&precedence)));
            let stored = Body::from(serde_json::to_vec(&assignment).unwrap());
            async { Ok::<_, Infallible>(http::Response::new(stored)) }
        }
    };
    let (mut world, mut stores) = testing::world();
    world.client = Client::new(tower::service_fn(store), "default");
    stores.clusters.apply_watcher_event(&Event::Apply(cluster));
    stores.assignments.apply_watcher_event(&Event::Apply(assignment));
    let long = Duration::from_secs(3600);
    let mut planner = Planner::new(Term {
        metrics: Metrics::register(&SharedRegistry::default(), world.clone()),
        world,
        leadership: Leadership::held_for(long),
        instance: "hub-0".into(),
        lease_duration: long,
        precedence: precedence.clone(),
    });
    assert!(!gives_way(&precedence));
    planner.round().await;
    let written = written.lock().unwrap();
    assert_eq!(*written, [("/apis/nave.dev/v1alpha1/clusterassignments/a".to_owned(), true)]);
    assert!(!gives_way(&precedence), "the assignments are written");
}
