//! Status: it is bounded in size, and says of everybody what the report says, for which each one is looked at.

use jiff::Timestamp;
use nave_crds::{PlacementPolicyStatus, WaitingOn};

use crate::{PolicyReport, Wait};

/// What a policy's status shall be, beside the report of the same plan.
pub(super) fn check(status: &PlacementPolicyStatus, report: &PolicyReport, add: &mut impl FnMut(String)) {
    if status.waiting_on.len() > 16 || status.waiting_on.iter().any(|row| row.clusters.len() > 10) {
        add("status.waitingOn is not bounded".into());
    }
    if status.excluded.iter().any(|row| row.clusters.len() > 10) {
        add("status.excluded is not bounded".into());
    }
    if status.step.as_ref() != Some(&report.step) {
        add(format!("status.step is {:?}, the report's {:?}", status.step, report.step));
    }
    let counts = status.clusters.unwrap_or_default();
    for (word, count, list) in [
        ("matched", counts.matched, &report.matched),
        ("selected", counts.selected, &report.selected),
        ("serving", counts.serving, &report.serving),
        ("failed", counts.failed, &report.failed),
        ("deferred", counts.deferred, &report.deferred),
    ] {
        if usize::try_from(count) != Ok(list.len()) {
            add(format!("status.clusters.{word} is {count}, the report names {}", list.len()));
        }
    }
    for one in &report.conditions {
        let says = |stored: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            (stored.type_.as_str(), stored.status.as_str(), stored.reason.as_str(), &stored.message)
                == (one.type_, one.status.as_str(), one.reason, &one.message)
        };
        if !status.conditions.iter().any(|stored| says(&stored)) {
            add(format!("status has no condition {one:?}"));
        }
    }
    if status.waiting_on.len() != report.waiting_on.len() {
        add(format!("status.waitingOn is {:?}, the report's {:?}", status.waiting_on, report.waiting_on));
    }
    for (row, wait) in status.waiting_on.iter().zip(&report.waiting_on) {
        if !says_the_same(row, wait) {
            add(format!("status.waitingOn has {row:?}, the report {wait:?}"));
        }
    }
}

/// A row has whole seconds, and names some of the clusters.
fn says_the_same(row: &WaitingOn, wait: &Wait) -> bool {
    let second = |until: Timestamp| until.as_second();
    let count = row.count.and_then(|count| usize::try_from(count).ok());
    (row.rule, count, row.message.as_ref()) == (wait.rule, Some(wait.clusters.len()), wait.message.as_ref())
        && row.until.as_ref().map(|until| second(until.0)) == wait.until.map(second)
        && row.clusters.iter().all(|name| wait.clusters.iter().any(|one| **one == **name))
}
