//! What holds up clusters at rest: those of a kind wait for the same, but for whether it is their turn.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nave_crds::WaitRule;

use super::{Decided, Waits, step};
use crate::{
    Name,
    rollout::{
        budget::{Budget, Short},
        turn::Turn,
    },
    status::WAITING_NAMES,
};

/// Adds them.
pub(super) fn add(
    decided: &Decided<'_>,
    turn: Option<&Turn<'_>>,
    budget: &Budget<'_>,
    edge: Option<Timestamp>,
    waits: &mut Waits,
) {
    let (gates, at_rest) = (decided.gates, decided.at_rest);
    let mut add = |rule, names: &BTreeSet<Name>, until| waits.add_all(rule, names.len(), names.iter(), until);
    add(WaitRule::Connected, at_rest.told_away(), None);
    add(WaitRule::InFlight, at_rest.in_flight(), at_rest.first_end());
    let away = if gates.usable { WaitRule::Connected } else { WaitRule::ModelVersion };
    add(away, at_rest.untold_away(), None);
    let gate = if !gates.usable {
        Some(WaitRule::ModelVersion)
    } else if decided.run.is_back() {
        Some(if gates.paused { WaitRule::Paused } else { WaitRule::FailureBudget })
    } else if !gates.prefetched {
        Some(WaitRule::Prefetch)
    } else {
        None
    };
    add(gate.unwrap_or(WaitRule::Prefetch), at_rest.unstaged(), None);
    waits.connected_without_version |= !gates.usable && at_rest.waiting_count() > 0;
    let gate = gate.or(match (gates.paused, gates.stopped) {
        (true, _) => Some(WaitRule::Paused),
        (false, true) => Some(WaitRule::FailureBudget),
        (false, false) => None,
    });
    let (count, all) = (at_rest.waiting().len(), at_rest.waiting().iter());
    if let Some(rule) = gate {
        waits.add_all(rule, count, all, None);
        return;
    }
    let Some(turn) = turn else {
        let (rule, until) = step(decided.need);
        waits.add_all(rule, count, all, until);
        return;
    };
    let [now, later] = turn.at_rest(WAITING_NAMES);
    let (rule, until) = if !gates.window {
        (WaitRule::Window, edge)
    } else if budget.short(usize::MAX, false) == Some(Short::Slots) {
        (WaitRule::MaxConcurrent, None)
    } else {
        // Of groups with room nobody is at rest any more.
        (WaitRule::DisruptionBudget, None)
    };
    waits.at_the_window |= now.count > 0;
    waits.add_share(rule, &now, until);
    waits.add_share(WaitRule::Soak, &later, None);
}
