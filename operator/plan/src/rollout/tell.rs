//! Telling: who is asked to fetch, who of those that a step needs is told now, and what becomes of the entries of everybody.

use std::sync::Arc;

use super::{
    Look,
    budget::{Budget, Groups},
    gates::Gates,
    standing::{Seat, previous_version, standing},
    target::Run,
};
use crate::{
    input::{Held, Told, Version},
    placement::Member,
};

/// The Prefetch entry that a cluster has in this plan. It is given before anybody's standing is looked at: what the spoke
/// reported before it was asked is no answer to it.
pub(crate) fn prefetch(look: &Look<'_>, run: &Run, member: &Member) -> Option<Told> {
    let stored = member.held().prefetch.clone();
    if look.policy.frozen().is_some() {
        return stored;
    }
    let told = member.held().serve.as_ref().is_some_and(|told| *told.version == *look.target);
    if !look.policy.prefetch() || told || look.version.is_some_and(Version::withdrawn) {
        return None;
    }
    let stored = stored.filter(|stored| *stored.version == *look.target);
    let usable = look.version.is_some_and(Version::usable);
    if run.is_back() || !usable || member.hold.is_some() {
        return stored;
    }
    // A run that is retried asks anew, also those that failed the first time.
    let stored = stored.filter(|stored| stored.at.is_none_or(|at| at >= run.started_at));
    stored.or_else(|| Some(Told { version: Arc::clone(&look.target), at: Some(look.stamp), previous: None }))
}

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

/// Gives those of whom nothing else is asked their Wait entry, and takes it from the others.
pub(crate) fn complete_entries(run: &Run, gates: &Gates, seats: &mut [Seat<'_>]) {
    if gates.frozen {
        return;
    }
    for seat in seats {
        let marker = seat.asked.wait.flatten().filter(|at| run.is_back() && *at >= run.started_at);
        let nothing_else = seat.asked.serve.is_none() && seat.asked.prefetch.is_none();
        seat.asked.wait = nothing_else.then_some(marker);
    }
}
