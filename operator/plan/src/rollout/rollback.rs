//! Rollback: everybody told in this run goes back to what it served before, last told first, within the budgets.

use std::{cmp::Reverse, sync::Arc};

use nave_crds::{RolloutPhase, WaitRule};

use super::{
    Look,
    budget::{Budget, Groups, Short},
    standing::{Seat, standing},
    target::Run,
};
use crate::{
    Category,
    at_rest::AtRest,
    input::{Held, Told},
};

/// Somebody that cannot go back yet, and why.
pub(crate) type Stuck = (usize, WaitRule);

/// Sends back whom the budgets allow, and ends the rollback when everybody is back. Says who is not sent yet.
pub(crate) fn send_back(
    look: &Look<'_>,
    run: &mut Run,
    groups: &Groups,
    seats: &mut [Seat<'_>],
    at_rest: &AtRest,
) -> Vec<Stuck> {
    let mut budget = Budget::of(look.policy, groups, seats);
    let mut stuck = Vec::new();
    for place in to_send(look, seats) {
        match admit(look, &mut budget, &seats[place]) {
            Some(rule) => stuck.push((place, rule)),
            None => send(look, run, &mut seats[place]),
        }
    }
    let returning = |seat: &Seat<'_>| seat.standing.sent_back && seat.standing.flight_until.is_some();
    if stuck.is_empty() && at_rest.returning == 0 && !seats.iter().any(returning) {
        run.phase = RolloutPhase::RolledBack;
        // What stands in the annotation was written before there was anything to retry.
        run.retry = look.policy.annotations.retry.clone().or(run.retry.take());
    }
    stuck
}

/// Whether a rollback is stored as over, and some were not written that they go back: the hub died between the two, or was
/// refused.
pub(crate) fn is_owed(look: &Look<'_>, run: &Run, seats: &[Seat<'_>]) -> bool {
    run.phase == RolloutPhase::RolledBack && !to_send(look, seats).is_empty()
}

/// Those told in this run: last told first, then lowest rank first. One whose last version is the target itself has
/// nowhere else to go.
pub(crate) fn to_send(look: &Look<'_>, seats: &[Seat<'_>]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..seats.len())
        .filter(|place| {
            let seat = &seats[*place];
            seat.standing.told_in_run && seat.previous() != Some(&*look.target)
        })
        .collect();
    let told_at = |place: &usize| seats[*place].asked.serve.as_ref().and_then(|told| told.at);
    places.sort_by_key(|place| (Reverse(told_at(place)), Reverse(*place)));
    places
}

/// Takes what sending one back costs, or says what it waits for.
fn admit(look: &Look<'_>, budget: &mut Budget<'_>, seat: &Seat<'_>) -> Option<WaitRule> {
    let (in_flight, failed) = (seat.is(Category::InFlight), seat.is(Category::Failed));
    let Some(previous) = seat.previous() else {
        // It drops the model and is done: nothing will be in flight.
        if in_flight || failed {
            budget.give_back(seat.group, in_flight);
        }
        return None;
    };
    let version = look.catalogue.find(look.namespace(), look.policy.model(), previous);
    if !version.is_some_and(|version| version.usable()) {
        return Some(WaitRule::ModelVersion);
    }
    if !seat.connected() {
        if failed {
            budget.give_back(seat.group, false);
        }
        return None;
    }
    if in_flight {
        return None;
    }
    // One that requirements hold is deferred: it goes back at once, like one that is away.
    if !seat.is(Category::Deferred) {
        match budget.short(seat.group, failed) {
            Some(Short::Slots) => return Some(WaitRule::MaxConcurrent),
            Some(Short::Group) => return Some(WaitRule::DisruptionBudget),
            None => {}
        }
    }
    budget.take(seat.group, failed);
    None
}

fn send(look: &Look<'_>, run: &Run, seat: &mut Seat<'_>) {
    let previous = seat.asked.serve.as_ref().and_then(|told| told.previous.clone());
    seat.asked = match previous {
        Some(version) => Held {
            serve: Some(Arc::new(Told {
                previous: Some(Arc::clone(&version)),
                version,
                at: Some(look.stamp),
            })),
            ..Held::default()
        },
        None => Held { wait: Some(Some(look.stamp)), ..Held::default() },
    };
    seat.standing = standing(look.policy, look.now, run, seat.member, &seat.asked);
    seat.standing.sent_back = true;
}
