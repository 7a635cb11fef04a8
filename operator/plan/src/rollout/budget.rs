//! Budgets: slots of maxConcurrent, and how many of each group may be away.

use std::collections::BTreeMap;

use super::standing::Seat;
use crate::{Category, at_rest::AtRest, input::Policy, placement::Member};

/// The groups of a disruption budget: which one each seat is in, and how many of it may be away.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    /// Their places in the lists, by label. Empty = no budget.
    places: BTreeMap<&'a str, usize>,
    limits: Vec<usize>,
    /// Those at rest that are in flight.
    away: Vec<usize>,
    /// The same in all groups.
    in_flight: usize,
    /// All selected clusters.
    selected: usize,
}

impl<'a> Groups<'a> {
    /// The groups of the selected clusters, and the group of each that is not at rest.
    pub(crate) fn of(policy: &Policy, busy: &[&'a Member], at_rest: &'a AtRest) -> (Self, Vec<usize>) {
        let (selected, in_flight) = (busy.len() + at_rest.count(), at_rest.in_flight().len());
        let Some((label, share)) = &policy.budget else {
            let none = Self { places: BTreeMap::new(), limits: vec![], away: vec![], in_flight, selected };
            return (none, vec![0; busy.len()]);
        };
        let known = at_rest.groups();
        let mut places: BTreeMap<&str, usize> =
            known.keys().enumerate().map(|(place, label)| (label.as_str(), place)).collect();
        let mut sizes: Vec<usize> = known.values().map(|group| group.count).collect();
        let mut away: Vec<usize> = known.values().map(|group| group.in_flight).collect();
        let mut group_of = Vec::with_capacity(busy.len());
        for member in busy {
            let place = *places.entry(member.label(label).unwrap_or_default()).or_insert(sizes.len());
            if place == sizes.len() {
                sizes.push(0);
                away.push(0);
            }
            sizes[place] += 1;
            group_of.push(place);
        }
        let limits = sizes.into_iter().map(|size| share.of(size)).collect();
        (Self { places, limits, away, in_flight, selected }, group_of)
    }

    /// The place of a group.
    pub(crate) fn place(&self, label: &str) -> usize {
        self.places.get(label).copied().unwrap_or_default()
    }
}

/// What of both budgets is used.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    groups: &'a Groups<'a>,
    away: Vec<usize>,
    used: usize,
    slots: usize,
}

/// Which budget has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    Slots,
    Group,
}

impl<'a> Budget<'a> {
    /// What the seats and those at rest use. In a rollback, one that was sent back counts while it is on the way, as failed or not.
    pub(crate) fn of(policy: &Policy, groups: &'a Groups<'a>, seats: &[Seat<'_>]) -> Self {
        let slots = policy.max_concurrent.at_least_one_of(groups.selected);
        let mut budget = Self { groups, away: groups.away.clone(), used: groups.in_flight, slots };
        for seat in seats {
            let sent_back = seat.standing.sent_back;
            let returning = sent_back && seat.standing.flight_until.is_some();
            let in_flight = seat.is(Category::InFlight) || seat.in_old_flight() || returning;
            let failed = seat.is(Category::Failed) && !sent_back;
            budget.used += usize::from(in_flight);
            if in_flight || failed {
                budget.leave(seat.group);
            }
        }
        budget
    }

    /// Whether one more of a group may be in flight. `counted`: it is one of those counted in its group already.
    pub(crate) fn short(&self, group: usize, counted: bool) -> Option<Short> {
        if self.used >= self.slots {
            return Some(Short::Slots);
        }
        if !counted && self.away.get(group).is_some_and(|away| *away >= self.groups.limits[group]) {
            return Some(Short::Group);
        }
        None
    }

    /// Whether those in flight keep the limits, so that one of them may change what it is in flight for.
    pub(crate) fn within(&self, group: usize) -> Option<Short> {
        if self.used > self.slots {
            return Some(Short::Slots);
        }
        if self.away.get(group).is_some_and(|away| *away > self.groups.limits[group]) {
            return Some(Short::Group);
        }
        None
    }

    /// One more is in flight.
    pub(crate) fn take(&mut self, group: usize, counted: bool) {
        self.used += 1;
        if !counted {
            self.leave(group);
        }
    }

    /// One that was in flight, or failed, is neither any more.
    pub(crate) fn give_back(&mut self, group: usize, slot: bool) {
        self.used -= usize::from(slot);
        if let Some(away) = self.away.get_mut(group) {
            *away -= 1;
        }
    }

    fn leave(&mut self, group: usize) {
        if let Some(away) = self.away.get_mut(group) {
            *away += 1;
        }
    }
}
