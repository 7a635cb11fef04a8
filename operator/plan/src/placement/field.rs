//! Field: what a cluster's place among the candidates depends on. One more, one less, or one whose score moves is placed by
//! it alone, together with those few whose places that moves; where that is not enough, all are placed anew.

use std::collections::BTreeMap;

use nave_crds::Prioritizer;

use super::{
    choose::lacks_key,
    contest::{Contender, Contest, Others},
    domains::{Domains, signature},
    exclusion::Hold,
    member::{Member, Place},
    rank::Key,
    score::{Scale, value},
};
use crate::input::Policy;

/// What all candidates of one policy have in common.
#[derive(Debug)]
pub(crate) struct Field {
    /// By prioritizer.
    values: Vec<Values>,
    places: Places,
}

/// How many may be selected.
#[derive(Debug)]
enum Places {
    /// Every candidate, and so many more; None = any number.
    Room(Option<usize>),
    /// Some wait.
    Contest(Contest),
}

/// One prioritizer's values, and how many candidates have each.
#[derive(Debug)]
struct Values {
    weight: i32,
    /// Least first, but for the unknown one.
    count: BTreeMap<Option<i128>, usize>,
    scale: Scale,
}

/// The places of all depend on it: they have to be decided anew.
#[derive(Debug)]
pub(crate) struct Unsettled;

/// A member's place, and what holds it there.
pub(crate) type Placed = (Place, Option<Hold>);

impl Field {
    /// The field of members that were placed, none of which another policy has. None where whoever comes or goes moves too
    /// many others: only a policy that keeps whom it chose has one.
    pub(crate) fn of<'a>(policy: &Policy, members: impl Iterator<Item = &'a Member> + Clone) -> Option<Self> {
        if policy.steady || policy.frozen().is_some() {
            return None;
        }
        let placement = &policy.object.spec.placement;
        let candidates = members.filter(|member| is_candidate(policy, member));
        let mut values: Vec<Values> =
            placement.prioritizers.iter().map(|by| Values::new(by.weight)).collect();
        for member in candidates.clone() {
            for (by, values) in placement.prioritizers.iter().zip(&mut values) {
                *values.count.entry(value(by, member)).or_default() += 1;
            }
        }
        values.iter_mut().for_each(Values::measure);
        let mut field = Self { values, places: Places::Room(None) };
        let selected = candidates.clone().filter(|member| member.is_selected()).count();
        let room = policy.number.map(|number| number.saturating_sub(selected));
        if placement.spread.is_empty() && room != Some(0) {
            field.places = Places::Room(room);
            let all = candidates.into_iter().all(Member::is_selected);
            return all.then_some(field);
        }
        let contenders = candidates.map(|member| (field.contender(policy, member), member.is_selected()));
        let domains = placement.spread.iter().map(Domains::new).collect();
        let contest = Contest::of(policy.number.unwrap_or(usize::MAX), domains, contenders)?;
        field.places = Places::Contest(contest);
        Some(field)
    }

    /// Places one member, and those whose places that moves; `old` is what it was, with its place.
    ///
    /// # Errors
    ///
    /// `Unsettled` where all have to be placed anew. The field is of no use then.
    pub(crate) fn place(
        &mut self,
        policy: &Policy,
        old: Option<&Member>,
        new: Option<&Member>,
    ) -> Result<(Option<Placed>, Others), Unsettled> {
        let old = old.filter(|old| is_candidate(policy, old));
        let candidate = new.filter(|new| is_candidate(policy, new));
        self.exchange(policy, old, candidate)?;
        let [gone, come] = [old, candidate].map(|one| one.map(|one| self.contender(policy, one)));
        let (place, others) = match &mut self.places {
            Places::Room(room) => (take_room(room, gone.is_some(), come)?, Others::new()),
            Places::Contest(contest) if gone.is_some() || come.is_some() => contest.exchange(gone, come)?,
            Places::Contest(_) => (None, Others::new()),
        };
        let Some(new) = new else { return Ok((None, others)) };
        let hold = candidate.and_then(|one| one.verdict.as_ref().ok().cloned().flatten());
        Ok((Some((place.unwrap_or_else(|| refused(policy, new)), hold)), others))
    }

    fn contender(&self, policy: &Policy, member: &Member) -> Contender {
        let placement = &policy.object.spec.placement;
        let score = |(by, values): (&Prioritizer, &Values)| {
            i128::from(by.weight) * values.scale.score(value(by, member))
        };
        let total = placement.prioritizers.iter().zip(&self.values).map(score).sum();
        Contender {
            key: Key::of(policy, member, total),
            chosen: member.chosen,
            signature: signature(&placement.spread, member),
        }
    }

    /// Counts one candidate's values in another's place.
    fn exchange(
        &mut self,
        policy: &Policy,
        old: Option<&Member>,
        new: Option<&Member>,
    ) -> Result<(), Unsettled> {
        for (by, values) in policy.object.spec.placement.prioritizers.iter().zip(&mut self.values) {
            values.exchange(old.map(|old| value(by, old)), new.map(|new| value(by, new)))?;
        }
        Ok(())
    }
}

fn is_candidate(policy: &Policy, member: &Member) -> bool {
    member.matched && member.verdict.is_ok() && lacks_key(policy, member).is_none()
}

/// Why one that is no candidate is not selected.
fn refused(policy: &Policy, member: &Member) -> Place {
    match &member.verdict {
        _ if !member.matched => Place::Out,
        Err(refusal) => Place::Excluded(refusal.clone()),
        Ok(_) => lacks_key(policy, member).map_or(Place::Out, Place::Excluded),
    }
}

/// The place of a candidate where there is room for all.
fn take_room(
    room: &mut Option<usize>,
    left: bool,
    come: Option<Contender>,
) -> Result<Option<Place>, Unsettled> {
    *room = match (*room, left, come.is_some()) {
        (Some(room), true, false) => Some(room + 1),
        // With the last room taken, whoever comes next may rank before those not told yet.
        (Some(1), false, true) => return Err(Unsettled),
        (Some(room), false, true) => Some(room - 1),
        (room, _, _) => room,
    };
    Ok(come.map(|come| Place::Selected(come.key)))
}

impl Values {
    fn new(weight: i32) -> Self {
        Self { weight, count: BTreeMap::new(), scale: Scale::of([].into_iter(), weight) }
    }

    fn measure(&mut self) {
        self.scale = self.measured();
    }

    /// Least and most are at the ends; what lies between says nothing.
    fn measured(&self) -> Scale {
        let known = |value: &&Option<i128>| value.is_some();
        let unknown = self.count.keys().next().filter(|first| first.is_none());
        let ends = [unknown, self.count.keys().find(known), self.count.keys().next_back()];
        Scale::of(ends.into_iter().flatten().copied(), self.weight)
    }

    fn exchange(&mut self, old: Option<Option<i128>>, new: Option<Option<i128>>) -> Result<(), Unsettled> {
        if let Some(old) = old
            && let Some(count) = self.count.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.count.remove(&old);
            }
        }
        if let Some(new) = new {
            *self.count.entry(new).or_default() += 1;
        }
        if self.measured() == self.scale { Ok(()) } else { Err(Unsettled) }
    }
}
