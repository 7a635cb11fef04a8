//! Properties: what holds in every world, not only in the scenarios'. Worlds are small and odd: few clusters, every gate and
//! budget, spokes that report anything at any time.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

mod follow;
mod stage;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use follow::follow;
use jiff::SignedDuration;
use nave_crds::PlacementPolicyStatus;
use nave_operator_plan::{ExclusionReason, Plan, Planner, PolicyReport, World, check, plan};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestCaseError},
};
use stage::Stage;

/// A report is older than the plan that reads it: within one second nobody could tell which came first.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// One thing that happens, as a command of the scenarios.
fn happening() -> impl Strategy<Value = String> {
    let cluster = || (0..5u8).prop_map(|n| format!("c{n}"));
    let version = || prop::sample::select(vec!["1", "2", "3"]);
    let phase = prop::sample::select(vec!["Pulling", "Staged", "Serving", "Failed", "Rejected", "-"]);
    let namespace = prop::sample::select(vec!["", "", "other/"]);
    let word = prop::sample::select(vec![
        "region=a",
        "region=b",
        "region-",
        "ring=early",
        "ring-",
        "unaccepted",
        "taint=t=1:NoSelect",
        "taint=t=1:NoSelectIfNew",
        "taint=s=1:PreferNoSelect",
        "untainted",
        "free=5",
        "free=50",
        "arch=amd64",
        "cost=1",
        "cost=5",
        "runtime=onnx",
        "runtime=vllm",
        "runtime=onnx+vllm",
    ]);
    let runtime = prop::sample::select(vec!["onnx", "vllm", "files"]);
    let policy = || prop::sample::select(vec!["p", "q", "other/p"]);
    prop_oneof![
        3 => (0..40u32).prop_map(|minutes| format!("at +{minutes}m")),
        2 => (cluster(), word).prop_map(|(name, word)| format!("cluster {name} {word}")),
        2 => cluster().prop_map(|name| format!("connect {name}")),
        2 => cluster().prop_map(|name| format!("disconnect {name}")),
        1 => cluster().prop_map(|name| format!("gone {name}")),
        4 => (cluster(), namespace, version(), phase)
            .prop_map(|(name, namespace, version, phase)| format!("report {name} {namespace}m@{version} {phase}")),
        1 => (cluster(), version(), 0..2u8).prop_map(|(name, version, words)| format!("says {name} m@{version} {words}")),
        4 => cluster().prop_map(|name| format!("obey {name}")),
        2 => Just("obey".to_owned()),
        2 => cluster().prop_map(|name| format!("unwritten {name}")),
        2 => (policy(), version()).prop_map(|(name, version)| format!("policy {name} version={version}")),
        1 => (policy(), runtime).prop_map(|(name, runtime)| format!("policy {name} runtime={runtime}")),
        1 => (policy(), -1..2i32).prop_map(|(name, priority)| format!("policy {name} priority={priority}")),
        2 => (policy(), 1..3u8, 1..4u8).prop_map(|(name, step, generation)| format!("annotate {name} approve={step}/{generation}")),
        1 => (policy(), 1..4u8).prop_map(|(name, generation)| format!("annotate {name} resume={generation}")),
        1 => (policy(), 0..3u8).prop_map(|(name, value)| format!("annotate {name} retry={value}")),
        1 => (version(), prop::sample::select(vec!["", "unready", "withdrawn", "size=10"]))
            .prop_map(|(version, word)| format!("version m {version} {word}")),
        1 => policy().prop_map(|name| format!("delete {name}")),
    ]
}

/// A policy's spec: any of the gates, budgets and placements.
fn spec() -> impl Strategy<Value = String> {
    let placement = prop::sample::select(vec![
        "{}",
        "{numberOfClusters: 2}",
        "{clusterSelector: {matchLabels: {ring: early}}}",
        "{numberOfClusters: 3, spread: [{topologyKey: region}]}",
        // Balance looks at what is stored before a plan: where it outweighs Steady, the plan after a plan may differ.
        "{numberOfClusters: 2, spread: [{topologyKey: region, whenUnsatisfiable: SelectAnyway}], prioritizers: [{by: Steady, weight: 3}, {by: Balance}]}",
        "{numberOfClusters: 2, prioritizers: [{by: Steady}, {by: Label, key: cost, weight: 2}]}",
        "{numberOfClusters: 2, prioritizers: [{by: Balance}], tolerations: [{key: t, operator: Exists}]}",
        "{cel: [\"cluster.labels.region == 'a'\"]}",
        "{cel: [\"cluster.\"]}",
    ]);
    let rollout = prop::sample::select(vec![
        "{}",
        "{steps: [{clusters: 1, soak: 10m, approval: true}, {clusters: 60%}]}",
        "{steps: [{clusters: 1, clusterSelector: {matchLabels: {ring: early}}}], maxConcurrent: 1, maxFailures: 1}",
        "{prefetch: true, maxConcurrent: 2, onFailure: Rollback}",
        "{onFailure: Rollback, maxConcurrent: 1, progressDeadline: 20m, steps: [{clusters: 2}]}",
        "{onFailure: Rollback, disruptionBudget: {groupBy: region, maxUnavailable: 1}}",
        "{windows: [{start: \"10:00\", end: \"10:45\", timeZone: Europe/Paris}], prefetch: true}",
        "{paused: true, prefetch: true}",
        "{maxFailures: 50%, disruptionBudget: {groupBy: region, maxUnavailable: 50%}}",
        "{prefetch: true, maxFailures: 1, onFailure: Rollback, steps: [{clusters: 1, soak: 5m}, {clusters: 2, approval: true}], disruptionBudget: {groupBy: ring, maxUnavailable: 1}}",
        "{maxConcurrent: 1, progressDeadline: 30m, maxFailures: 3, windows: [{start: \"10:15\", end: \"11:15\", timeZone: UTC}, {start: \"12:00\", end: \"13:00\", timeZone: UTC}]}",
    ]);
    (placement, rollout)
        .prop_map(|(placement, rollout)| format!("  placement: {placement}\n  rollout: {rollout}\n"))
}

/// The same of a policy that fetches first.
fn fetching() -> impl Strategy<Value = String> {
    let rollout = prop::sample::select(vec![
        "{prefetch: true}",
        "{prefetch: true, maxConcurrent: 1, maxFailures: 2}",
        "{prefetch: true, steps: [{clusters: 1}, {clusters: 2, soak: 10m}], maxFailures: 100%}",
    ]);
    rollout.prop_map(|rollout| format!("  rollout: {rollout}\n"))
}

/// What happens around weights: sites come and go, with and without them.
fn weights() -> impl Strategy<Value = String> {
    let cluster = || (0..6u8).prop_map(|n| format!("c{n}"));
    let version = || prop::sample::select(vec!["1", "1", "2"]);
    let phase = prop::sample::select(vec!["Pulling", "Staged", "Serving", "Failed", "-"]);
    prop_oneof![
        3 => cluster().prop_map(|name| format!("cluster {name} region=a")),
        2 => cluster().prop_map(|name| format!("connect {name}")),
        2 => cluster().prop_map(|name| format!("disconnect {name}")),
        4 => (cluster(), version(), phase).prop_map(|(name, version, phase)| format!("report {name} m@{version} {phase}")),
        4 => cluster().prop_map(|name| format!("obey {name}")),
        2 => (1..20u32).prop_map(|minutes| format!("at +{minutes}m")),
        1 => version().prop_map(|version| format!("policy p version={version}")),
    ]
}

fn opening(specs: &[String]) -> Stage {
    let mut stage = Stage::default();
    // Kubernetes stores whole seconds, and a clock knows no such thing.
    stage.now += SignedDuration::from_millis(300);
    for command in [
        "cluster c0 region=a ring=early",
        "cluster c1 region=a",
        "cluster c2 region=b ring=early",
        "cluster c3",
    ] {
        stage.run(command, "");
    }
    for version in ["1", "2", "3"] {
        stage.run(&format!("version m {version}"), "");
        stage.run(&format!("version other/m {version}"), "");
    }
    for (name, spec) in ["p", "q", "other/p"].iter().zip(specs) {
        stage.run(&format!("policy {name}"), spec);
    }
    stage
}

/// Runs a command that may name what is not there any more.
fn happen(stage: &mut Stage, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let name = words.get(1).copied().unwrap_or_default();
    let known = match words[0] {
        "policy" | "annotate" => {
            let (namespace, name) = name.split_once('/').unwrap_or(("ns", name));
            stage.world.policies().keys().any(|key| key.namespace == namespace && key.name == name)
        }
        _ => true,
    };
    if known {
        stage.run(command, "");
    }
}

/// The same world, with every list that has no order of its own in another one.
fn shuffled(world: &World, by: u64) -> World {
    let clusters = world.clusters().values().map(|cluster| {
        let mut cluster = (**cluster).clone();
        shuffle(&mut cluster.spec.taints, by);
        if let Some(status) = &mut cluster.status {
            shuffle(&mut status.conditions, by);
            status.capacity.iter_mut().for_each(|capacity| shuffle(&mut capacity.runtimes, by));
        }
        Arc::new(cluster)
    });
    let assignments = world.assignments().values().map(|assignment| {
        let mut assignment = (**assignment).clone();
        shuffle(&mut assignment.spec.entries, by);
        assignment.status.iter_mut().for_each(|status| shuffle(&mut status.entries, by));
        Arc::new(assignment)
    });
    let (versions, policies) = (world.versions().values(), world.policies().values());
    World::new(clusters.rev(), versions.rev().cloned(), policies.rev().cloned(), assignments.rev())
}

fn shuffle<T: Debug>(list: &mut [T], by: u64) {
    list.sort_by_cached_key(|item| {
        let mut hasher = DefaultHasher::new();
        (by, format!("{item:?}")).hash(&mut hasher);
        hasher.finish()
    });
}

/// Which cluster is asked to serve which model, for whomever.
fn served(world: &World) -> BTreeSet<(String, String)> {
    let entries = world
        .assignments()
        .iter()
        .flat_map(|(name, one)| one.spec.entries.iter().map(move |entry| (name, entry)));
    entries
        .filter(|(_, entry)| entry.action == nave_crds::Action::Serve)
        .map(|(name, entry)| (name.to_string(), entry.model.clone()))
        .collect()
}

/// Plans, stores it, and returns what is planned then: nothing but the reasons.
fn settle(stage: &mut Stage) -> Plan {
    let plan = plan(&stage.world, stage.now);
    stage.store(&plan);
    nave_operator_plan::plan(&stage.world, stage.now)
}

/// A status, but for why clusters are excluded where more are for their room than before: an entry of another policy gave them
/// room as long as it was there.
fn but_for_room(status: &PlacementPolicyStatus, before: &PlacementPolicyStatus) -> PlacementPolicyStatus {
    let too_small = |status: &PlacementPolicyStatus| {
        let row = status.excluded.iter().find(|row| row.reason == ExclusionReason::Storage.as_str());
        row.map_or(0, |row| row.count)
    };
    let mut status = status.clone();
    if too_small(&status) > too_small(before) {
        status.excluded.clone_from(&before.excluded);
        for (one, other) in status.conditions.iter_mut().zip(&before.conditions) {
            if one.type_ == "Placed" {
                one.message.clone_from(&other.message);
            }
        }
    }
    status
}

fn differs(a: &Plan, b: &Plan) -> bool {
    a.report != b.report || !b.assignments.is_empty() || !b.policy_status.is_empty()
}

/// The same worlds in every run, unless `NAVE_SEED` asks for others.
fn seed() -> u64 {
    std::env::var("NAVE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// After every happening: the invariants hold, a plan of a plan changes nothing, the order of the input decides nothing, and a
/// planner that followed every change says the same as one from scratch.
fn goes_through(specs: &[String], story: &[String], order: u64) -> Result<(), TestCaseError> {
    let mut stage = opening(specs);
    let mut before = stage.world.clone();
    let mut follower = Planner::new(&before);
    for command in story {
        happen(&mut stage, command);
        follow(&mut follower, &before, &stage.world);
        stage.now += SECOND;
        let plan = plan(&stage.world, stage.now);
        let problems = check(&stage.world, &plan, stage.now);
        prop_assert!(problems.is_empty(), "after {command}: {problems:#?}");
        prop_assert_eq!(
            &plan,
            &nave_operator_plan::plan(&shuffled(&stage.world, order), stage.now),
            "order after {}",
            command
        );
        let followed = follower.plan(stage.now);
        prop_assert_eq!(&followed.assignments, &plan.assignments, "after {}", command);
        prop_assert_eq!(&followed.policy_status, &plan.policy_status, "after {}", command);
        prop_assert_eq!(&followed.report, &plan.report, "after {}", command);
        prop_assert_eq!(&followed.recheck_at, &plan.recheck_at, "after {}", command);
        before = stage.world.clone();
        stage.store(&plan);
        // It sees what was written before that is lost: what is not written yet has the time of its first decision.
        follow(&mut follower, &before, &stage.world);
        before = stage.world.clone();
        let again = nave_operator_plan::plan(&stage.world, stage.now);
        prop_assert!(
            again.assignments.is_empty(),
            "after {}: {:#?} then {:#?}",
            command,
            plan.assignments,
            again.assignments
        );
        for (key, status) in &again.policy_status {
            let stored = plan.policy_status.get(key).or(before.policies()[key].status.as_ref()).unwrap();
            prop_assert_eq!(&but_for_room(status, stored), stored, "after {}", command);
        }
        prop_assert!(again.events.is_empty());
        prop_assert_eq!(again.recheck_at, plan.recheck_at, "after {}", command);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, rng_seed: RngSeed::Fixed(seed()), failure_persistence: None, ..ProptestConfig::default() })]

    /// What `goes_through` says, of any policies.
    #[test]
    fn whatever_happens(specs in prop::collection::vec(spec(), 3), story in prop::collection::vec(happening(), 1..25), order in any::<u64>()) {
        goes_through(&specs, &story, order)?;
    }

    /// The same of policies that fetch first, with a run under way: of what happens to such a one most is about weights.
    #[test]
    fn fetches_first(specs in prop::collection::vec(fetching(), 3), story in prop::collection::vec(weights(), 1..25), order in any::<u64>()) {
        let begun = ["at +1m", "obey", "at +1m", "obey", "cluster c4 region=b"].map(str::to_owned);
        goes_through(&specs, &[&begun, &*story].concat(), order)?;
    }

    /// Time moving on alone changes nothing before `recheckAt`, and something then; and it takes no model from anybody but
    /// in a rollback.
    #[test]
    fn time_alone(specs in prop::collection::vec(spec(), 3), story in prop::collection::vec(happening(), 1..15), waits in prop::collection::vec(0..300i64, 1..4)) {
        let mut stage = opening(&specs);
        for command in &story {
            happen(&mut stage, command);
            stage.now += SECOND;
            let plan = plan(&stage.world, stage.now);
            stage.store(&plan);
        }
        for minutes in waits {
            let now = settle(&mut stage);
            prop_assert!(now.assignments.is_empty() && now.policy_status.is_empty());
            let mut later = stage.now + SignedDuration::from_mins(minutes);
            if let Some(at) = now.recheck_at {
                prop_assert!(at > stage.now, "recheckAt {at} is not after {}", stage.now);
                let then = plan(&stage.world, at);
                prop_assert!(differs(&now, &then), "nothing changes at recheckAt {at}: {now:#?}");
                later = at + SignedDuration::from_mins(minutes / 10);
                let before = at - SECOND;
                if before >= stage.now {
                    prop_assert!(!differs(&now, &plan(&stage.world, before)), "recheckAt {at}, and {before} differs");
                }
            } else {
                let then = plan(&stage.world, later);
                prop_assert_eq!(&now.report, &then.report, "no recheckAt, and {} differs", later);
                prop_assert!(!differs(&now, &then), "no recheckAt, and {later} differs");
            }
            let before = served(&stage.world);
            stage.now = later;
            let then = plan(&stage.world, stage.now);
            let problems = check(&stage.world, &then, stage.now);
            prop_assert!(problems.is_empty(), "at {later}: {problems:#?}");
            stage.store(&then);
            let after = served(&stage.world);
            for (cluster, model) in before.difference(&after) {
                let sent_back = |report: &Arc<PolicyReport>| report.rolled_back.iter().any(|name| **name == **cluster);
                prop_assert!(then.report.policies.values().any(sent_back), "{cluster} no longer serves {model}");
            }
        }
    }
}
