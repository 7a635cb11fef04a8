//! Tally: of a policy's clusters what can be counted instead of looked at. Each one is added and taken away by itself, so
//! that a change of one costs the same whatever the fleet's size.
//!
//! Invariant: a tally is what adding its members one by one gives, in any order; `planner` adds a member only as decided,
//! and takes it away before it decides anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Category, Excluded, ExclusionReason, Name,
    at_rest::AtRest,
    input::Policy,
    members::Members,
    placement::{Key, Member, Place},
    rollout::Rolled,
    status::EXCLUDED_NAMES,
};

/// The tally of all members of one policy.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) matched: usize,
    excluded: BTreeMap<ExclusionReason, BTreeSet<Name>>,
    pub(crate) busy: Busy,
    pub(crate) at_rest: AtRest,
}

/// Selected clusters that are not at rest.
#[derive(Debug)]
pub(crate) enum Busy {
    /// Best first.
    These(BTreeSet<Key>),
    /// So many of all that a walk over these finds them. A policy that begins has nobody at rest, and to sort them all would
    /// be for nothing.
    Many(usize),
}

impl Default for Busy {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

/// How many clusters of a policy are where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) matched: usize,
    pub(crate) selected: usize,
    pub(crate) prefetched: usize,
    pub(crate) updated: usize,
    pub(crate) serving: usize,
    pub(crate) failed: usize,
    pub(crate) deferred: usize,
    pub(crate) connected_not_serving: usize,
}

/// Those that one reason excludes.
#[derive(Clone, Debug)]
pub(crate) struct ExcludedRow {
    pub(crate) reason: ExclusionReason,
    pub(crate) count: usize,
    /// The first of them, by name.
    pub(crate) first: Vec<Name>,
    /// Why the first one is.
    pub(crate) message: String,
}

impl Tally {
    /// The tally of these members.
    pub(crate) fn of(policy: &Policy, members: &Members) -> Self {
        let mut tally = Self { at_rest: AtRest::new(policy), ..Self::default() };
        // Sorted lists become sets at once; insertions one by one would cost ten times as much.
        let mut busy = Vec::new();
        let mut excluded: BTreeMap<ExclusionReason, Vec<Name>> = BTreeMap::new();
        for member in members.iter() {
            match (&member.place, member.rest) {
                (Place::Excluded((reason, _)), _) => {
                    excluded.entry(*reason).or_default().push(Name::clone(member.name()));
                }
                (Place::Selected(key), None) => busy.push(key),
                (Place::Selected(key), Some(rest)) => tally.at_rest.add(policy, key, member, rest),
                (Place::Out, _) => {}
            }
            tally.matched += usize::from(member.matched);
        }
        tally.busy = Busy::of(&busy, members);
        tally.excluded =
            excluded.into_iter().map(|(reason, names)| (reason, names.into_iter().collect())).collect();
        tally
    }

    /// Counts one more.
    pub(crate) fn add(&mut self, policy: &Policy, member: &Member) {
        self.matched += usize::from(member.matched);
        match (&member.place, member.rest) {
            (Place::Excluded((reason, _)), _) => {
                self.excluded.entry(*reason).or_default().insert(Name::clone(member.name()));
            }
            (Place::Selected(key), None) => self.busy.add(key),
            (Place::Selected(key), Some(rest)) => self.at_rest.add(policy, key, member, rest),
            (Place::Out, _) => {}
        }
    }

    /// Counts one less.
    pub(crate) fn take(&mut self, policy: &Policy, member: &Member) {
        self.matched -= usize::from(member.matched);
        match (&member.place, member.rest) {
            (Place::Excluded((reason, _)), _) => {
                if let Some(names) = self.excluded.get_mut(reason) {
                    names.remove(member.name());
                }
            }
            (Place::Selected(key), None) => self.busy.take(key),
            (Place::Selected(key), Some(rest)) => self.at_rest.take(policy, key, member, rest),
            (Place::Out, _) => {}
        }
    }

    /// Where everybody is, given what was decided about those that are not at rest.
    pub(crate) fn counts(&self, rolled: &Rolled<'_>) -> Counts {
        let mut counts = Counts::of(self.matched, rolled);
        let rest = &self.at_rest;
        counts.selected += rest.count();
        counts.prefetched += rest.holding_target;
        counts.updated += rest.serving + rest.in_flight().len() - rest.returning + rest.told_away().len();
        counts.failed += rest.failed().len();
        counts.serving += rest.serving;
        counts.deferred += rest.away_count();
        counts.connected_not_serving += rest.active_count() - rest.serving;
        counts
    }

    /// Who is excluded, by reason.
    pub(crate) fn excluded(&self, members: &Members) -> Vec<ExcludedRow> {
        let message = |name: &Name| match members.get(name).map(|member| &member.place) {
            Some(Place::Excluded((_, message))) => format!("{name}: {message}"),
            Some(Place::Out | Place::Selected(_)) | None => String::new(),
        };
        let row = |(reason, names): (&ExclusionReason, &BTreeSet<Name>)| {
            let message = message(names.first()?);
            let first = names.iter().take(EXCLUDED_NAMES).cloned().collect();
            Some(ExcludedRow { reason: *reason, count: names.len(), first, message })
        };
        self.excluded.iter().filter_map(row).collect()
    }
}

impl Busy {
    fn of(keys: &[&Key], members: &Members) -> Self {
        if keys.len() * 2 > members.count() {
            return Self::Many(keys.len());
        }
        Self::These(keys.iter().copied().cloned().collect())
    }

    fn add(&mut self, key: &Key) {
        match self {
            Self::These(keys) => drop(keys.insert(key.clone())),
            Self::Many(count) => *count += 1,
        }
    }

    fn take(&mut self, key: &Key) {
        match self {
            Self::These(keys) => drop(keys.remove(key)),
            Self::Many(count) => *count -= 1,
        }
    }

    /// Once they are few, they are known one by one: the walk for it comes after as many changes.
    pub(crate) fn settle(&mut self, members: &Members) {
        if let Self::Many(count) = self
            && members.are_few(*count)
        {
            *self = Self::These(members.iter().filter_map(Member::busy).cloned().collect());
        }
    }
}

impl Counts {
    /// Where those are about whom was decided.
    pub(crate) fn of(matched: usize, rolled: &Rolled<'_>) -> Self {
        let mut counts = Self { matched, selected: rolled.seats.len(), ..Self::default() };
        for seat in &rolled.seats {
            counts.prefetched += usize::from(seat.holds_target);
            counts.updated += usize::from(seat.standing.told);
            counts.serving += usize::from(seat.is(Category::Serving));
            counts.failed += usize::from(seat.is(Category::Failed));
            counts.deferred += usize::from(seat.is(Category::Deferred));
            counts.connected_not_serving += usize::from(seat.connected() && !seat.is(Category::Serving));
        }
        counts
    }
}

impl ExcludedRow {
    /// The rows of a list.
    pub(crate) fn of(excluded: &[Excluded]) -> Vec<Self> {
        let mut by_reason: BTreeMap<ExclusionReason, Vec<&Excluded>> = BTreeMap::new();
        for one in excluded {
            by_reason.entry(one.reason).or_default().push(one);
        }
        let row = |(reason, all): (ExclusionReason, Vec<&Excluded>)| Self {
            reason,
            count: all.len(),
            first: all.iter().take(EXCLUDED_NAMES).map(|one| Name::clone(&one.cluster)).collect(),
            message: all.first().map(|one| format!("{}: {}", one.cluster, one.message)).unwrap_or_default(),
        };
        by_reason.into_iter().map(row).collect()
    }
}
