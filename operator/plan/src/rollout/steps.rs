//! Steps: which step a run is in, who holds its places, and what is missing before it is passed.

use jiff::Timestamp;
use nave_crds::RolloutPhase;

use super::{Look, standing::Seat, target::Run};
use crate::{Category, input::StepSpec};

/// What the step that a run is in needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// These seats, best first, are to be told.
    Told(Vec<usize>),
    /// Those told have to arrive.
    Arrival,
    /// Everybody who is there has failed: somebody has to recover, or to connect.
    Recovery,
    /// Those told serve, and must go on doing so until then.
    Soak(Timestamp),
    /// Somebody has to approve.
    Approval,
    /// Nothing.
    Nothing,
}

/// Passes every step that is done, if steps may be passed, and says what the first other one needs.
pub(crate) fn advance(look: &Look<'_>, run: &mut Run, seats: &[Seat<'_>], may_pass: bool) -> Need {
    let steps = &look.policy.steps;
    loop {
        let need = need(look, run, seats);
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

/// Whether a step is about a seat.
pub(crate) fn matches(step: &StepSpec, seat: &Seat<'_>) -> bool {
    step.selector.as_ref().is_none_or(|selector| selector.matches(seat.member.spoke.cluster.labels()))
}

/// Up to `most` seats that can be told and are not: those on the way to an older target first, then by rank.
fn untold(seats: &[Seat<'_>], among: impl Fn(&Seat<'_>) -> bool, most: usize) -> Vec<usize> {
    let open = |old: bool| {
        seats
            .iter()
            .enumerate()
            .filter(move |(_, seat)| seat.eligible() && !seat.standing.told && seat.in_old_flight() == old)
    };
    open(true).chain(open(false)).filter(|(_, seat)| among(seat)).map(|(place, _)| place).take(most).collect()
}

/// What the step that the run is in needs. A step without a connected cluster needs no more than its approval.
pub(crate) fn need(look: &Look<'_>, run: &Run, seats: &[Seat<'_>]) -> Need {
    if run.phase == RolloutPhase::Complete {
        return Need::Told(untold(seats, |_| true, usize::MAX));
    }
    let index = run.step;
    let Some(step) = look.policy.steps.get(index - 1) else { return Need::Nothing };
    let matching: Vec<&Seat<'_>> = seats.iter().filter(|seat| matches(step, seat)).collect();
    let approved = !step.approval || look.policy.annotations.approved.is_some_and(|upto| upto >= index);
    if !matching.iter().any(|seat| seat.active()) {
        return if approved { Need::Nothing } else { Need::Approval };
    }
    let number = step.clusters.at_least_one_of(matching.len());
    let told: Vec<&&Seat<'_>> =
        matching.iter().filter(|seat| seat.eligible() && seat.standing.told).collect();
    let open = untold(seats, |seat| matches(step, seat), number.saturating_sub(told.len()));
    if !open.is_empty() {
        return Need::Told(open);
    }
    if told.is_empty() {
        return Need::Recovery;
    }
    if told.iter().any(|seat| !seat.is(Category::Serving)) {
        return Need::Arrival;
    }
    let since = told.iter().filter_map(|seat| seat.standing.serving_since).max().unwrap_or(look.now);
    let soaked = since.saturating_add(step.soak).unwrap_or(Timestamp::MAX);
    if soaked > look.now {
        return Need::Soak(soaked);
    }
    if approved || !anybody_needed(look, seats, index) { Need::Nothing } else { Need::Approval }
}

/// Whether somebody has to be told for a step: it asks for more than older runs and the steps before it account for. Those
/// that are away or failed count as well, or an approval could be got round by pulling a plug.
fn anybody_needed(look: &Look<'_>, seats: &[Seat<'_>], index: usize) -> bool {
    let mut in_order: Vec<usize> = (0..seats.len()).filter(|place| seats[*place].standing.told).collect();
    in_order.sort_by_key(|place| (seats[*place].asked.serve.as_ref().and_then(|told| told.at), *place));
    let mut accounted: Vec<bool> = seats.iter().map(|seat| older(seat)).collect();
    for (number, step) in look.policy.steps.iter().enumerate().take(index) {
        let matching: Vec<usize> = (0..seats.len()).filter(|place| matches(step, &seats[*place])).collect();
        let wanted = step.clusters.at_least_one_of(matching.len());
        let mut have = matching.iter().filter(|place| accounted[**place]).count();
        if number + 1 == index {
            return wanted > have;
        }
        for place in &in_order {
            if have < wanted && !accounted[*place] && matches(step, &seats[*place]) {
                accounted[*place] = true;
                have += 1;
            }
        }
    }
    false
}

/// Told the target before this run began.
fn older(seat: &Seat<'_>) -> bool {
    seat.standing.told && !seat.standing.told_in_run
}
