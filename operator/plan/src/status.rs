//! Status: the report as PlacementPolicy.status stores it, bounded in size however large the fleet is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{
    ClusterCounts, ExcludedCount, PlacementPolicyStatus, WaitingOn,
    view::conditions::{self, Update},
};

use crate::{
    Excluded, ExclusionReason, Name, PolicyReport,
    input::Policy,
    rollout::{Rolled, Seat},
};

/// Names in one row of waitingOn; the API's documentation names this number.
const WAITING_NAMES: usize = 10;
/// Names in one row of excluded: enough to look at, the report has them all.
const EXCLUDED_NAMES: usize = 5;

/// The status that a policy shall have.
pub(crate) fn status(
    policy: &Policy,
    rolled: &Rolled<'_>,
    report: &PolicyReport,
    now: Timestamp,
) -> PlacementPolicyStatus {
    let generation = policy.object.metadata.generation;
    let mut all = policy.status().map(|status| status.conditions.clone()).unwrap_or_default();
    for condition in &report.conditions {
        let update = Update {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            message: condition.message.clone(),
            observed_generation: generation,
        };
        conditions::set(&mut all, update, now);
    }
    PlacementPolicyStatus {
        observed_generation: generation,
        conditions: all,
        clusters: Some(counts(rolled, report)),
        step: Some(report.step.clone()),
        run: Some(rolled.run.stored(policy)),
        target_version: Some(policy.target().to_owned()),
        previous_version: rolled.run.previous_version.clone(),
        waiting_on: waiting_on(report),
        excluded: excluded(&report.excluded),
    }
}

fn counts(rolled: &Rolled<'_>, report: &PolicyReport) -> ClusterCounts {
    let seats =
        |test: &dyn Fn(&Seat<'_>) -> bool| number(rolled.seats.iter().filter(|seat| test(seat)).count());
    ClusterCounts {
        matched: number(report.matched.len()),
        selected: number(report.selected.len()),
        prefetched: seats(&|seat| seat.holds_target),
        updated: seats(&|seat| seat.standing.told),
        serving: number(report.serving.len()),
        failed: number(report.failed.len()),
        deferred: number(report.deferred.len()),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn names(clusters: &[Name], most: usize) -> Vec<String> {
    clusters.iter().take(most).map(|name| name.to_string()).collect()
}

fn waiting_on(report: &PolicyReport) -> Vec<WaitingOn> {
    let row = |wait: &crate::Wait| WaitingOn {
        rule: wait.rule,
        clusters: names(&wait.clusters, WAITING_NAMES),
        count: Some(number(wait.clusters.len())),
        until: wait.until.map(|until| Time(Timestamp::from_second(until.as_second()).unwrap_or(until))),
        message: wait.message.clone(),
    };
    report.waiting_on.iter().map(row).collect()
}

fn excluded(excluded: &[Excluded]) -> Vec<ExcludedCount> {
    let mut by_reason: BTreeMap<ExclusionReason, Vec<&Excluded>> = BTreeMap::new();
    for one in excluded {
        by_reason.entry(one.reason).or_default().push(one);
    }
    let row = |(reason, all): (ExclusionReason, Vec<&Excluded>)| ExcludedCount {
        reason: reason.as_str().to_owned(),
        count: number(all.len()),
        clusters: all.iter().take(EXCLUDED_NAMES).map(|one| one.cluster.to_string()).collect(),
        message: all.first().map(|one| format!("{}: {}", one.cluster, one.message)),
    };
    by_reason.into_iter().map(row).collect()
}
