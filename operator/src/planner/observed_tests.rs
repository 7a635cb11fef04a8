//! Tests of the planner's own view: whose word about an object counts, ours or the store's.

use kube::runtime::watcher::Event;
use nave_crds::ClusterAssignmentSpec;

use super::*;
use crate::watch::testing;

fn assignment(generation: i64, version: &str) -> ClusterAssignment {
    let mut assignment = ClusterAssignment::new("a", ClusterAssignmentSpec { generation, entries: vec![] });
    assignment.metadata.resource_version = Some(version.to_owned());
    assignment
}

fn generation(observed: &Observed) -> Option<i64> {
    observed.assignment("a").map(|assignment| assignment.spec.generation)
}

fn changed() -> Change {
    Change::Object(plain(Kind::Assignment, "a"))
}

#[tokio::test]
async fn a_store_that_lags_behind_our_own_write_is_not_believed() {
    let (world, mut writers) = testing::world();
    let mut observed = Observed::new(world);
    observed.wrote_assignment(assignment(2, "20"), Instant::now());
    writers.assignments.apply_watcher_event(&Event::Apply(assignment(1, "9")));
    observed.take(&changed());
    assert_eq!(generation(&observed), Some(2), "9 is older than 20, though not as text");
    writers.assignments.apply_watcher_event(&Event::Apply(assignment(3, "21")));
    observed.take(&changed());
    assert_eq!(generation(&observed), Some(3), "another wrote after us");
    writers.assignments.apply_watcher_event(&Event::Delete(assignment(3, "22")));
    observed.take(&changed());
    assert_eq!(generation(&observed), None);
}

#[tokio::test]
async fn what_is_deleted_right_after_our_write_is_gone_at_once() {
    let (world, mut writers) = testing::world();
    let mut observed = Observed::new(world);
    let deleted = |version| Change::Deleted(plain(Kind::Assignment, "a"), version);
    observed.wrote_assignment(assignment(1, "20"), Instant::now());
    for version in [None, Some(9)] {
        observed.take(&deleted(version));
        assert_eq!(generation(&observed), Some(1), "an older deletion: {version:?}");
    }
    writers.assignments.apply_watcher_event(&Event::Apply(assignment(1, "20")));
    writers.assignments.apply_watcher_event(&Event::Delete(assignment(1, "21")));
    observed.take(&changed());
    observed.take(&deleted(Some(21)));
    assert_eq!(generation(&observed), None);
    assert_eq!(observed.settle(Instant::now()), None, "nothing is waited for");
}

#[tokio::test]
async fn a_write_that_never_shows_up_is_given_up() {
    let (world, _writers) = testing::world();
    let mut observed = Observed::new(world);
    let wrote = Instant::now();
    observed.wrote_assignment(assignment(1, "20"), wrote);
    observed.take(&changed());
    assert_eq!(generation(&observed), Some(1), "not seen yet is not deleted");
    assert_eq!(observed.settle(wrote + UNSEEN_FOR / 2), Some(wrote + UNSEEN_FOR));
    assert_eq!(observed.settle(wrote + UNSEEN_FOR), None);
    assert_eq!(generation(&observed), None);
}

#[tokio::test]
async fn a_new_list_takes_out_what_is_gone() {
    let (world, mut writers) = testing::world();
    writers.assignments.apply_watcher_event(&Event::Apply(assignment(1, "9")));
    writers.policies.apply_watcher_event(&Event::InitDone);
    let mut observed = Observed::new(world);
    assert_eq!(generation(&observed), Some(1));
    writers.assignments.apply_watcher_event(&Event::Init);
    writers.assignments.apply_watcher_event(&Event::InitDone);
    observed.take(&Change::Relisted(Kind::Assignment));
    assert_eq!(generation(&observed), None);
    assert!(observed.take_touched().assignments.contains("a"));
}

#[tokio::test]
async fn who_missed_changes_takes_in_everything() {
    let (world, mut writers) = testing::world();
    let mut changes = world.changes.subscribe();
    let mut observed = Observed::new(world);
    writers.assignments.apply_watcher_event(&Event::Apply(assignment(1, "9")));
    let other = Change::Object(plain(Kind::Assignment, "b"));
    while changes.len() <= testing::CHANGES_KEPT {
        observed.stores.changes.send(other.clone()).unwrap();
    }
    observed.take_waiting(&mut changes);
    assert_eq!(generation(&observed), Some(1));
}
