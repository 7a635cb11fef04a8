//! Waiting: for each selected cluster that may not be told, the first rule that holds it up, and when time alone ends it.

mod at_rest;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_crds::{RolloutPhase, WaitRule};

use super::{
    Look,
    budget::{Budget, Groups, Short},
    gates::Gates,
    rollback::{Stuck, to_send},
    standing::Seat,
    steps::{Need, matches},
    target::Run,
    turn::{Share, Turn},
};
use crate::{Category, Name, Wait, at_rest::AtRest, placement::Key, status::WAITING_NAMES};

/// What a plan has decided, when it is asked what holds up whom.
#[derive(Debug)]
pub(crate) struct Decided<'a> {
    pub(crate) look: &'a Look<'a>,
    pub(crate) run: &'a Run,
    pub(crate) gates: &'a Gates,
    pub(crate) groups: &'a Groups<'a>,
    pub(crate) need: &'a Need,
    pub(crate) stuck: &'a [Stuck],
    pub(crate) at_rest: &'a AtRest,
}

/// What holds up whom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    rules: BTreeMap<WaitRule, Row>,
    /// Somebody may be told as far as everything but the window and the budgets goes.
    pub(crate) at_the_window: bool,
    /// Somebody connected could be told, but for the version.
    pub(crate) connected_without_version: bool,
}

/// Those that one rule holds up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    clusters: Vec<Name>,
    /// Of those that wait for their turn, or for what their turn is short of, the best ranked are named.
    ranked: Vec<Key>,
    more: usize,
    until: Option<Timestamp>,
    message: Option<String>,
}

impl Waits {
    fn add(&mut self, rule: WaitRule, name: &Name, until: Option<Timestamp>) {
        let row = self.rules.entry(rule).or_default();
        row.clusters.push(Arc::clone(name));
        row.until = earliest(row.until, until);
    }

    /// Adds clusters that come by name, of which only the first are named.
    pub(crate) fn add_all<'a>(
        &mut self,
        rule: WaitRule,
        count: usize,
        names: impl Iterator<Item = &'a Name>,
        until: Option<Timestamp>,
    ) {
        if count == 0 {
            return;
        }
        let row = self.rules.entry(rule).or_default();
        row.clusters.extend(names.take(WAITING_NAMES).cloned());
        row.more += count.saturating_sub(WAITING_NAMES);
        row.until = earliest(row.until, until);
    }

    /// Adds one that is named by its rank.
    fn add_ranked(&mut self, rule: WaitRule, key: &Key, until: Option<Timestamp>) {
        self.add(rule, &key.name, until);
        self.rules.entry(rule).or_default().ranked.push(key.clone());
    }

    /// Adds clusters of which only the best ranked are named.
    pub(crate) fn add_share(&mut self, rule: WaitRule, share: &Share<'_>, until: Option<Timestamp>) {
        share.best.iter().for_each(|key| self.add_ranked(rule, key, until));
        if let Some(row) = self.rules.get_mut(&rule) {
            row.more += share.count - share.best.len();
        }
    }

    pub(crate) fn has(&self, rule: WaitRule) -> bool {
        self.rules.contains_key(&rule)
    }

    /// The rows, in the order of the rules.
    pub(crate) fn into_rows(self) -> Vec<Waiting> {
        let row = |(rule, mut row): (WaitRule, Row)| {
            row.clusters.sort_unstable();
            row.ranked.sort_unstable();
            let mut first: Vec<Name> =
                row.ranked.into_iter().map(|key| key.name).take(WAITING_NAMES).collect();
            first.sort_unstable();
            if first.is_empty() {
                first.extend(row.clusters.iter().take(WAITING_NAMES).cloned());
            }
            let wait = Wait { rule, clusters: row.clusters, until: row.until, message: row.message };
            Waiting { wait, first, more: row.more }
        };
        self.rules.into_iter().map(row).collect()
    }
}

/// One row, and how many more clusters it holds up than it names: only the first of those at rest are named.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) wait: Wait,
    /// Whom the status names.
    pub(crate) first: Vec<Name>,
    pub(crate) more: usize,
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What holds up whom.
pub(crate) fn waits(decided: &Decided<'_>, seats: &[Seat<'_>]) -> Waits {
    let budget = Budget::of(decided.look.policy, decided.groups, seats);
    let edge = decided.look.policy.windows.next_edge(decided.look.now);
    let mut waits = Waits::default();
    let mut stuck: BTreeMap<usize, WaitRule> = decided.stuck.iter().copied().collect();
    if decided.run.phase == RolloutPhase::RollingBack && (decided.gates.paused || decided.gates.frozen) {
        let rule = if decided.gates.paused { WaitRule::Paused } else { WaitRule::Requirements };
        stuck.extend(to_send(decided.look, seats).into_iter().map(|place| (place, rule)));
    }
    let turn = Turn::now(decided, seats);
    for (place, seat) in seats.iter().enumerate() {
        if let Some(rule) = stuck.get(&place) {
            waits.add(*rule, seat.name(), None);
            if *rule == WaitRule::ModelVersion {
                let message = || decided.look.problem_of(seat.previous().unwrap_or_default());
                waits.rules.entry(*rule).or_default().message.get_or_insert_with(message);
            }
            continue;
        }
        let its_turn = turn.as_ref().is_some_and(|turn| turn.is_of(place, seat));
        let Some((rule, until)) = rule(decided, &budget, seat, its_turn.then_some(edge)) else { continue };
        let told = seat.standing.told || seat.standing.sent_back;
        let short = matches!(rule, WaitRule::Window | WaitRule::MaxConcurrent | WaitRule::DisruptionBudget);
        match seat.key() {
            Some(key) if turn.is_some() && !told && (short || rule == WaitRule::Soak) => {
                waits.add_ranked(rule, key, until);
            }
            _ => waits.add(rule, seat.name(), until),
        }
        waits.at_the_window |= !told && short;
        waits.connected_without_version |= rule == WaitRule::ModelVersion && seat.connected() && !seat.held();
        if let Some(hold) = seat.member.hold.as_ref().filter(|_| rule == WaitRule::Requirements) {
            let message = || format!("{}: {hold}", seat.name());
            waits.rules.entry(rule).or_default().message.get_or_insert_with(message);
        }
    }
    at_rest::add(decided, turn.as_ref(), &budget, edge, &mut waits);
    if let Some(row) = waits.rules.get_mut(&WaitRule::ModelVersion) {
        row.message.get_or_insert_with(|| decided.look.version_problem());
    }
    if decided.stalled()
        && let Some(row) = waits.rules.get_mut(&WaitRule::InFlight)
    {
        row.message = Some("all that are connected have failed; one of them has to serve it".into());
    }
    if !decided.gates.prefetched
        && let Some(row) = waits.rules.get_mut(&WaitRule::Prefetch)
    {
        row.message = Some(not_staged(seats, decided.at_rest));
    }
    waits
}

/// Whom the gate of prefetch waits for, by name: the others wait for these.
fn not_staged(seats: &[Seat<'_>], at_rest: &AtRest) -> String {
    const SHOWN: usize = 5;
    let delaying = at_rest.delaying();
    let mut names: Vec<&str> =
        seats.iter().filter(|seat| seat.delays_prefetch()).map(|seat| &**seat.name()).collect();
    let count = names.len() + delaying.len();
    names.extend(delaying.iter().take(SHOWN).map(|name| &**name));
    names.sort_unstable();
    let more = match count.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(SHOWN);
    format!("not Staged yet: {}{more}", names.join(", "))
}

/// The first rule that holds up one cluster. `turn`: it is its turn, and the next edge of the windows, if there is one.
fn rule(
    decided: &Decided<'_>,
    budget: &Budget<'_>,
    seat: &Seat<'_>,
    turn: Option<Option<Timestamp>>,
) -> Option<(WaitRule, Option<Timestamp>)> {
    let gates = decided.gates;
    let settled = seat.is(Category::Serving) || seat.is(Category::Failed);
    if settled {
        let rule = if seat.held() && seat.is(Category::Serving) {
            Some(WaitRule::Requirements)
        } else if decided.waits_for_failed(seat) {
            Some(WaitRule::InFlight)
        } else {
            None
        };
        return rule.map(|rule| (rule, None)).or_else(|| returning(decided, seat));
    }
    if !seat.standing.told && !gates.usable {
        return Some((WaitRule::ModelVersion, None));
    }
    if seat.held() {
        return Some((WaitRule::Requirements, None));
    }
    if !seat.connected() {
        return Some((WaitRule::Connected, None));
    }
    if seat.standing.told {
        return Some((WaitRule::InFlight, seat.standing.flight_until));
    }
    if let Some(wait) = returning(decided, seat) {
        return Some(wait);
    }
    if decided.run.is_back() {
        // Nothing is fetched for it any more.
        return Some((if gates.paused { WaitRule::Paused } else { WaitRule::FailureBudget }, None));
    }
    if !gates.prefetched || !gates.staged(seat) {
        return Some((WaitRule::Prefetch, None));
    }
    if gates.paused {
        return Some((WaitRule::Paused, None));
    }
    if gates.stopped {
        return Some((WaitRule::FailureBudget, None));
    }
    Some(match turn {
        Some(edge) if !gates.window => (WaitRule::Window, edge),
        Some(_) => (short(budget, seat), None),
        None => step(decided.need),
    })
}

/// On the way back in a rollback.
fn returning(decided: &Decided<'_>, seat: &Seat<'_>) -> Option<(WaitRule, Option<Timestamp>)> {
    let on_the_way = decided.run.is_back() && seat.standing.sent_back && seat.standing.flight_until.is_some();
    on_the_way.then_some((WaitRule::InFlight, seat.standing.flight_until))
}

/// What a cluster whose turn it is, is short of.
fn short(budget: &Budget<'_>, seat: &Seat<'_>) -> WaitRule {
    let old = seat.in_old_flight();
    match if old { budget.within(seat.group) } else { budget.short(seat.group, false) } {
        Some(Short::Slots) => WaitRule::MaxConcurrent,
        Some(Short::Group) | None => WaitRule::DisruptionBudget,
    }
}

/// What those wait for whose turn it is not: that the step is done.
fn step(need: &Need) -> (WaitRule, Option<Timestamp>) {
    match need {
        Need::Soak(until) => (WaitRule::Soak, Some(*until)),
        Need::Approval => (WaitRule::Approval, None),
        Need::Told(_) | Need::Arrival | Need::Recovery | Need::Everybody | Need::Nothing => {
            (WaitRule::Soak, None)
        }
    }
}

impl Decided<'_> {
    /// Whether the step can go on only if one that failed recovers.
    fn stalled(&self) -> bool {
        *self.need == Need::Recovery && self.run.phase == RolloutPhase::Rolling && self.gates.allow_passing()
    }

    /// Whether a seat that failed is one of those that could let a stalled step go on.
    fn waits_for_failed(&self, seat: &Seat<'_>) -> bool {
        let step = self.look.policy.steps.get(self.run.step - 1);
        self.stalled() && seat.active() && step.is_some_and(|step| matches(step, seat))
    }
}
