//! Conditions of a PlacementPolicy: renderings of what was decided, in the words of the contract.

use nave_crds::{
    RolloutPhase, StepState,
    view::conditions::{AVAILABLE, CONFLICTED, DEGRADED, PLACED, PROGRESSING, Status},
};

use crate::{
    ConditionReport, ExclusionReason,
    input::Policy,
    rollout::{Look, Rolled, rolled_back},
    tally::{Counts, ExcludedRow},
};

/// What conditions are rendered from.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) look: &'a Look<'a>,
    pub(crate) rolled: &'a Rolled<'a>,
    pub(crate) counts: &'a Counts,
    pub(crate) excluded: &'a [ExcludedRow],
}

/// Placed, Progressing, Available, Degraded, Conflicted.
pub(crate) fn conditions(facts: &Facts<'_>) -> Vec<ConditionReport> {
    vec![placed(facts), progressing(facts), available(facts), degraded(facts), conflicted(facts)]
}

fn report(type_: &'static str, status: Status, reason: &'static str, message: String) -> ConditionReport {
    ConditionReport { type_, status, reason, message }
}

fn placed(facts: &Facts<'_>) -> ConditionReport {
    let selected = facts.counts.selected;
    let number = facts.policy.number;
    if number == Some(0) {
        return report(PLACED, Status::True, "Placed", "numberOfClusters is 0".into());
    }
    let excluded = excluded_by_reason(facts);
    if selected == 0 {
        return report(PLACED, Status::False, "NoClusters", format!("no cluster is selected{excluded}"));
    }
    match number {
        Some(number) if selected < number => {
            let message = format!("{selected} of {number} clusters are selected{excluded}");
            report(PLACED, Status::False, "NotEnoughClusters", message)
        }
        Some(_) | None => report(PLACED, Status::True, "Placed", format!("{selected} clusters are selected")),
    }
}

fn excluded_by_reason(facts: &Facts<'_>) -> String {
    let parts: Vec<String> =
        facts.excluded.iter().map(|row| format!("{} {}", row.count, row.reason.as_str())).collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

fn progressing(facts: &Facts<'_>) -> ConditionReport {
    let (status, reason) = match facts.rolled.state {
        StepState::Paused | StepState::FailureBudget | StepState::RolledBack => (Status::False, "Paused"),
        StepState::RollingBack
        | StepState::Prefetching
        | StepState::Updating
        | StepState::Soaking
        | StepState::AwaitingApproval => (Status::True, "RollingOut"),
        StepState::Waiting => (Status::False, "Waiting"),
        StepState::Complete => (Status::False, "Complete"),
    };
    let run = &facts.rolled.run;
    let mut message = format!("step {} of {}: {:?}", run.step, facts.policy.steps.len(), facts.rolled.state);
    let frozen = facts.policy.frozen();
    for text in frozen.iter().chain(&facts.policy.annotations.malformed) {
        message.push_str("; ");
        message.push_str(text);
    }
    report(PROGRESSING, status, reason, message)
}

fn available(facts: &Facts<'_>) -> ConditionReport {
    let Counts { selected, serving, deferred, connected_not_serving, .. } = *facts.counts;
    let message = format!("{serving} of {selected} clusters serve {}", facts.policy.target());
    if selected > 0 && serving == selected {
        return report(AVAILABLE, Status::True, "AllServing", message);
    }
    if deferred > 0 && connected_not_serving == 0 {
        return report(AVAILABLE, Status::Unknown, "Deferred", format!("{message}, {deferred} are deferred"));
    }
    report(AVAILABLE, Status::False, "NotAllServing", message)
}

fn degraded(facts: &Facts<'_>) -> ConditionReport {
    let rolled = facts.rolled;
    if rolled.run.phase == RolloutPhase::RolledBack {
        let message = rolled_back(facts.policy, rolled.cause.as_deref());
        return report(DEGRADED, Status::True, "RolledBack", message);
    }
    if rolled.gates.over_budget || rolled.run.phase == RolloutPhase::RollingBack {
        let message = rolled.cause.clone().unwrap_or_else(|| "more clusters failed than may".to_owned());
        return report(DEGRADED, Status::True, "FailureBudget", message);
    }
    if facts.look.version.is_some_and(crate::input::Version::withdrawn) {
        return report(DEGRADED, Status::True, "Withdrawn", facts.look.version_problem());
    }
    report(DEGRADED, Status::False, "None", String::new())
}

fn conflicted(facts: &Facts<'_>) -> ConditionReport {
    match facts.excluded.iter().find(|row| row.reason == ExclusionReason::Outranked) {
        Some(row) => {
            let others = match row.count {
                0 | 1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let message = format!("{}{others}", row.message);
            report(CONFLICTED, Status::True, "Outranked", message)
        }
        None => report(CONFLICTED, Status::False, "None", String::new()),
    }
}
