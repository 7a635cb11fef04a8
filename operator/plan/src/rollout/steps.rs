//! Steps: which step a run is in, who holds its places, and what is missing before it is passed.

use jiff::Timestamp;
use nave_crds::RolloutPhase;

use super::{Look, accounts, standing::Seat, target::Run};
use crate::{Category, at_rest::AtRest, input::StepSpec};

/// What the step that a run is in needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// So many of those that can be told, at most: on the way to an older target first, then by rank.
    Told(usize),
    /// Those told have to arrive.
    Arrival,
    /// Everybody who is there has failed: somebody has to recover, or to connect.
    Recovery,
    /// Those told serve, and must go on doing so until then.
    Soak(Timestamp),
    /// Somebody has to approve.
    Approval,
    /// It cannot be said without a look at everybody.
    Everybody,
    /// Nothing.
    Nothing,
}

/// Passes every step that is done, if steps may be passed, and says what the first other one needs.
pub(crate) fn advance(
    look: &Look<'_>,
    run: &mut Run,
    seats: &[Seat<'_>],
    at_rest: &AtRest,
    may_pass: bool,
) -> Need {
    let steps = &look.policy.steps;
    loop {
        let need = need(look, run, seats, at_rest);
        if need != Need::Nothing || !may_pass {
            return need;
        }
        if run.step == steps.len() {
            run.phase = RolloutPhase::Complete;
        } else {
            run.step += 1;
        }
    }
}

/// The step whose places are filled now; once the run is complete it is about everybody, and there is none.
pub(crate) fn current<'a>(look: &Look<'a>, run: &Run) -> Option<(usize, &'a StepSpec)> {
    let step = look.policy.steps.get(run.step - 1).map(|step| (run.step, step));
    step.filter(|_| run.phase != RolloutPhase::Complete)
}

/// Whether a step is about a seat.
pub(crate) fn matches(step: &StepSpec, seat: &Seat<'_>) -> bool {
    step.selector.as_ref().is_none_or(|selector| selector.matches(seat.member.spoke.cluster.labels()))
}

/// Whether a seat can be told and is not.
pub(crate) fn untold(seat: &Seat<'_>) -> bool {
    seat.eligible() && !seat.standing.told
}

/// What the step that the run is in needs. A step without a connected cluster needs no more than its approval.
pub(crate) fn need(look: &Look<'_>, run: &Run, seats: &[Seat<'_>], at_rest: &AtRest) -> Need {
    if run.phase == RolloutPhase::Complete {
        return Need::Told(usize::MAX);
    }
    let Some((index, step)) = current(look, run) else { return Need::Nothing };
    let matching: Vec<&Seat<'_>> = seats.iter().filter(|seat| matches(step, seat)).collect();
    let others = at_rest.sums(Some((index, step)));
    let others_told = others.serving + others.in_flight;
    let approved = !step.approval || look.policy.annotations.approved.is_some_and(|upto| upto >= index);
    if others_told + others.waiting == 0 && !matching.iter().any(|seat| seat.active()) {
        return if approved { Need::Nothing } else { Need::Approval };
    }
    let number = step.clusters.at_least_one_of(matching.len() + others.count);
    let told: Vec<&&Seat<'_>> =
        matching.iter().filter(|seat| seat.eligible() && seat.standing.told).collect();
    let open = number.saturating_sub(told.len() + others_told);
    if open > 0 && (others.waiting > 0 || matching.iter().any(|seat| untold(seat))) {
        return Need::Told(open);
    }
    if told.is_empty() && others_told == 0 {
        return Need::Recovery;
    }
    if others.in_flight > 0 || told.iter().any(|seat| !seat.is(Category::Serving)) {
        return Need::Arrival;
    }
    let since = told.iter().filter_map(|seat| seat.standing.serving_since).max();
    let soaked = since.max(others.since).unwrap_or(look.now).saturating_add(step.soak);
    let soaked = soaked.unwrap_or(Timestamp::MAX);
    if soaked > look.now {
        return Need::Soak(soaked);
    }
    if approved {
        return Need::Nothing;
    }
    match accounts::anybody_needed(look, seats, at_rest, index) {
        Some(true) => Need::Approval,
        Some(false) => Need::Nothing,
        None => Need::Everybody,
    }
}
