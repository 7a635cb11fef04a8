//! What `explain` says of a small fleet.

use std::sync::Arc;

use super::*;

/// Six sites, five of which match; a policy chooses three of these, one after the other.
fn world() -> World {
    let site = |name: &str, region: &str, load: &str, connected: &str| {
        let object = json!({
            "metadata": {"name": name, "labels": {"region": region, "load": load}},
            "spec": {"accepted": name != "site-d",
                "taints": if name == "site-b" { json!([{"key": "old", "effect": "PreferNoSelect"}]) } else { json!([]) }},
            "status": {"conditions": [{"type": "Connected", "status": connected, "reason": "Session",
                "message": "", "lastTransitionTime": "2026-11-24T09:00:00Z"}]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    };
    let version = json!({
        "metadata": {"namespace": "vision", "name": "defects-2"},
        "spec": {"model": "defects", "version": "2", "source": {"s3": {"bucket": "models", "prefix": "defects/2"}}},
        "status": {"manifestDigest": "sha256:1", "conditions": [{"type": "Ready", "status": "True", "reason": "Resolved",
            "message": "", "lastTransitionTime": "2026-11-24T09:00:00Z"}]},
    });
    let policy = json!({
        "metadata": {"namespace": "vision", "name": "bridges", "generation": 1},
        "spec": {
            "model": {"name": "defects", "version": "2"},
            "placement": {
                "clusterSelector": {"matchLabels": {"region": "north"}}, "numberOfClusters": 3,
                "prioritizers": [{"by": "Label", "key": "load", "weight": 2}, {"by": "Balance"}],
            },
            "rollout": {"maxConcurrent": 1},
        },
    });
    World::new(
        [
            site("site-a", "north", "5", "True"),
            site("site-b", "north", "9", "True"),
            site("site-c", "north", "9", "False"),
            site("site-d", "north", "9", "True"),
            site("site-e", "north", "1", "True"),
            site("site-f", "south", "9", "True"),
        ],
        [Arc::new(serde_json::from_value(version).unwrap())],
        [Arc::new(serde_json::from_value(policy).unwrap())],
        [],
    )
}

fn at() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn explained(world: &World) -> (PolicyKey, Arc<PolicyReport>) {
    plan(world, at()).report.policies.into_iter().next().unwrap()
}

fn asked(cluster: Option<&str>) -> ExplainPolicy {
    let cluster = cluster.map(str::to_owned);
    ExplainPolicy { name: "bridges".to_owned(), cluster, at: None, output: Format::Table }
}

fn said_of(cluster: Option<&str>, world: &World) -> String {
    let (key, report) = explained(world);
    let mut out = Vec::new();
    asked(cluster).write(world, &key, &report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn said(cluster: &str) -> String {
    said_of(Some(cluster), &world())
}

/// The same, once the first was told to switch and failed.
fn failed() -> World {
    let mut world = world();
    let row = |version: &str, phase: &str, message: &str| {
        json!({"namespace": "vision", "model": "defects", "version": version, "phase": phase, "message": message,
            "since": "2026-11-24T09:30:00Z"})
    };
    let assignment = json!({
        "metadata": {"name": "site-a"},
        "spec": {"generation": 1, "entries": [{"namespace": "vision", "policy": "bridges", "model": "defects", "version": "2",
            "action": "Serve", "toldAt": "2026-11-24T09:30:00Z"}]},
        "status": {"entries": [row("1", "Serving", ""), row("2", "Failed", "the hook exited with 1")]},
    });
    world.upsert_assignment(Arc::new(serde_json::from_value(assignment).unwrap()));
    world
}

#[test]
fn of_one_that_failed_it_is_said_why_and_what_its_spoke_says() {
    let world = failed();
    insta::assert_snapshot!(said_of(Some("site-a"), &world), @"
        site-a and policy vision/bridges
          chosen; Failed
          why: Failed: the hook exited with 1
          rank 1, total 0, kept because it was chosen before
            Label/load 0
            Balance 0
          its spoke says of 1: Serving since 2026-11-24T09:30:00Z
          its spoke says of 2: Failed since 2026-11-24T09:30:00Z: the hook exited with 1
        ");
    let lines = said_of(None, &world);
    assert!(lines.contains("\n  site-a failed: Failed: the hook exited with 1\n"), "{lines}");
    let (key, report) = explained(&world);
    let written = asked(Some("site-a")).document(&world, &key, &report, at());
    let cluster = &written["clusters"][0];
    assert_eq!((&cluster["cluster"], &cluster["category"]), (&json!("site-a"), &json!("Failed")));
    assert_eq!(cluster["failure"], "Failed: the hook exited with 1");
    assert_eq!(cluster["reported"][1]["message"], "the hook exited with 1");
}

#[test]
fn of_one_cluster_it_is_said_why_its_score_by_part_where_it_is_and_what_it_waits_for() {
    insta::assert_snapshot!(said("site-a"), @"
    site-a and policy vision/bridges
      chosen; InFlight
      rank 2, total 0
        Label/load 0
        Balance 0
      is told to switch now
      waits for InFlight until 2026-11-24T11:00:00Z
    ");
    insta::assert_snapshot!(said("site-b"), @"
    site-b and policy vision/bridges
      not chosen; excluded: OutOfNumber
      OutOfNumber: numberOfClusters is 3, and others rank before it
      rank 4, total 200
        1 untolerated PreferNoSelect taints
        Label/load 100
        Balance 0
    ");
    insta::assert_snapshot!(said("site-c"), @"
    site-c and policy vision/bridges
      chosen; Deferred
      rank 1, total 200
        Label/load 100
        Balance 0
      waits for Connected
    ");
    insta::assert_snapshot!(said("site-d"), @"
    site-d and policy vision/bridges
      not chosen; excluded: NotAccepted
      NotAccepted: spec.accepted is not true
    ");
    insta::assert_snapshot!(said("site-e"), @"
    site-e and policy vision/bridges
      chosen; Waiting
      rank 3, total -200
        Label/load -100
        Balance 0
      waits for MaxConcurrent
    ");
    insta::assert_snapshot!(said("site-f"), @"
    site-f and policy vision/bridges
      its labels do not match the policy's clusterSelector
    ");
}

#[test]
fn of_all_clusters_the_scores_are_said_best_first_and_then_who_is_excluded() {
    let said = said_of(None, &world());
    let (_, scores) = said.split_once("\n\n").unwrap();
    insta::assert_snapshot!(scores, @"
    RANK   CLUSTER   KEPT   PREFER NO SELECT   TOTAL   SCORES
    1      site-c    -      0                  200     Label/load 100, Balance 0
    2      site-a    -      0                  0       Label/load 0, Balance 0
    3      site-e    -      0                  -200    Label/load -100, Balance 0
    4      site-b    -      1                  200     Label/load 100, Balance 0

    EXCLUDED   REASON        MESSAGE
    site-b     OutOfNumber   numberOfClusters is 3, and others rank before it
    site-d     NotAccepted   spec.accepted is not true
    ");
}

#[test]
fn a_report_is_written_with_the_names_of_the_contract() {
    let (_, report) = explained(&failed());
    let written = serde_json::to_value(&*report).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(
        keys(&written),
        [
            "conditions",
            "deferred",
            "excluded",
            "failed",
            "failures",
            "inFlight",
            "matched",
            "ranking",
            "rolledBack",
            "selected",
            "serving",
            "step",
            "tell",
            "waitingOn"
        ]
    );
    assert_eq!(keys(&written["failures"][0]), ["cluster", "message"]);
    assert_eq!(keys(&written["excluded"][0]), ["cluster", "message", "reason"]);
    assert_eq!(keys(&written["ranking"][0]), ["cluster", "kept", "preferNoSelect", "scores", "total"]);
    assert_eq!(keys(&written["waitingOn"][0]), ["clusters", "rule", "until"]);
    assert_eq!(keys(&written["conditions"][0]), ["message", "reason", "status", "type"]);
    assert_eq!(keys(&written["step"]), ["index", "of", "state"]);
}
