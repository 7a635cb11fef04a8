//! Rollouts under way, and what happens to them.

use jiff::SignedDuration;
use nave_operator_plan::plan;
use proptest::prelude::*;

use crate::stage::Stage;

/// More clusters than a status names, most of them waiting for their turn at any time.
const CROWD: u8 = 24;

/// What happens while a rollout is under way.
pub(crate) fn happening() -> impl Strategy<Value = String> {
    let cluster = || (1..=CROWD).prop_map(|n| format!("c{n:02}"));
    let word = prop::sample::select(vec![
        "region=a",
        "region=b",
        "region=c",
        "ring=early",
        "ring=late",
        "ring-",
        "taint=s=1:PreferNoSelect",
        "untainted",
        "arch=arm64",
        "arch=amd64",
        "load=3",
        "load=2000",
        "free=4",
        "free=900",
    ]);
    let phase =
        prop::sample::select(vec!["Pulling", "Staged", "Staged", "Serving", "Serving", "Failed", "-"]);
    prop_oneof![
        3 => (cluster(), word).prop_map(|(name, word)| format!("cluster {name} {word}")),
        3 => cluster().prop_map(|name| format!("disconnect {name}")),
        3 => cluster().prop_map(|name| format!("connect {name}")),
        1 => cluster().prop_map(|name| format!("gone {name}")),
        6 => (cluster(), 1..3u8, phase).prop_map(|(name, version, phase)| format!("report {name} m@{version} {phase}")),
        1 => (cluster(), 1..3u8, 0..2u8).prop_map(|(name, version, words)| format!("says {name} m@{version} {words}")),
        6 => cluster().prop_map(|name| format!("obey {name}")),
        2 => Just("obey".to_owned()),
        3 => cluster().prop_map(|name| format!("unwritten {name}")),
        4 => (1..40u8).prop_map(|minutes| format!("at +{minutes}m")),
        1 => (1..40u8).prop_map(|minutes| format!("at +-{minutes}m")),
        2 => (1..4u8, 1..4u8).prop_map(|(step, generation)| format!("annotate p approve={step}/{generation}")),
        1 => (1..4u8).prop_map(|generation| format!("annotate p resume={generation}")),
        1 => (0..3u8).prop_map(|value| format!("annotate p retry={value}")),
        1 => (1..3u8).prop_map(|version| format!("policy p version={version}")),
        1 => prop::sample::select(vec!["version m 2 withdrawn", "version m 2 unready", "version m 2"]).prop_map(str::to_owned),
    ]
}

/// Rollouts in which most wait: for their step, its soak or approval, a slot, their group, a window, the weights.
pub(crate) fn gated() -> impl Strategy<Value = String> {
    let placement = prop::sample::select(vec![
        "{}",
        "{}",
        "{numberOfClusters: 20}",
        "{prioritizers: [{by: Steady}]}",
        "{prioritizers: [{by: Steady}, {by: StorageAvailable, weight: 3}]}",
        "{prioritizers: [{by: StorageAvailable}, {by: Label, key: load}]}",
        "{numberOfClusters: 16, spread: [{topologyKey: region, maxSkew: 2}], prioritizers: [{by: StorageAvailable, weight: -1}, {by: Label, key: load}]}",
    ]);
    let rollout = prop::sample::select(vec![
        "{}",
        "{maxFailures: 100%}",
        "{maxConcurrent: 3, maxFailures: 5}",
        "{steps: [{clusters: 3, soak: 10m, approval: true}, {clusters: 60%, soak: 5m}], maxFailures: 3}",
        "{steps: [{clusters: 100%, clusterSelector: {matchLabels: {ring: early}}, approval: true}, {clusters: 12, approval: true}, {clusters: 50%, clusterSelector: {matchLabels: {ring: late}}, soak: 20m}], maxFailures: 40%}",
        "{steps: [{clusters: 2, clusterSelector: {matchLabels: {ring: early}}}, {clusters: 4, clusterSelector: {matchLabels: {ring: late}}}, {clusters: 8, approval: true}], maxFailures: 40%}",
        "{steps: [{clusters: 10}], maxConcurrent: 4, disruptionBudget: {groupBy: region, maxUnavailable: 1}, maxFailures: 100%}",
        "{disruptionBudget: {groupBy: region, maxUnavailable: 30%}, maxFailures: 4, onFailure: Rollback}",
        "{disruptionBudget: {groupBy: region, maxUnavailable: 0}, maxFailures: 100%}",
        "{prefetch: true, maxConcurrent: 5, maxFailures: 4}",
        "{prefetch: true, steps: [{clusters: 9}], disruptionBudget: {groupBy: region, maxUnavailable: 2}, maxFailures: 100%}",
        "{windows: [{start: \"10:00\", end: \"10:45\", timeZone: UTC}, {start: \"11:15\", end: \"12:00\", timeZone: UTC}], maxConcurrent: 4, maxFailures: 9}",
        "{steps: [{clusters: 5}], onFailure: Rollback, maxFailures: 1}",
        "{paused: true}",
    ]);
    (placement, rollout)
        .prop_map(|(placement, rollout)| format!("  placement: {placement}\n  rollout: {rollout}\n"))
}

/// A fleet that serves one version, or goes on to it, and is told to go on to another.
pub(crate) fn under_way(spec: &str, served: bool) -> Stage {
    let mut stage = Stage::default();
    for n in 1..=CROWD {
        let (region, ring) = (["a", "b", "c"][usize::from(n % 3)], if n % 5 == 0 { "early" } else { "late" });
        stage.run(&format!("cluster c{n:02} region={region} ring={ring} free={}", n * 10), "");
    }
    stage.run("version m 1", "");
    stage.run("version m 2", "");
    stage.run("policy p", if served { "\n" } else { spec });
    for _ in 0..2 {
        let plan = plan(&stage.world, stage.now);
        stage.store(&plan);
        stage.now += SignedDuration::from_secs(1);
        stage.run("obey", "");
    }
    if served {
        stage.run("policy p", &format!("{spec}  model: {{name: m, version: \"2\"}}\n"));
    }
    let plan = plan(&stage.world, stage.now);
    stage.store(&plan);
    stage.now += SignedDuration::from_secs(1);
    stage
}

/// Changes, each with whether what is planned then is stored before the next.
pub(crate) type Story<'a> = &'a [(&'a str, bool)];

/// What it shows, the specs of three policies, and the story. The third is the only one for its model.
pub(crate) type Row<'a> = (&'a str, [&'a str; 3], Story<'a>);

/// Turns that chance takes too seldom.
pub(crate) const RARE: &[Row<'static>] = &[
    (
        "nobody who was told in this run is left, and the gate of prefetch shuts again",
        ["", "", "  rollout: {prefetch: true, steps: [{clusters: 1, soak: 1h}], maxFailures: 100%}"],
        &[("report c3 k@1 -", true), ("gone c1", true)],
    ),
    (
        "the last that began to serve leaves, and the soak of the others ends sooner",
        ["", "", "  rollout: {steps: [{clusters: 100%, soak: 1h}]}"],
        &[("at +30m", true), ("report c7 k@1 Serving", true), ("gone c7", true)],
    ),
    (
        "which of those told a step accounts for depends on the order in which they were told",
        [
            "",
            "",
            "  rollout: {steps: [{clusters: 3}, {clusters: 2, approval: true, clusterSelector: {matchLabels: {region: a}}}]}",
        ],
        &[("disconnect c7", true)],
    ),
    (
        "one that waits comes into the step",
        [
            "",
            "",
            "  rollout: {steps: [{clusters: 100%, soak: 1h, clusterSelector: {matchLabels: {region: a}}}]}",
        ],
        &[("cluster c1 region=a", true)],
    ),
    (
        "a version that was not ready is, and is fetched",
        ["", "", "  rollout: {prefetch: true}"],
        &[("version k 1 unready", true), ("cluster c9 region=a", true), ("version k 1", true)],
    ),
    (
        "everybody at rest waits for a window",
        [
            "",
            "",
            "  rollout: {maxConcurrent: 1, maxFailures: 100%, windows: [{start: \"10:00\", end: \"10:45\", timeZone: UTC}]}",
        ],
        &[("policy r version=2", true), ("at 11:30", true), ("connect c3", true)],
    ),
    (
        "everybody at rest waits for the others of the group, as long as the window is open",
        [
            "",
            "",
            "  rollout: {disruptionBudget: {groupBy: region, maxUnavailable: 1}, windows: [{start: \"10:00\", end: \"10:45\", timeZone: UTC}]}",
        ],
        &[("policy r version=2", true), ("connect c3", true)],
    ),
    (
        "a rollback goes on with those that were at rest before it",
        ["", "", "  rollout: {maxConcurrent: 1, onFailure: Rollback}"],
        &[
            ("policy r version=2", true),
            ("obey c1", true),
            ("obey c2", true),
            ("report c3 k@2 Failed", true),
            ("obey c3", true),
            ("obey c2", true),
        ],
    ),
    (
        "the clock is put back, and one that had used up its time for the last target has some left",
        [
            "",
            "",
            "  rollout: {maxConcurrent: 1, maxFailures: 100%, progressDeadline: 10m, windows: [{start: \"10:00\", end: \"10:45\", timeZone: UTC}]}",
        ],
        &[
            ("disconnect c1", true),
            ("at 10:40", true),
            ("policy r version=2", true),
            ("at 10:50", true),
            ("policy r version=1", true),
            ("connect c1", true),
            ("at 11:30", true),
            ("disconnect c3", true),
            ("at 10:42", true),
        ],
    ),
    (
        "the clock is put back behind the run's start, and one that comes is asked to fetch",
        ["", "", "  rollout: {prefetch: true, maxConcurrent: 1}"],
        &[
            ("policy r version=2", true),
            ("at 09:50", true),
            ("cluster c9 region=a", true),
            ("cluster c2 region=b", true),
        ],
    ),
    (
        "one that came into the policy is to be told before those at rest, once it is theirs",
        [
            "",
            "",
            "  placement: {prioritizers: [{by: Steady}]}\n  rollout: {steps: [{clusters: 2}], maxFailures: 100%, disruptionBudget: {groupBy: line, maxUnavailable: 1}}",
        ],
        &[("policy r version=2", true), ("cluster c0 line=1", true)],
    ),
    (
        "in a rollback one that failed goes away, and comes back once its time is up; the others are there",
        ["", "", "  rollout: {onFailure: Rollback, progressDeadline: 10m, maxFailures: 1}"],
        &[
            ("policy r version=2", true),
            ("report c1 k@2 Failed; report c2 k@2 Failed", true),
            ("disconnect c1", true),
            ("obey c3", true),
            ("at +20m", true),
            ("connect c1", true),
            ("disconnect c2", true),
            ("obey c1", true),
            (
                "disconnect c1; disconnect c3; disconnect c4; disconnect c5; disconnect c6; disconnect c7",
                true,
            ),
            ("connect c1", true),
            ("report c1 k@2 Failed", true),
            ("gone c2", true),
        ],
    ),
    (
        "in a rollback those that failed are there, and say more of it",
        ["", "", "  rollout: {onFailure: Rollback, maxFailures: 1}"],
        &[
            ("policy r version=2", true),
            ("report c1 k@2 Failed; report c2 k@2 Failed", true),
            ("report c1 k@1 Serving; report c2 k@1 Serving", true),
            // The hub sees its own status first.
            ("version k 3", true),
            ("says c1 k@2 out of memory", true),
            ("obey c3", true),
            ("says c2 k@2 the same here", true),
            ("report c1 k@2 -", true),
        ],
    ),
    (
        "a target is not ready any more while those that did not fail are on their way back",
        ["", "", "  rollout: {onFailure: Rollback, progressDeadline: 10m}"],
        &[
            ("policy r version=2", true),
            ("report c3 k@2 Failed", true),
            ("version k 2 unready", true),
            ("disconnect c7", true),
            ("obey c1", true),
            ("version k 2", true),
        ],
    ),
    (
        "one that was sent back to nothing waits in a new run, of which its entry does not know yet",
        ["", "", "  rollout: {maxConcurrent: 1, onFailure: Rollback}"],
        &[
            ("cluster c9", true),
            ("policy r version=2", true),
            ("report c9 k@2 Failed", true),
            ("annotate r retry=1", true),
            ("unwritten c9", true),
        ],
    ),
];
