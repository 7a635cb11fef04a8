//! Events: what changed between the stored status and the new one. A plan of what a plan stored changes nothing, so it
//! has no events.

use nave_crds::{
    PlacementPolicyStatus, RolloutPhase, RolloutRun, StepState, StepStatus,
    view::conditions::{AVAILABLE, CONFLICTED, DEGRADED, PLACED, PROGRESSING, find},
};

use crate::{PlanEvent, Severity, input::Policy};

/// What changed for one policy.
pub(crate) fn events(policy: &Policy, status: &PlacementPolicyStatus, step: &StepStatus) -> Vec<PlanEvent> {
    let mut events = Vec::new();
    let mut add = |severity, reason, note: String| {
        events.push(PlanEvent { policy: policy.key.clone(), severity, reason, note });
    };
    let before = policy.status();
    let run_before = before.and_then(|before| before.run.as_ref());
    if !run_before.zip(status.run.as_ref()).is_some_and(|(old, new)| goes_on(old, new)) {
        add(
            Severity::Normal,
            "RolloutStarted",
            format!("rolling out {} {}", policy.model(), policy.target()),
        );
    }
    let step_before = before.and_then(|before| before.step.as_ref());
    if step_before.map(|step| step.state) != Some(step.state)
        && let Some((severity, reason)) = state_event(step.state)
    {
        let note = format!("{} {}: step {} of {}", policy.model(), policy.target(), step.index, step.of);
        add(severity, reason, note);
    }
    for (type_, wanted, severity) in [
        (PLACED, "False", Severity::Warning),
        (DEGRADED, "True", Severity::Warning),
        (CONFLICTED, "True", Severity::Warning),
        (AVAILABLE, "True", Severity::Normal),
    ] {
        let old = before.and_then(|before| find(&before.conditions, type_));
        let Some(new) = find(&status.conditions, type_).filter(|new| new.status == wanted) else { continue };
        if old.is_none_or(|old| (&old.status, &old.reason) != (&new.status, &new.reason)) {
            add(severity, event_reason(type_, &new.reason), new.message.clone());
        }
    }
    let said = before.and_then(|before| find(&before.conditions, PROGRESSING)).map_or("", |old| &old.message);
    for text in policy.annotations.malformed.iter().filter(|text| !said.contains(text.as_str())) {
        add(Severity::Warning, "AnnotationIgnored", text.clone());
    }
    if let Some(text) = policy.frozen().filter(|text| !said.contains(text.as_str())) {
        add(Severity::Warning, "InvalidSpec", text);
    }
    events
}

/// Whether the one run is the other. When it began does not say so: that changes where the clock was put back.
fn goes_on(old: &RolloutRun, new: &RolloutRun) -> bool {
    let retried = old.phase == RolloutPhase::RolledBack
        && !matches!(new.phase, RolloutPhase::RolledBack | RolloutPhase::RollingBack);
    old.target == new.target && (old.model.is_none() || old.model == new.model) && !retried
}

/// States that people want to hear of; the others come and go.
fn state_event(state: StepState) -> Option<(Severity, &'static str)> {
    match state {
        StepState::Paused => Some((Severity::Normal, "RolloutPaused")),
        StepState::RollingBack => Some((Severity::Warning, "RollingBack")),
        StepState::FailureBudget => Some((Severity::Warning, "RolloutStopped")),
        StepState::AwaitingApproval => Some((Severity::Normal, "AwaitingApproval")),
        StepState::Complete => Some((Severity::Normal, "RolloutComplete")),
        StepState::RolledBack
        | StepState::Prefetching
        | StepState::Updating
        | StepState::Waiting
        | StepState::Soaking => None,
    }
}

fn event_reason(type_: &str, reason: &str) -> &'static str {
    match (type_, reason) {
        (PLACED, "NoClusters") => "NoClusters",
        (PLACED, _) => "NotEnoughClusters",
        (DEGRADED, "FailureBudget") => "FailureBudgetUsedUp",
        (DEGRADED, "RolledBack") => "RolledBack",
        (DEGRADED, _) => "VersionWithdrawn",
        (CONFLICTED, _) => "Outranked",
        _ => "AllServing",
    }
}
