//! Field: what a cluster's place among the candidates depends on, as long as those selected stay whom they are. One more, one
//! less, or one whose score moves is placed by it alone; where that is not enough, all are placed anew.

use std::collections::BTreeMap;

use nave_crds::{Prioritizer, Spread, WhenUnsatisfiable};

use super::{
    choose::{lacks_key, out_of_number, skewed},
    exclusion::{Hold, Refusal},
    member::{Member, Place},
    rank::Key,
    score::{Scale, value},
};
use crate::input::Policy;

/// What all candidates of one policy have in common.
#[derive(Debug)]
pub(crate) struct Field {
    /// How many may still be selected; None = any number.
    room: Option<usize>,
    /// By prioritizer.
    values: Vec<Values>,
    /// By spread constraint.
    domains: Vec<Domains>,
}

/// One prioritizer's values, and how many candidates have each.
#[derive(Debug)]
struct Values {
    weight: i32,
    /// Least first, but for the unknown one.
    count: BTreeMap<Option<i128>, usize>,
    scale: Scale,
}

/// One spread constraint's domains.
#[derive(Debug)]
struct Domains {
    label: String,
    firm: bool,
    max_skew: usize,
    by_label: BTreeMap<String, Domain>,
    /// The least that are selected in any domain.
    least: usize,
}

#[derive(Debug, Default)]
struct Domain {
    candidates: usize,
    selected: usize,
}

/// The places of all but one depend on it: they have to be decided anew.
#[derive(Debug)]
pub(crate) struct Unsettled;

/// A member's place, and what holds it there.
pub(crate) type Placed = (Place, Option<Hold>);

impl Field {
    /// The field of members that were placed, none of which another policy has. None where whoever comes or goes moves
    /// others: only a policy that keeps whom it chose, and chose as many as it may, or everybody, has one.
    pub(crate) fn of<'a>(policy: &Policy, members: impl Iterator<Item = &'a Member> + Clone) -> Option<Self> {
        if policy.steady || policy.frozen().is_some() {
            return None;
        }
        let selected = members.clone().filter(|member| member.is_selected()).count();
        let room = policy.number.map(|number| number.saturating_sub(selected));
        let spread = &policy.object.spec.placement.spread;
        let full = room == Some(0);
        // Of those with room, nobody waits; with constraints, somebody may all the same.
        if !full && !spread.is_empty() {
            return None;
        }
        let weights = policy.object.spec.placement.prioritizers.iter().map(|by| by.weight);
        let mut field = Self {
            room,
            values: weights.map(Values::new).collect(),
            domains: spread.iter().map(Domains::new).collect(),
        };
        for member in members {
            // Those dropped are judged by what they will be, and those not told yet may have to leave again.
            if member.chosen != member.is_selected() && (full || member.chosen) {
                return None;
            }
            if field.is_candidate(policy, member) {
                field.count(policy, member);
            }
        }
        field.values.iter_mut().for_each(Values::measure);
        field.domains.iter_mut().for_each(Domains::measure);
        Some(field)
    }

    /// Places one member; `old` is what it was, with its place.
    ///
    /// # Errors
    ///
    /// `Unsettled` where all have to be placed anew. The field is of no use then.
    pub(crate) fn place(
        &mut self,
        policy: &Policy,
        old: Option<&Member>,
        new: Option<&Member>,
    ) -> Result<Option<Placed>, Unsettled> {
        let was_selected = old.is_some_and(Member::is_selected);
        if !was_selected && new.is_some_and(|new| new.chosen) {
            return Err(Unsettled);
        }
        let old = old.filter(|old| self.is_candidate(policy, old));
        let candidate = new.filter(|new| self.is_candidate(policy, new));
        self.exchange(policy, old, candidate)?;
        let full = self.room == Some(0);
        let stays = candidate.is_some_and(|new| was_selected && (new.chosen || !full));
        if was_selected && !stays && full {
            return Err(Unsettled);
        }
        let selected = candidate.is_some() && (was_selected || !full);
        self.room = match (self.room, was_selected, selected) {
            (Some(room), true, false) => Some(room + 1),
            // With the last room taken, whoever comes next may rank before those not told yet.
            (Some(1), false, true) => return Err(Unsettled),
            (Some(room), false, true) => Some(room - 1),
            (room, _, _) => room,
        };
        let Some(new) = new else { return Ok(None) };
        let place = match candidate {
            None => self.refused(policy, new),
            Some(_) if selected => Place::Selected(self.key(policy, new)),
            Some(_) => Place::Excluded(self.waits(policy, new)),
        };
        let hold = new.verdict.as_ref().ok().filter(|_| candidate.is_some());
        Ok(Some((place, hold.cloned().flatten())))
    }

    fn is_candidate(&self, policy: &Policy, member: &Member) -> bool {
        member.matched && member.verdict.is_ok() && lacks_key(policy, member).is_none()
    }

    /// Why one that is no candidate is not selected.
    fn refused(&self, policy: &Policy, member: &Member) -> Place {
        match &member.verdict {
            _ if !member.matched => Place::Out,
            Err(refusal) => Place::Excluded(refusal.clone()),
            Ok(_) => lacks_key(policy, member).map_or(Place::Out, Place::Excluded),
        }
    }

    /// Why a candidate is not selected.
    fn waits(&self, policy: &Policy, member: &Member) -> Refusal {
        if self.domains.iter().all(|domains| domains.allows(member)) {
            out_of_number(policy.number.unwrap_or(usize::MAX))
        } else {
            skewed()
        }
    }

    fn key(&self, policy: &Policy, member: &Member) -> Key {
        let prioritizers = &policy.object.spec.placement.prioritizers;
        let score = |(by, values): (&Prioritizer, &Values)| {
            i128::from(by.weight) * values.scale.score(value(by, member))
        };
        Key::of(policy, member, prioritizers.iter().zip(&self.values).map(score).sum())
    }

    fn count(&mut self, policy: &Policy, member: &Member) {
        for (by, values) in policy.object.spec.placement.prioritizers.iter().zip(&mut self.values) {
            *values.count.entry(value(by, member)).or_default() += 1;
        }
        for domains in &mut self.domains {
            if let Some(label) = member.label(&domains.label) {
                let domain = domains.by_label.entry(label.to_owned()).or_default();
                domain.candidates += 1;
                domain.selected += usize::from(member.is_selected());
            }
        }
    }

    /// Counts one candidate in another's place.
    fn exchange(
        &mut self,
        policy: &Policy,
        old: Option<&Member>,
        new: Option<&Member>,
    ) -> Result<(), Unsettled> {
        for (by, values) in policy.object.spec.placement.prioritizers.iter().zip(&mut self.values) {
            values.exchange(old.map(|old| value(by, old)), new.map(|new| value(by, new)))?;
        }
        let selected = old.is_some_and(Member::is_selected);
        for domains in &mut self.domains {
            let labels = [old, new].map(|one| one.and_then(|one| one.label(&domains.label)));
            domains.exchange(labels, selected)?;
        }
        Ok(())
    }
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

impl Domains {
    fn new(spread: &Spread) -> Self {
        Self {
            label: spread.topology_key.clone(),
            firm: spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSelect,
            max_skew: usize::try_from(spread.max_skew).unwrap_or(1),
            by_label: BTreeMap::new(),
            least: 0,
        }
    }

    fn measure(&mut self) {
        self.least = self.by_label.values().map(|domain| domain.selected).min().unwrap_or_default();
    }

    /// One candidate of one domain in place of one of another. That domains come or go may change what others may do.
    fn exchange(&mut self, [old, new]: [Option<&str>; 2], selected: bool) -> Result<(), Unsettled> {
        if old == new {
            return Ok(());
        }
        if selected {
            return Err(Unsettled);
        }
        if let Some(domain) = old.and_then(|old| self.by_label.get_mut(old)) {
            domain.candidates -= 1;
            if domain.candidates == 0 {
                return Err(Unsettled);
            }
        }
        if let Some(new) = new {
            self.by_label.get_mut(new).ok_or(Unsettled)?.candidates += 1;
        }
        Ok(())
    }

    /// Whether one more of a member's domain may be selected.
    fn allows(&self, member: &Member) -> bool {
        let domain = member.label(&self.label).and_then(|label| self.by_label.get(label));
        !self.firm || domain.is_some_and(|domain| domain.selected + 1 - self.least <= self.max_skew)
    }
}
