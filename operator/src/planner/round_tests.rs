//! Tests of a round: what is sent to the API server, in which order, and when the next round is.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use kube::runtime::watcher::Event;
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use nave_runtime::admin::SharedRegistry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::watch::{
    Key,
    testing::{self, Asked, Writers, lines, refusal},
};

const LONG: Duration = Duration::from_secs(3600);
const ASSIGNMENT: &str = "PATCH /apis/nave.dev/v1alpha1/clusterassignments/a";
const NEW: &str = "POST /apis/nave.dev/v1alpha1/clusterassignments";
const POLICY: &str = "PATCH /apis/nave.dev/v1alpha1/namespaces/vision/placementpolicies/p/status";
const VERSION: &str = "PATCH /apis/nave.dev/v1alpha1/namespaces/vision/modelversions/m-1/status";

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn condition(type_: &str, status: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z"})
}

fn cluster(name: &str, connected: &str) -> EdgeCluster {
    object(json!({
        "metadata": {"name": name, "uid": "u-1"}, "spec": {"accepted": true},
        "status": {"conditions": [condition("Connected", connected)]},
    }))
}

/// Asked to serve by a policy that is not in the store.
fn orphan() -> ClusterAssignment {
    let entry = json!({
        "namespace": "vision", "policy": "gone", "model": "m", "version": "1", "action": "Serve",
        "manifestDigest": "sha256:1",
    });
    object(json!({"metadata": {"name": "a"}, "spec": {"generation": 3, "entries": [entry]}}))
}

fn policy() -> Value {
    json!({
        "metadata": {"namespace": "vision", "name": "p", "generation": 1},
        "spec": {"model": {"name": "m", "version": "1"}},
    })
}

/// A policy for all, its version, and the clusters; nothing was told yet.
fn unstarted(clusters: &[&str]) -> (World, Writers) {
    let (world, mut stores) = testing::world();
    let version: ModelVersion = object(json!({
        "metadata": {"namespace": "vision", "name": "m-1"},
        "spec": {"model": "m", "version": "1", "source": {"s3": {"bucket": "b", "prefix": "p"}}},
        "status": {"manifestDigest": "sha256:1", "sizeBytes": 1, "conditions": [condition("Ready", "True")]},
    }));
    let policy: PlacementPolicy = object(policy());
    for name in clusters {
        stores.clusters.apply_watcher_event(&Event::Apply(cluster(name, "True")));
    }
    stores.versions.apply_watcher_event(&Event::Apply(version));
    stores.policies.apply_watcher_event(&Event::Apply(policy));
    (world, stores)
}

/// What an API server answers that stores everything.
fn stored(line: &str, body: &Value) -> (u16, Value) {
    match line {
        POLICY => {
            let mut stored = policy();
            stored["status"] = body[1]["value"].clone();
            (200, stored)
        }
        NEW => (201, body.clone()),
        ASSIGNMENT => (200, json!(orphan())),
        _ => (
            200,
            json!({"metadata": {"name": "m-1"}, "spec": {"model": "m", "version": "1",
            "source": {"s3": {"bucket": "b", "prefix": "p"}}}}),
        ),
    }
}

fn term(world: World, leads_for: Duration, precedence: &Precedence) -> Term {
    Term {
        metrics: Metrics::register(&SharedRegistry::default(), world.clone()),
        world,
        leadership: Leadership::held_for(leads_for),
        instance: "hub-0".into(),
        lease_duration: LONG,
        precedence: precedence.clone(),
    }
}

fn planner(world: World) -> Planner {
    Planner::new(term(world, LONG, &Precedence::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_give_way_while_assignments_are_written_and_no_longer() {
    let precedence = Precedence::default();
    let gives_way = |precedence: &Precedence| precedence.give_way().now_or_never().is_none();
    let (asked, gave_way) = (Asked::default(), Arc::new(Mutex::new(Vec::new())));
    let (mut world, mut stores) = testing::world();
    world.client = testing::server(&asked, {
        let (precedence, gave_way) = (precedence.clone(), Arc::clone(&gave_way));
        move |line, body| {
            gave_way.lock().unwrap().push(gives_way(&precedence));
            stored(line, body)
        }
    });
    stores.clusters.apply_watcher_event(&Event::Apply(cluster("a", "True")));
    stores.assignments.apply_watcher_event(&Event::Apply(orphan()));
    let mut planner = Planner::new(term(world, LONG, &precedence));
    assert!(!gives_way(&precedence));
    planner.round().await;
    assert_eq!(lines(&asked), [ASSIGNMENT]);
    assert_eq!(*gave_way.lock().unwrap(), [true]);
    assert!(!gives_way(&precedence), "the assignments are written");
}

/// A hub that starts in between has to know which run a cluster was told in.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_not_be_stored_tells_nobody_and_is_tried_again() {
    for code in [409, 500] {
        let (mut world, _stores) = unstarted(&["a"]);
        let (asked, refusals) = (Asked::default(), Arc::new(Mutex::new(1)));
        world.client = testing::server(&asked, move |line, body| {
            let mut refusals = refusals.lock().unwrap();
            if line == POLICY && *refusals > 0 {
                *refusals -= 1;
                return refusal(code);
            }
            stored(line, body)
        });
        let mut planner = planner(world);
        let again = planner.round().await;
        assert_eq!(lines(&asked), [POLICY], "{code}: the run was not stored");
        assert!(again <= Instant::now() + BACKOFF.0, "{code}: and is tried again soon");
        planner.round().await;
        assert_eq!(lines(&asked)[..2], [POLICY, NEW], "{code}: first the run, then who is told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_could_not_be_stored_is_tried_again() {
    for code in [409, 422, 500] {
        let (mut world, mut stores) = testing::world();
        let asked = Asked::default();
        world.client = testing::server(&asked, move |_, _| refusal(code));
        stores.clusters.apply_watcher_event(&Event::Apply(cluster("a", "True")));
        stores.assignments.apply_watcher_event(&Event::Apply(orphan()));
        let again = planner(world).round().await;
        assert_eq!(lines(&asked), [ASSIGNMENT]);
        assert!(again <= Instant::now() + BACKOFF.0, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_leads_no_longer_writes_nothing() {
    let (mut world, _stores) = unstarted(&["a"]);
    let asked = Asked::default();
    world.client = testing::server(&asked, stored);
    Planner::new(term(world, Duration::ZERO, &Precedence::default())).round().await;
    assert_eq!(lines(&asked), [""; 0]);
}

/// A cluster that is not listed yet is not one that was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_planned_before_everything_was_listed() {
    let (mut world, mut stores) = testing::world();
    let asked = Asked::default();
    world.client = testing::server(&asked, stored);
    stores.clusters.apply_watcher_event(&Event::Apply(cluster("a", "True")));
    stores.assignments.apply_watcher_event(&Event::Apply(orphan()));
    let stop = CancellationToken::new();
    let term = term(world.clone(), LONG, &Precedence::default());
    let running = tokio::spawn(term.run(stop.clone()));
    for kind in Kind::ALL {
        tokio::time::sleep(DEBOUNCE * 3).await;
        assert_eq!(lines(&asked), [""; 0], "before {kind:?}");
        world.listed(kind);
    }
    while lines(&asked).is_empty() {
        tokio::time::sleep(DEBOUNCE).await;
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unreadable_policy_placed_stays() {
    let (mut world, mut stores) = testing::world();
    let asked = Asked::default();
    world.client = testing::server(&asked, stored);
    stores.clusters.apply_watcher_event(&Event::Apply(cluster("a", "True")));
    stores.assignments.apply_watcher_event(&Event::Apply(orphan()));
    world.unreadable(Key { kind: Kind::Policy, namespace: "vision".into(), name: "gone".into() });
    planner(world).round().await;
    assert_eq!(lines(&asked), [""; 0]);
}

fn changed(kind: Kind, name: &str) -> Change {
    Change::Object(Key { kind, namespace: "".into(), name: name.into() })
}

/// Spokes go on reporting, and each report is a plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_gone_but_not_for_the_watch_is_not_asked_for_at_each_report() {
    let (mut world, mut stores) = unstarted(&["a", "b", "c"]);
    let (asked, gone) = (Asked::default(), Arc::new(Mutex::new(false)));
    let is_gone = Arc::clone(&gone);
    world.client = testing::server(&asked, move |line, body| {
        if line == POLICY && *is_gone.lock().unwrap() { refusal(404) } else { stored(line, body) }
    });
    let mut planner = planner(world);
    planner.round().await;
    lines(&asked);
    *gone.lock().unwrap() = true;
    planner.policy_pace = Pace::new();
    for (name, expected) in [("a", &[POLICY][..]), ("b", &[])] {
        stores.clusters.apply_watcher_event(&Event::Apply(cluster(name, "False")));
        planner.observed.take(&changed(Kind::Cluster, name));
        planner.round().await;
        assert_eq!(lines(&asked), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_move_again_at_once_are_written_later() {
    let (mut world, mut stores) = unstarted(&["a", "b"]);
    let asked = Asked::default();
    world.client = testing::server(&asked, stored);
    let mut planner = planner(world);
    planner.round().await;
    let mut told = asked.lock().unwrap().iter().map(|(_, body)| body.clone()).collect::<Vec<_>>();
    told.retain(|body| body["metadata"]["name"] == "a");
    assert_eq!(lines(&asked), [POLICY, NEW, NEW, VERSION]);
    // As if both had been written in a minute, however slow this test is.
    let in_a_minute = Instant::now() + Duration::from_secs(60);
    planner.policy_pace.wrote(&PolicyKey::new("vision", "p"), in_a_minute);
    planner.version_pace.wrote(&("vision".into(), "m".into(), "1".into()), in_a_minute);
    let soon = in_a_minute + pace::LEAST_BETWEEN;
    // One that is told cannot be reached any more: only the policy counts that.
    stores.clusters.apply_watcher_event(&Event::Apply(cluster("b", "False")));
    planner.observed.take(&changed(Kind::Cluster, "b"));
    let again = planner.round().await;
    assert_eq!(lines(&asked), [""; 0]);
    assert!(again <= soon, "the policy's");
    // The other serves: the version counts it too.
    let mut serving = told.remove(0);
    serving["status"] = json!({"observedGeneration": 1, "entries": [{
        "namespace": "vision", "model": "m", "version": "1", "phase": "Serving", "digest": "sha256:1",
        "since": "2026-11-01T00:00:00Z"}]});
    stores.assignments.apply_watcher_event(&Event::Apply(object(serving)));
    planner.observed.take(&changed(Kind::Assignment, "a"));
    let again = planner.round().await;
    assert!(!lines(&asked).contains(&VERSION.to_owned()));
    assert!(again <= soon, "the version's");
    planner.version_pace = Pace::new();
    planner.round().await;
    assert!(lines(&asked).contains(&VERSION.to_owned()), "the minute is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_could_not_be_written_are_written_with_the_next_round() {
    let (mut world, _stores) = unstarted(&["a"]);
    let (asked, failing) = (Asked::default(), Arc::new(Mutex::new(true)));
    let fails = Arc::clone(&failing);
    world.client = testing::server(&asked, move |line, body| match line {
        VERSION if *fails.lock().unwrap() => refusal(500),
        _ => stored(line, body),
    });
    let mut planner = planner(world);
    planner.round().await;
    assert_eq!(lines(&asked), [POLICY, NEW, VERSION]);
    *failing.lock().unwrap() = false;
    planner.version_pace = Pace::new();
    planner.round().await;
    assert_eq!(lines(&asked), [VERSION], "nothing else changed since");
}
