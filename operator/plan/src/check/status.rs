//! Status: it is bounded in size, and says of everybody what the report says, for which each one is looked at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nave_crds::{ExcludedCount, PlacementPolicyStatus, WaitRule, WaitingOn, view::conditions};

use crate::{
    ExclusionReason, Name, PolicyReport, Wait,
    status::{EXCLUDED_NAMES, FAILURE_NAMES, WAITING_NAMES},
};

/// What a policy's status shall be, beside the report of the same plan.
pub(super) fn check(status: &PlacementPolicyStatus, report: &PolicyReport, add: &mut impl FnMut(String)) {
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
        let stored = conditions::find(&status.conditions, one.type_);
        let stored = stored.map(|stored| (&*stored.status, &*stored.reason, &*stored.message));
        if stored != Some((one.status.as_str(), one.reason, &*one.message)) {
            add(format!("status says {stored:?} of {one:?}"));
        }
    }
    let (waiting, excluded) = (&status.waiting_on, &status.excluded);
    let reported = &report.waiting_on;
    if waiting.len() != reported.len() || !waiting.iter().zip(reported).all(|(row, wait)| waits(row, wait)) {
        add(format!("status.waitingOn is {waiting:?}, the report's {reported:?}"));
    }
    let failures = status.failures.iter().map(|one| (&*one.cluster, &*one.message));
    let reported = report.failures.iter().map(|one| (&*one.cluster, &*one.message));
    if !failures.eq(reported.take(FAILURE_NAMES)) {
        add(format!("status.failures is {:?}, the report's {:?}", status.failures, report.failures));
    }
    let failed = report.failures.iter().map(|one| &one.cluster);
    if !failed.eq(&report.failed) || report.failures.iter().any(|one| one.message.is_empty()) {
        add(format!("failures {:?} are not those of {:?}", report.failures, report.failed));
    }
    let reasons = reasons(report);
    let alike = |(row, (reason, names)): (&ExcludedCount, (&ExclusionReason, &Vec<Name>))| {
        (row.reason.as_str(), usize::try_from(row.count)) == (reason.as_str(), Ok(names.len()))
            && row.clusters == first(names, EXCLUDED_NAMES)
    };
    if excluded.len() != reasons.len() || !excluded.iter().zip(&reasons).all(alike) {
        add(format!("status.excluded is {excluded:?}, the report's {reasons:?}"));
    }
}

/// Whether a row, which has whole seconds and names the first clusters, or the best ranked, is about this.
fn waits(row: &WaitingOn, wait: &Wait) -> bool {
    let second = |until: Timestamp| until.as_second();
    let count = row.count.and_then(|count| usize::try_from(count).ok());
    // Of those that wait for their turn, or are short of something in it, the best ranked are named.
    let ranked = [WaitRule::Soak, WaitRule::Window, WaitRule::MaxConcurrent, WaitRule::DisruptionBudget];
    let all = first(&wait.clusters, usize::MAX);
    let names = &row.clusters;
    let named = match ranked.contains(&row.rule) {
        true => {
            names.len() == all.len().min(WAITING_NAMES)
                && names.is_sorted()
                && names.iter().all(|name| all.contains(name))
        }
        false => *names == first(&wait.clusters, WAITING_NAMES),
    };
    named
        && (row.rule, count, &row.message) == (wait.rule, Some(wait.clusters.len()), &wait.message)
        && row.until.as_ref().map(|until| second(until.0)) == wait.until.map(second)
}

fn reasons(report: &PolicyReport) -> BTreeMap<ExclusionReason, Vec<Name>> {
    let mut reasons: BTreeMap<ExclusionReason, Vec<Name>> = BTreeMap::new();
    for one in &report.excluded {
        reasons.entry(one.reason).or_default().push(Name::clone(&one.cluster));
    }
    reasons
}

fn first(names: &[Name], most: usize) -> Vec<String> {
    names.iter().take(most).map(ToString::to_string).collect()
}
