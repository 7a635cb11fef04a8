//! Recheck: the earliest instant at which time alone changes a plan, be it whom it tells or what it says.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nave_crds::{RolloutPhase, StepState, WaitRule};

use super::{
    Look,
    standing::Seat,
    steps::{self, Need},
    tell::{self, Sides},
    waiting::{Decided, Waits, waits},
};
use crate::Category;

/// How many ends of flights to an older target are looked at. Each costs a look at every cluster, and more than a few that
/// change nothing are rare: many must be over a budget that shrank. Behind these a plan is looked at again for nothing.
const LANDINGS: usize = 8;

/// The earliest instant, if there is one, and whether that can be said without a look at everybody.
pub(crate) fn recheck(
    decided: &Decided<'_>,
    seats: &[Seat<'_>],
    now: &Waits,
    state: StepState,
) -> (Option<Timestamp>, bool) {
    let flights = seats.iter().filter(|seat| ends_by_time(decided, seat));
    let flights = flights.filter_map(|seat| seat.standing.flight_until);
    let flight = flights.chain(decided.at_rest.first_end()).min();
    let edge = now.at_the_window.then(|| decided.look.policy.windows.next_edge(decided.look.now)).flatten();
    let (soaked, sure) = soaked(decided, seats, now, state);
    let certain = [flight, edge, soaked].into_iter().flatten().min();
    (landing(decided, seats, now, certain).or(certain), sure)
}

/// In flight to the target, or back: it counts as failed when its time is up.
fn ends_by_time(decided: &Decided<'_>, seat: &Seat<'_>) -> bool {
    seat.is(Category::InFlight) || (seat.standing.sent_back && decided.run.is_back())
}

/// The end of the soak, where it is seen: the step is passed, or waits for its approval and says so. And whether that is
/// sure.
fn soaked(
    decided: &Decided<'_>,
    seats: &[Seat<'_>],
    now: &Waits,
    state: StepState,
) -> (Option<Timestamp>, bool) {
    let Need::Soak(until) = *decided.need else { return (None, true) };
    if decided.run.phase != RolloutPhase::Rolling || !decided.gates.allow_passing() {
        return (None, true);
    }
    if state == StepState::Soaking || now.has(WaitRule::Soak) {
        return (Some(until), true);
    }
    let then = Look { now: until, ..decided.look.clone() };
    let need = steps::need(&then, decided.run, seats, decided.at_rest);
    ((need == Need::Nothing).then_some(until), need != Need::Everybody)
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
        let need = steps::need(decided.look, decided.run, &later, decided.at_rest);
        let then = Decided { need: &need, ..*decided };
        if tells(&then, &later) || waits(&then, &later) != *now {
            return Some(end);
        }
    }
    None
}

/// Whether somebody is told then.
fn tells(decided: &Decided<'_>, seats: &[Seat<'_>]) -> bool {
    let Decided { look, run, gates, groups, need, at_rest, .. } = *decided;
    let Need::Told(open) = *need else { return false };
    let next = tell::next(Sides { look, gates, groups, at_rest }, run, seats, open);
    !next.seats.is_empty() || !next.at_rest.is_empty()
}
