//! The three tables, from objects written down.

use nave_crds::{ClusterAssignment, EdgeCluster, PlacementPolicy};
use serde::de::DeserializeOwned;

use super::fleet::Objects;

const OBJECTS: &str = include_str!("../../tests/fleet.yaml");

fn of_kind<K: DeserializeOwned>(kind: &str) -> Vec<K> {
    serde_yaml::Deserializer::from_str(OBJECTS)
        .map(|document| <serde_yaml::Value as serde::Deserialize>::deserialize(document).unwrap())
        .filter(|object| object["kind"] == kind)
        .map(|object| serde_yaml::from_value(object).unwrap())
        .collect()
}

fn objects() -> Objects {
    Objects {
        clusters: of_kind::<EdgeCluster>("EdgeCluster"),
        policies: of_kind::<PlacementPolicy>("PlacementPolicy"),
        assignments: of_kind::<ClusterAssignment>("ClusterAssignment"),
    }
}

fn table(objects: &Objects, only: Option<&str>) -> String {
    let mut out = Vec::new();
    objects.fleet(only).write("2026-11-24T12:00:00Z".parse().unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_fleet_is_shown_in_three_tables() {
    insta::assert_snapshot!(table(&objects(), None), @"
    CLUSTER      ACCEPTED   CONNECTED   SINCE   READY     SERVING   FAILED   AGENT   CAPACITY
    bridge-a12   yes        True        5m      True      0/1       1        0.1.0   amd64, 4 cpu, 7.60 GiB, 50.00 GiB free, 1/2 accelerators
    bridge-b7    revoked    False       3d      Unknown   0/0       0        -       -
    store-3      no         Unknown     -       Unknown   0/0       0        -       -

    NAMESPACE   POLICY           MODEL     VERSION   STEP                SELECTED   SERVING   FAILED   DEFERRED   AVAILABLE   WAITS FOR
    vision      bridge-defects   defects   1.1.0     1/2 FailureBudget   2          0         1        1          False       Connected, FailureBudget

    CLUSTER      POLICY                  MODEL     VERSION   ASKED   PHASE     DIGEST         SINCE   MESSAGE
    bridge-a12   vision/bridge-defects   defects   1.1.0     Serve   Failed    4b1f6a0e2c9d   2m      ProbeFailed: the probe did not answer within 60s
    bridge-a12   -                       defects   1.0.0     -       Serving   111111111111   4d      -
    bridge-b7    vision/bridge-defects   defects   -         Wait    -         -              -       -
    ");
}

#[test]
fn what_a_replica_tells_is_shown_beside_what_is_pulled() {
    let mut objects = objects();
    for row in &mut objects.assignments[0].status.as_mut().unwrap().entries {
        row.phase = nave_crds::Phase::Pulling;
    }
    let mut fleet = objects.fleet(None);
    assert!(fleet.is_pulling());
    let answer = serde_json::json!({"gateway": "hub-0", "clusters": [{"name": "bridge-a12", "entries": [
        {"namespace": "vision", "model": "defects", "version": "1.1.0", "phase": "Pulling", "bytesDone": 42, "bytesTotal": 100},
        {"namespace": "vision", "model": "defects", "version": "1.0.0", "phase": "Pulling"}
    ]}]});
    fleet.add_progress(&[serde_json::from_value(answer).unwrap()]);
    let mut out = Vec::new();
    fleet.write("2026-11-24T12:00:00Z".parse().unwrap(), &mut out).unwrap();
    let table = String::from_utf8(out).unwrap();
    assert!(table.contains("Pulling 42%") && table.contains("Pulling   "), "{table}");
}

#[test]
fn a_namespace_leaves_out_the_entries_of_others() {
    let fleet = objects().fleet(Some("other"));
    assert!(fleet.entries.is_empty());
}

#[test]
fn an_empty_fleet_says_what_to_do() {
    let nothing = Objects { clusters: vec![], policies: vec![], assignments: vec![] };
    insta::assert_snapshot!(table(&nothing, None), @r"
    No clusters. Let one join: kubectl nave token create

    No policies.

    Nothing is assigned.
    ");
}
