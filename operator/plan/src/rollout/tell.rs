//! Telling: who of those that a step needs is told now, and what becomes of the entries of everybody.

use std::sync::Arc;

use nave_crds::RolloutPhase;

use super::{
    Look,
    budget::{Budget, Groups},
    gates::Gates,
    standing::{Seat, previous_version, standing},
    target::Run,
};
use crate::input::{Held, Told};

/// Tells as many of the open places as the gates and budgets allow.
pub(crate) fn tell(
    look: &Look<'_>,
    run: &Run,
    gates: &Gates,
    groups: &Groups,
    seats: &mut [Seat<'_>],
    open: &[usize],
) {
    if !gates.allow_telling() {
        return;
    }
    let mut budget = Budget::of(look.policy, groups, seats);
    for place in open {
        let seat = &mut seats[*place];
        if !gates.staged(seat) {
            continue;
        }
        let old = seat.in_old_flight();
        let short = if old { budget.within(seat.group) } else { budget.short(seat.group, false) };
        if short.is_some() {
            continue;
        }
        if !old {
            budget.take(seat.group, false);
        }
        let told = Told {
            version: Arc::clone(&look.target),
            at: Some(look.stamp),
            previous: previous_version(look, seat.member),
        };
        seat.asked = Held { serve: Some(told), prefetch: None, wait: None };
        seat.tell = true;
        seat.standing = standing(look, run, seat.member, &seat.asked);
    }
}

/// Gives everybody the Prefetch and Wait entries that go with the Serve entries as they now are.
pub(crate) fn complete_entries(look: &Look<'_>, run: &Run, gates: &Gates, seats: &mut [Seat<'_>]) {
    if gates.frozen {
        return;
    }
    let fetching = matches!(run.phase, RolloutPhase::Rolling | RolloutPhase::Complete);
    for seat in seats {
        let wanted = look.policy.prefetch() && !seat.standing.told;
        let stored = seat.asked.prefetch.take().filter(|told| *told.version == *look.target);
        seat.asked.prefetch = if !wanted {
            None
        } else if stored.is_none() && fetching && gates.usable && !seat.held() {
            Some(Told { version: Arc::clone(&look.target), at: Some(look.stamp), previous: None })
        } else {
            stored
        };
        let marker = seat.asked.wait.flatten().filter(|at| run.is_back() && *at >= run.started_at);
        let nothing_else = seat.asked.serve.is_none() && seat.asked.prefetch.is_none();
        seat.asked.wait = nothing_else.then_some(marker);
    }
}
