//! Status: the report as PlacementPolicy.status stores it, bounded in size however large the fleet is.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{
    ClusterCounts, ExcludedCount, FailedCluster, PlacementPolicyStatus, StepStatus, WaitingOn,
    view::conditions::{self, Update},
};

use crate::{
    ConditionReport, Failure, Name,
    input::Policy,
    rollout::{Rolled, Waiting},
    tally::{Counts, ExcludedRow},
};

/// Names in one row of waitingOn; the API's documentation names this number.
pub(crate) const WAITING_NAMES: usize = 10;
/// Names in one row of excluded: enough to look at, the report has them all.
pub(crate) const EXCLUDED_NAMES: usize = 5;

/// Rows of failures.
pub(crate) const FAILURE_NAMES: usize = 5;

/// What a status is made of, beside the run.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    pub(crate) step: StepStatus,
    pub(crate) conditions: Vec<ConditionReport>,
    pub(crate) excluded: Vec<ExcludedRow>,
    pub(crate) failures: Vec<Failure>,
}

/// The status that a policy shall have.
pub(crate) fn status(
    policy: &Policy,
    rolled: &Rolled<'_>,
    summary: &Summary,
    now: Timestamp,
) -> PlacementPolicyStatus {
    let generation = policy.object.metadata.generation;
    let mut all = policy.status().map(|status| status.conditions.clone()).unwrap_or_default();
    for condition in &summary.conditions {
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
        clusters: Some(counts(&summary.counts)),
        step: Some(summary.step.clone()),
        run: Some(rolled.run.stored(policy)),
        target_version: Some(policy.target().to_owned()),
        previous_version: rolled.run.previous_version.clone(),
        waiting_on: rolled.waits.iter().map(waiting_on).collect(),
        excluded: summary.excluded.iter().map(excluded).collect(),
        failures: summary.failures.iter().take(FAILURE_NAMES).map(failed).collect(),
    }
}

fn counts(counts: &Counts) -> ClusterCounts {
    ClusterCounts {
        matched: number(counts.matched),
        selected: number(counts.selected),
        prefetched: number(counts.prefetched),
        updated: number(counts.updated),
        serving: number(counts.serving),
        failed: number(counts.failed),
        deferred: number(counts.deferred),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn names(clusters: &[Name], most: usize) -> Vec<String> {
    clusters.iter().take(most).map(|name| name.to_string()).collect()
}

fn waiting_on(Waiting { wait, first, more }: &Waiting) -> WaitingOn {
    WaitingOn {
        rule: wait.rule,
        clusters: names(first, WAITING_NAMES),
        count: Some(number(wait.clusters.len() + more)),
        until: wait.until.map(|until| Time(Timestamp::from_second(until.as_second()).unwrap_or(until))),
        message: wait.message.clone(),
    }
}

fn failed(failure: &Failure) -> FailedCluster {
    FailedCluster { cluster: failure.cluster.to_string(), message: failure.message.clone() }
}

fn excluded(row: &ExcludedRow) -> ExcludedCount {
    ExcludedCount {
        reason: row.reason.as_str().to_owned(),
        count: number(row.count),
        clusters: names(&row.first, EXCLUDED_NAMES),
        message: Some(row.message.clone()),
    }
}
