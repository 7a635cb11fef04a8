//! Fleets to plan for: clusters, versions and policies of any number, and what spokes report who do as they are told.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nave_crds::{
    Action, ClusterAssignment, ClusterAssignmentSpec, EdgeCluster, ModelVersion, ModelVersionClusters,
    PlacementPolicy,
};
use nave_operator_plan::{Plan, World};
use serde_json::{Value, json};

/// What every policy of a fleet says besides its model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Every cluster, at once.
    Everywhere,
    /// Every cluster, a tenth first; the rest waits for an approval.
    UnderWay,
    /// Every cluster, a tenth at a time, and a fifth of each of 97 lines; those told are on their way.
    InTurn,
    /// Every cluster, a tenth at a time; the first tenth failed a second version and is on its way back.
    Back,
    /// The clusters of one region of ten, at once.
    Region,
    /// 100 of all clusters, spread over regions, those with the fewest models first.
    Hundred,
    /// The same, ten of them first; the others wait for an approval.
    Canary,
    /// 100 of all clusters, those with the most room first.
    Roomiest,
    /// The same, and one with more room takes another's place.
    Movable,
    /// Every cluster, at once, those with the most room first.
    Ranked,
    /// 100 of all clusters, spread over regions, those with the most room first.
    Spread,
    /// The same; none is told yet.
    Untold,
    /// The same as `Spread`, and one with more room takes another's place.
    SpreadMovable,
    /// All for one model, each for the clusters of one region of ten.
    Neighbours,
    /// All for one model, each for 100 of all clusters, those with the most room first.
    Rivals,
}

/// Of `Kind::Hundred`.
fn hundred(number: usize) -> Value {
    json!({
        "numberOfClusters": 100,
        "spread": [{"topologyKey": "region", "maxSkew": 1}],
        "prioritizers": [{"by": "Balance"}, {"by": "AcceleratorMemory", "weight": 2}],
        // Eight of them among many policies.
        "cel": [format!("cluster.capacity.cpu > {}", number % 8)],
    })
}

/// Of `Kind::Spread`.
fn spread(more: &Value) -> Value {
    json!({
        "numberOfClusters": 100,
        "spread": [{"topologyKey": "region", "maxSkew": 1}],
        "prioritizers": [{"by": "StorageAvailable"}, more],
    })
}

impl Kind {
    fn model(self, number: usize) -> String {
        format!("m{}", if matches!(self, Self::Neighbours | Self::Rivals) { 0 } else { number })
    }

    /// Whether some clusters are not chosen for others that are better.
    pub(crate) fn is_of_the_best(self) -> bool {
        (self.is_by_room() && self != Self::Ranked)
            || matches!(self, Self::Hundred | Self::Canary | Self::Rivals)
    }

    /// Whether those with the most room come first, and no other policy has them.
    pub(crate) fn is_by_room(self) -> bool {
        matches!(
            self,
            Self::Roomiest | Self::Movable | Self::Ranked | Self::Spread | Self::Untold | Self::SpreadMovable
        )
    }

    fn spec(self, number: usize) -> Value {
        match self {
            Self::Everywhere => json!({}),
            Self::UnderWay => {
                json!({"rollout": {"steps": [{"clusters": "10%", "approval": true}, {"clusters": "100%"}]}})
            }
            Self::InTurn => json!({"rollout": {
                "maxConcurrent": "10%", "maxFailures": "100%", "progressDeadline": "4h",
                "disruptionBudget": {"groupBy": "line", "maxUnavailable": "20%"},
            }}),
            Self::Back => json!({"rollout": {
                "maxConcurrent": "10%", "onFailure": "Rollback", "progressDeadline": "4h",
            }}),
            Self::Region | Self::Neighbours => json!({"placement": {
                "clusterSelector": {"matchLabels": {"region": format!("r{}", number % 10)}},
            }}),
            Self::Hundred => json!({"placement": hundred(number)}),
            Self::Canary => json!({
                "placement": hundred(number),
                "rollout": {"steps": [{"clusters": 10, "approval": true}, {"clusters": "100%"}]},
            }),
            Self::Roomiest | Self::Rivals => json!({"placement": {
                "numberOfClusters": 100,
                "prioritizers": [{"by": "StorageAvailable"}, {"by": "AcceleratorMemory", "weight": 2}],
            }}),
            Self::Ranked => json!({"placement": {"prioritizers": [{"by": "StorageAvailable"}]}}),
            Self::Spread => json!({"placement": spread(&json!({"by": "AcceleratorMemory", "weight": 2}))}),
            Self::Untold => json!({
                "placement": spread(&json!({"by": "AcceleratorMemory", "weight": 2})),
                "rollout": {"paused": true},
            }),
            Self::SpreadMovable => json!({"placement": spread(&json!({"by": "Steady", "weight": 5}))}),
            Self::Movable => json!({"placement": {
                "numberOfClusters": 100,
                "prioritizers": [{"by": "StorageAvailable"}, {"by": "Steady", "weight": 5}],
            }}),
        }
    }
}

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn name(number: usize) -> String {
    format!("site-{number:06}")
}

/// A world in which nothing was placed yet.
pub(crate) fn unplaced(clusters: usize, policies: usize, kind: Kind) -> World {
    World::new(
        (0..clusters).map(|number| cluster(number, true)),
        (0..policies).map(version),
        (0..policies).map(|number| policy(number, kind)),
        [],
    )
}

/// The same once every rollout is complete, or goes on by none of its own steps.
pub(crate) fn settled(clusters: usize, policies: usize, kind: Kind) -> World {
    let mut world = unplaced(clusters, policies, kind);
    let mut now = start();
    settle(&mut world, &mut now, if kind == Kind::InTurn { "Pulling" } else { "Serving" });
    if kind == Kind::Back {
        for number in 0..policies {
            world.upsert_version(another(number));
        }
        for policy in world.policies().values().cloned().collect::<Vec<_>>() {
            let mut policy = PlacementPolicy::clone(&policy);
            policy.spec.model.version = "2".to_owned();
            world.upsert_policy(Arc::new(policy));
        }
        let plan = nave_operator_plan::plan(&world, now);
        now += SignedDuration::from_secs(1);
        store(&mut world, &plan, now, "Failed");
        settle(&mut world, &mut now, "Pulling");
    }
    world
}

fn settle(world: &mut World, now: &mut Timestamp, phase: &str) {
    for _ in 0..20 {
        let plan = nave_operator_plan::plan(world, *now);
        if plan.assignments.is_empty() && plan.policy_status.is_empty() {
            return;
        }
        *now += SignedDuration::from_secs(1);
        store(world, &plan, *now, phase);
    }
    panic!("the fleet does not settle");
}

/// Stores a plan, and lets every spoke get so far with what it was told.
fn store(world: &mut World, plan: &Plan, now: Timestamp, phase: &str) {
    for (name, spec) in &plan.assignments {
        world.upsert_assignment(Arc::new(served(
            name.as_str(),
            ClusterAssignment::new(name.as_str(), ClusterAssignmentSpec::clone(spec)),
            now,
            phase,
        )));
    }
    for (key, status) in &plan.policy_status {
        if let Some(policy) = world.policies().get(key) {
            let mut policy = (**policy).clone();
            policy.status = Some(status.clone());
            world.upsert_policy(Arc::new(policy));
        }
    }
}

fn served(name: &str, mut assignment: ClusterAssignment, now: Timestamp, phase: &str) -> ClusterAssignment {
    let rows: Vec<Value> = assignment
        .spec
        .entries
        .iter()
        .filter(|entry| entry.action == Action::Serve)
        .map(|entry| row(entry.namespace.as_str(), &entry.model, &entry.version, phase, now))
        .collect();
    let status = json!({"observedGeneration": assignment.spec.generation, "entries": rows});
    assignment.status = serde_json::from_value(status).unwrap_or_else(|error| panic!("{name}: {error}"));
    assignment
}

fn row(namespace: &str, model: &str, version: &str, phase: &str, since: Timestamp) -> Value {
    json!({"namespace": namespace, "model": model, "version": version, "phase": phase, "since": since})
}

/// What a cluster has, with one row of its report changed: the first version that it serves, or no longer does.
pub(crate) fn reported(stored: &ClusterAssignment, phase: nave_crds::Phase) -> Arc<ClusterAssignment> {
    let mut assignment = stored.clone();
    for row in assignment.status.iter_mut().flat_map(|status| &mut status.entries).take(1) {
        row.phase = phase;
    }
    Arc::new(assignment)
}

pub(crate) fn cluster(number: usize, connected: bool) -> Arc<EdgeCluster> {
    with_room(number, connected, (1 << 39) + (number as u64 % 31))
}

/// One that has so many bytes left.
pub(crate) fn with_room(number: usize, connected: bool, bytes: u64) -> Arc<EdgeCluster> {
    let object = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster",
        "metadata": {"name": name(number), "labels": {
            "region": format!("r{}", number % 10), "site-type": "bridge", "line": (number % 97).to_string()}},
        "spec": {"accepted": true},
        "status": {
            "facts": {"line": (number % 97).to_string()},
            "capacity": {"architecture": "amd64", "cpu": 8, "memoryBytes": 64_u64 << 30,
                "storage": {"totalBytes": 1_u64 << 40, "availableBytes": bytes},
                "accelerators": [{"vendor": "nvidia", "model": "l4", "usable": true, "memoryBytes": (8 + number as u64 % 5) << 30}],
                "runtimes": [{"name": "triton", "ready": true}]},
            "conditions": [{"type": "Connected", "status": if connected { "True" } else { "False" }, "reason": "Session",
                "message": "", "lastTransitionTime": "2026-09-01T00:00:00Z"}],
        },
    });
    Arc::new(serde_json::from_value(object).unwrap_or_else(|error| panic!("{error}")))
}

fn version(number: usize) -> Arc<ModelVersion> {
    let object = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "ModelVersion",
        "metadata": {"name": format!("m{number}-1"), "namespace": "vision"},
        "spec": {"model": format!("m{number}"), "version": "1", "source": {"s3": {"bucket": "models", "prefix": "p"}},
            "requirements": {"architectures": ["amd64"], "accelerator": {"vendor": "nvidia", "minMemory": "8Gi"}}},
        "status": {"manifestDigest": format!("sha256:{number:064x}"), "sizeBytes": 1_u64 << 30,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Resolved", "message": "",
                "lastTransitionTime": "2026-09-01T00:00:00Z"}]},
    });
    Arc::new(serde_json::from_value(object).unwrap_or_else(|error| panic!("{error}")))
}

/// A policy's version, once it is written on how many clusters it is.
pub(crate) fn counted(number: usize, serving: i64) -> Arc<ModelVersion> {
    let mut version = ModelVersion::clone(&version(number));
    if let Some(status) = &mut version.status {
        status.clusters = Some(ModelVersionClusters { serving, ..ModelVersionClusters::default() });
    }
    Arc::new(version)
}

/// Another version of a policy's model.
pub(crate) fn another(number: usize) -> Arc<ModelVersion> {
    let mut version = ModelVersion::clone(&version(number));
    version.metadata.name = Some(format!("m{number}-2"));
    version.spec.version = "2".to_owned();
    Arc::new(version)
}

fn policy(number: usize, kind: Kind) -> Arc<PlacementPolicy> {
    let mut object = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy",
        "metadata": {"name": format!("p{number:03}"), "namespace": "vision", "generation": 1,
            "creationTimestamp": "2026-09-01T00:00:00Z"},
        "spec": {"model": {"name": kind.model(number), "version": "1"}},
    });
    if let (Some(spec), Value::Object(more)) = (object["spec"].as_object_mut(), kind.spec(number)) {
        spec.extend(more);
    }
    Arc::new(serde_json::from_value(object).unwrap_or_else(|error| panic!("{error}")))
}
