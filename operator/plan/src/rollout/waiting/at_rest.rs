//! What holds up clusters at rest: those of a kind wait for the same, but for the budget of their group.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nave_crds::WaitRule;

use super::{Decided, Waits, of_budget, step};
use crate::{
    Name,
    at_rest::Group,
    rollout::{
        budget::{Budget, Short},
        steps::Need,
    },
    status::WAITING_NAMES,
};

/// Adds them.
pub(super) fn add(decided: &Decided<'_>, budget: &Budget<'_>, edge: Option<Timestamp>, waits: &mut Waits) {
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
    let told = matches!(decided.need, Need::Told(_)) && count > 0;
    if let Some((rule, until)) = step(decided, edge) {
        waits.at_the_window |= told && rule == WaitRule::Window;
        waits.add_all(rule, count, all, until);
    } else if budget.short(usize::MAX, false) == Some(Short::Slots) {
        waits.at_the_window |= told;
        waits.add_all(WaitRule::MaxConcurrent, count, all, None);
    } else {
        by_group(decided, budget, waits);
    }
}

/// Those of groups whose budget is used up, and the others.
fn by_group(decided: &Decided<'_>, budget: &Budget<'_>, waits: &mut Waits) {
    let at_rest = decided.at_rest;
    let place = |label: &str| decided.groups.place(label);
    let (shut, open): (Vec<_>, Vec<_>) = at_rest
        .groups()
        .iter()
        .filter(|(_, group)| !group.waiting.is_empty())
        .partition(|(label, _)| budget.short(place(label), false).is_some());
    let count =
        |groups: &[(&String, &Group)]| groups.iter().map(|(_, group)| group.waiting.len()).sum::<usize>();
    if shut.is_empty() {
        let all = at_rest.waiting();
        waits.add_all(of_budget(None), all.len(), all.iter(), None);
        return;
    }
    waits.at_the_window = true;
    for (rule, groups) in [(WaitRule::DisruptionBudget, shut), (of_budget(None), open)] {
        let first: BTreeSet<&Name> =
            groups.iter().flat_map(|(_, group)| group.waiting.iter().take(WAITING_NAMES)).collect();
        waits.add_all(rule, count(&groups), first.into_iter(), None);
    }
}
