//! Telling: who is asked to fetch, who of those that a step needs is told now, and what becomes of the entries of everybody.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, btree_set},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Look,
    budget::{Budget, Groups, Short},
    gates::Gates,
    standing::{Seat, previous_version, standing},
    target::Run,
    turn::Turn,
};
use crate::{
    Name,
    at_rest::{AtRest, Crowd},
    input::{Held, Policy, Told, Version},
    placement::{Key, Member},
};

/// What is asked of a cluster before anybody is told anything: what is stored, and that it fetches.
pub(crate) fn at_first(
    policy: &Policy,
    version: Option<&Version>,
    run: &Run,
    stamp: Timestamp,
    member: &Member,
) -> Held {
    Held { prefetch: prefetch(policy, version, run, stamp, member), ..member.held().clone() }
}

/// The Prefetch entry that a cluster has in this plan. It is given before anybody's standing is looked at: what the spoke
/// reported before it was asked is no answer to it.
pub(crate) fn prefetch(
    policy: &Policy,
    version: Option<&Version>,
    run: &Run,
    stamp: Timestamp,
    member: &Member,
) -> Option<Arc<Told>> {
    let stored = member.held().prefetch.clone();
    if policy.frozen().is_some() {
        return stored;
    }
    let told = member.held().serve.as_ref().is_some_and(|told| *told.version == *policy.target());
    if !policy.prefetch() || told || version.is_some_and(Version::withdrawn) {
        return None;
    }
    let stored = stored.filter(|stored| *stored.version == *policy.target());
    let usable = version.is_some_and(Version::usable);
    if run.is_back() || !usable || member.hold.is_some() {
        return stored;
    }
    // A run that is retried asks anew, also those that failed the first time.
    let stored = stored.filter(|stored| stored.at.is_none_or(|at| at >= run.started_at));
    let told = || Told { version: Arc::clone(&policy.target_name), at: Some(stamp), previous: None };
    stored.or_else(|| Some(Arc::new(told())))
}

/// Who of those that the step needs can be told now.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Places of seats.
    pub(crate) seats: Vec<usize>,
    /// Clusters at rest.
    pub(crate) at_rest: Vec<Name>,
}

/// What stays as it is while clusters are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) look: &'a Look<'a>,
    pub(crate) gates: &'a Gates,
    pub(crate) groups: &'a Groups<'a>,
    pub(crate) at_rest: &'a AtRest,
}

/// Who is told now, if the gates allow it: of the first `open` that can be told, as many as the budgets allow.
pub(crate) fn next(sides: Sides<'_>, run: &Run, seats: &[Seat<'_>], open: usize) -> Next {
    let Sides { look, gates, groups, at_rest } = sides;
    let turn = Turn::of(look, run, seats, at_rest, open);
    let mut next = Next::default();
    let mut budget = Budget::of(look.policy, groups, seats);
    for place in turn.old.iter().copied() {
        if gates.staged(&seats[place]) && budget.within(seats[place].group).is_none() {
            next.seats.push(place);
        }
    }
    let mut lanes = Lanes::of(groups, turn.crowds(), &budget);
    let mut others = (0..seats.len()).filter(|place| turn.is_by_rank(&seats[*place])).peekable();
    loop {
        let of_seats = others.peek().and_then(|place| seats[*place].key());
        let of_lanes = lanes.best();
        if of_seats.is_none() && of_lanes.is_none() {
            return next;
        }
        let seat_first = match (of_seats, of_lanes) {
            (Some(seat), Some(lane)) => seat < lane,
            (seat, _) => seat.is_some(),
        };
        let key = if seat_first { of_seats } else { of_lanes };
        if turn.is_behind(key) {
            return next;
        }
        let group = if seat_first { others.peek().map(|place| seats[*place].group) } else { lanes.group() };
        let short = budget.short(group.unwrap_or_default(), false);
        if short == Some(Short::Slots) {
            return next;
        }
        if seat_first {
            let Some(place) = others.next() else { return next };
            if short.is_none() && gates.staged(&seats[place]) {
                budget.take(seats[place].group, false);
                next.seats.push(place);
            }
        } else if short.is_some() {
            lanes.shut();
        } else if let Some(name) = lanes.pass() {
            budget.take(group.unwrap_or_default(), false);
            next.at_rest.push(name);
        }
    }
}

/// Queues of those at rest that could switch at once, one for each group of the disruption budget that is not used up.
#[derive(Debug)]
struct Lanes<'a> {
    heads: BinaryHeap<Reverse<(&'a Key, usize)>>,
    /// The rest of each queue, and its group.
    queues: Vec<(btree_set::Iter<'a, Key>, usize)>,
}

impl<'a> Lanes<'a> {
    fn of(groups: &Groups<'_>, crowds: impl Iterator<Item = &'a Crowd>, budget: &Budget<'_>) -> Self {
        let mut lanes = Self { heads: BinaryHeap::new(), queues: Vec::new() };
        for (label, lane) in crowds.flat_map(Crowd::lanes) {
            let group = groups.place(label);
            match budget.short(group, false) {
                Some(Short::Slots) => return lanes,
                Some(Short::Group) => continue,
                None => {}
            }
            let mut queue = lane.iter();
            if let Some(head) = queue.next() {
                lanes.heads.push(Reverse((head, lanes.queues.len())));
                lanes.queues.push((queue, group));
            }
        }
        lanes
    }

    fn best(&self) -> Option<&'a Key> {
        self.heads.peek().map(|Reverse((key, _))| *key)
    }

    /// The group of the best one.
    fn group(&self) -> Option<usize> {
        self.heads.peek().map(|Reverse((_, queue))| self.queues[*queue].1)
    }

    /// Goes on behind the best one.
    fn pass(&mut self) -> Option<Name> {
        let Reverse((key, at)) = self.heads.pop()?;
        if let Some(head) = self.queues[at].0.next() {
            self.heads.push(Reverse((head, at)));
        }
        Some(Name::clone(&key.name))
    }

    /// Nobody more of the best one's group.
    fn shut(&mut self) {
        self.heads.pop();
    }
}

/// Tells these seats to switch to the target.
pub(crate) fn tell(look: &Look<'_>, run: &Run, seats: &mut [Seat<'_>], these: &[usize]) {
    let mut last: Option<Arc<Told>> = None;
    for place in these {
        let seat = &mut seats[*place];
        let previous = previous_version(look, seat.member);
        // A step mostly tells all its clusters the same.
        let told = last.filter(|told| told.previous == previous).unwrap_or_else(|| {
            Arc::new(Told { version: Arc::clone(&look.target), at: Some(look.stamp), previous })
        });
        last = Some(Arc::clone(&told));
        seat.asked = Held { serve: Some(told), prefetch: None, wait: None };
        seat.tell = true;
        seat.standing = standing(look.policy, look.now, run, seat.member, &seat.asked);
    }
}

/// Gives those of whom nothing else is asked their Wait entry, and takes it from the others.
pub(crate) fn complete_entries(run: &Run, gates: &Gates, seats: &mut [Seat<'_>]) {
    if gates.frozen {
        return;
    }
    for seat in seats {
        seat.asked.wait = wait(run, &seat.asked);
    }
}

/// The Wait entry beside what else is asked.
pub(crate) fn wait(run: &Run, asked: &Held) -> Option<Option<Timestamp>> {
    let marker = asked.wait.flatten().filter(|at| run.is_back() && *at >= run.started_at);
    let nothing_else = asked.serve.is_none() && asked.prefetch.is_none();
    nothing_else.then_some(marker)
}
