//! State: the one word for what goes on in a step, the first that holds.

use nave_crds::{RolloutPhase, StepState, WaitRule};

use super::{
    standing::Seat,
    steps::Need,
    waiting::{Decided, Waits},
};
use crate::Category;

/// The word.
pub(crate) fn state(decided: &Decided<'_>, waits: &Waits, seats: &[Seat<'_>]) -> StepState {
    let Decided { run, gates, need, at_rest, .. } = *decided;
    if gates.paused {
        return StepState::Paused;
    }
    match run.phase {
        RolloutPhase::RollingBack => return StepState::RollingBack,
        RolloutPhase::RolledBack => return StepState::RolledBack,
        RolloutPhase::Rolling | RolloutPhase::Complete => {}
    }
    if gates.stopped {
        return StepState::FailureBudget;
    }
    if gates.usable && !gates.frozen && !gates.prefetched {
        return StepState::Prefetching;
    }
    if !at_rest.in_flight().is_empty() || seats.iter().any(|seat| seat.is(Category::InFlight)) {
        return StepState::Updating;
    }
    if run.phase == RolloutPhase::Complete {
        return complete(waits);
    }
    if waits.connected_without_version {
        return StepState::Waiting;
    }
    match need {
        Need::Soak(_) if gates.anybody => StepState::Soaking,
        Need::Approval if gates.anybody => StepState::AwaitingApproval,
        Need::Soak(_)
        | Need::Approval
        | Need::Told(_)
        | Need::Arrival
        | Need::Recovery
        | Need::Everybody
        | Need::Nothing => {
            if gates.anybody && gates.usable && waits.has(WaitRule::Prefetch) {
                StepState::Prefetching
            } else {
                StepState::Waiting
            }
        }
    }
}

/// After the end: those that follow may still wait for something. Ones that are away are waited for by nobody.
fn complete(waits: &Waits) -> StepState {
    if waits.has(WaitRule::Prefetch) {
        return StepState::Prefetching;
    }
    let rules = [WaitRule::Window, WaitRule::MaxConcurrent, WaitRule::DisruptionBudget];
    if rules.iter().any(|rule| waits.has(*rule)) || waits.connected_without_version {
        return StepState::Waiting;
    }
    StepState::Complete
}
