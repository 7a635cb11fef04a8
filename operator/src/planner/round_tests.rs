//! Tests of a round: what is sent to the API server, and what others are told meanwhile.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use futures::FutureExt as _;
use kube::{Client, client::Body, runtime::watcher::Event};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
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

/// What the API server was asked, in order, as `METHOD path`.
type Asked = Arc<Mutex<Vec<String>>>;

/// An API server that notes what it is asked and answers with a status and an object.
fn server(
    asked: &Asked,
    answer: impl Fn(&str, &serde_json::Value) -> (u16, serde_json::Value) + Clone + Send + 'static,
) -> Client {
    let asked = Arc::clone(asked);
    let serve = move |request: http::Request<Body>| {
        let (asked, answer) = (Arc::clone(&asked), answer.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            asked.lock().unwrap().push(line.clone());
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, object) = answer(&line, &body);
            let body = Body::from(serde_json::to_vec(&object).unwrap());
            Ok::<_, Infallible>(http::Response::builder().status(status).body(body).unwrap())
        }
    };
    Client::new(tower::service_fn(serve), "default")
}

fn planner(world: World, precedence: &Precedence) -> Planner {
    let long = Duration::from_secs(3600);
    Planner::new(Term {
        metrics: Metrics::register(&SharedRegistry::default(), world.clone()),
        world,
        leadership: Leadership::held_for(long),
        instance: "hub-0".into(),
        lease_duration: long,
        precedence: precedence.clone(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_give_way_while_assignments_are_written_and_no_longer() {
    let (cluster, assignment) = orphaned();
    let precedence = Precedence::default();
    let gives_way = |precedence: &Precedence| precedence.give_way().now_or_never().is_none();
    let (asked, gave_way) = (Asked::default(), Arc::new(Mutex::new(Vec::new())));
    let answer = {
        let (precedence, gave_way, assignment) =
            (precedence.clone(), Arc::clone(&gave_way), assignment.clone());
        move |_: &str, _: &serde_json::Value| {
            gave_way.lock().unwrap().push(gives_way(&precedence));
            (200, json!(assignment))
        }
    };
    let (mut world, mut stores) = testing::world();
    world.client = server(&asked, answer);
    stores.clusters.apply_watcher_event(&Event::Apply(cluster));
    stores.assignments.apply_watcher_event(&Event::Apply(assignment));
    let mut planner = planner(world, &precedence);
    assert!(!gives_way(&precedence));
    planner.round().await;
    assert_eq!(*asked.lock().unwrap(), ["PATCH /apis/nave.dev/v1alpha1/clusterassignments/a"]);
    assert_eq!(*gave_way.lock().unwrap(), [true]);
    assert!(!gives_way(&precedence), "the assignments are written");
}

const STATUS: &str = "PATCH /apis/nave.dev/v1alpha1/namespaces/vision/placementpolicies/p/status";
const TOLD: &str = "POST /apis/nave.dev/v1alpha1/clusterassignments";

/// A hub that starts in between has to know which run a cluster was told in.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_not_be_stored_tells_nobody() {
    let cluster = json!({
        "metadata": {"name": "a", "uid": "u-1"}, "spec": {"accepted": true},
        "status": {"conditions": [{"type": "Connected", "status": "True", "reason": "SessionOpen", "message": "",
            "lastTransitionTime": "2026-11-01T00:00:00Z"}]},
    });
    let version = json!({
        "metadata": {"namespace": "vision", "name": "m-1"},
        "spec": {"model": "m", "version": "1", "source": {"s3": {"bucket": "b", "prefix": "p"}}},
        "status": {"manifestDigest": "sha256:1", "sizeBytes": 1, "conditions": [{"type": "Ready", "status": "True",
            "reason": "Resolved", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z"}]},
    });
    let policy = json!({
        "metadata": {"namespace": "vision", "name": "p", "generation": 1},
        "spec": {"model": {"name": "m", "version": "1"}},
    });
    let (mut world, mut stores) = testing::world();
    let cluster: EdgeCluster = serde_json::from_value(cluster).unwrap();
    let version: ModelVersion = serde_json::from_value(version).unwrap();
    stores.clusters.apply_watcher_event(&Event::Apply(cluster));
    stores.versions.apply_watcher_event(&Event::Apply(version));
    let read: PlacementPolicy = serde_json::from_value(policy.clone()).unwrap();
    stores.policies.apply_watcher_event(&Event::Apply(read));
    let (asked, refusals) = (Asked::default(), Arc::new(Mutex::new(1)));
    let answer = move |line: &str, body: &serde_json::Value| {
        let mut refusals = refusals.lock().unwrap();
        match line {
            STATUS if *refusals > 0 => {
                *refusals -= 1;
                (
                    409,
                    json!({"kind": "Status", "status": "Failure", "code": 409, "message": "x", "reason": "Conflict"}),
                )
            }
            STATUS => {
                let mut stored = policy.clone();
                stored["status"] = body[1]["value"].clone();
                (200, stored)
            }
            _ => (201, body.clone()),
        }
    };
    world.client = server(&asked, answer);
    let mut planner = planner(world, &Precedence::default());
    let again = planner.round().await;
    assert_eq!(*asked.lock().unwrap(), [STATUS], "the run was not stored");
    assert!(again <= Instant::now() + BACKOFF.0, "and is tried again soon");
    asked.lock().unwrap().clear();
    planner.round().await;
    assert_eq!(asked.lock().unwrap()[..2], [STATUS, TOLD], "first the run, then who is told");
}
