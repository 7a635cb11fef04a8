//! Recheck: the earliest instant at which time alone changes a plan, be it whom it tells or what it says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nave_crds::{RolloutPhase, StepState, WaitRule};

use super::{
    Look,
    budget::Budget,
    standing::Seat,
    steps::{self, Need},
    waiting::{Decided, Waits, waits},
};
use crate::Category;

/// How many ends of flights to an older target are looked at. Each costs a look at every cluster, and more than a few that
/// change nothing are rare: many must be over a budget that shrank. Behind these a plan is looked at again for nothing.
const LANDINGS: usize = 8;

/// The earliest instant, if there is one.
pub(crate) fn recheck(
    decided: &Decided<'_>,
    seats: &[Seat<'_>],
    now: &Waits,
    state: StepState,
) -> Option<Timestamp> {
    let flights = seats.iter().filter(|seat| ends_by_time(decided, seat));
    let flight = flights.filter_map(|seat| seat.standing.flight_until).min();
    let edge = now.at_the_window.then(|| decided.look.policy.windows.next_edge(decided.look.now)).flatten();
    let certain = [flight, edge, soaked(decided, seats, now, state)].into_iter().flatten().min();
    landing(decided, seats, now, certain).or(certain)
}

/// In flight to the target, or back: it counts as failed when its time is up.
fn ends_by_time(decided: &Decided<'_>, seat: &Seat<'_>) -> bool {
    seat.is(Category::InFlight) || (seat.standing.sent_back && decided.run.is_back())
}

/// The end of the soak, where it is seen: the step is passed, or waits for its approval and says so.
fn soaked(decided: &Decided<'_>, seats: &[Seat<'_>], now: &Waits, state: StepState) -> Option<Timestamp> {
    let Need::Soak(until) = *decided.need else { return None };
    if decided.run.phase != RolloutPhase::Rolling || !decided.gates.allow_passing() {
        return None;
    }
    let said = state == StepState::Soaking || now.has(WaitRule::Soak);
    let passes = || {
        let then = Look { now: until, ..decided.look.clone() };
        steps::need(&then, decided.run, seats) == Need::Nothing
    };
    (said || passes()).then_some(until)
}

/// The first end of a flight to an older target that frees a slot, or a place in a group, for somebody.
fn landing(
    decided: &Decided<'_>,
    seats: &[Seat<'_>],
    now: &Waits,
    before: Option<Timestamp>,
) -> Option<Timestamp> {
    if !matches!(decided.need, Need::Told(_)) || !decided.gates.allow_telling() || decided.run.is_back() {
        return None;
    }
    let old = |seat: &&Seat<'_>| seat.in_old_flight();
    let ends: BTreeSet<Timestamp> =
        seats.iter().filter(old).filter_map(|seat| seat.standing.flight_until).collect();
    let mut later: Vec<Seat<'_>> = Vec::new();
    for (number, end) in ends.into_iter().enumerate() {
        if before.is_some_and(|before| before <= end) {
            return None;
        }
        if number == LANDINGS {
            return Some(end);
        }
        if later.is_empty() {
            later = seats.to_vec();
        }
        for seat in later.iter_mut().filter(|seat| seat.standing.flight_until == Some(end)) {
            if seat.in_old_flight() {
                seat.standing.flight_until = None;
            }
        }
        let need = steps::need(decided.look, decided.run, &later);
        let then = Decided { need: &need, ..*decided };
        if tells(&then, &later) || waits(&then, &later) != *now {
            return Some(end);
        }
    }
    None
}

/// Whether somebody is told then.
fn tells(decided: &Decided<'_>, seats: &[Seat<'_>]) -> bool {
    let Need::Told(open) = decided.need else { return false };
    let budget = Budget::of(decided.look.policy, decided.groups, seats);
    open.iter().map(|place| &seats[*place]).any(|seat| {
        let short =
            if seat.in_old_flight() { budget.within(seat.group) } else { budget.short(seat.group, false) };
        decided.gates.staged(seat) && short.is_none()
    })
}
