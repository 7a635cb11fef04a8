//! Field: what a cluster's place among the candidates depends on. One more, one less, or one whose score moves is placed by
//! it alone, together with those few whose places that moves; where that is not enough, all are placed anew.

use std::collections::BTreeMap;

use nave_crds::Prioritizer;

use super::{
    bands::{Along, Order, Standing},
    choose::{lacks_key, lose},
    contest::{Contender, Contest, Others},
    domains::{Domains, Signature},
    exclusion::Hold,
    member::{Member, Place},
    rank::Key,
    score::{Scale, Scoring, value},
    standings::Standings,
};
use crate::{
    Name,
    input::{Policy, Version},
};

/// What all candidates of one policy have in common.
#[derive(Debug)]
pub(crate) struct Field {
    /// By prioritizer, how many candidates have each value: least first, but for the unknown one.
    values: Vec<BTreeMap<Option<i128>, usize>>,
    /// By prioritizer.
    scoring: Vec<Scoring>,
    along: Along,
    places: Places,
}

/// Who has a place.
#[derive(Debug)]
enum Places {
    /// The best.
    Standings(Standings),
    /// The best of their domains.
    Contest(Contest),
}

/// What a change of one leaves.
#[derive(Debug, Default)]
pub(crate) struct Placing {
    /// Its own place; None = it concerns the policy no more.
    pub(crate) placed: Option<Placed>,
    /// Others whose place is another now.
    pub(crate) others: Others,
    /// The keys of all that are selected are others now.
    pub(crate) rescaled: bool,
}

/// The places of all depend on it: they have to be decided anew.
#[derive(Debug)]
pub(crate) struct Unsettled;

/// A member's place, and what holds it there.
pub(crate) type Placed = (Place, Option<Hold>);

impl Field {
    /// The field of members that were placed. None where whoever comes or goes moves too
    /// many others.
    pub(crate) fn of<'a>(policy: &Policy, members: impl Iterator<Item = &'a Member> + Clone) -> Option<Self> {
        if policy.frozen().is_some() {
            return None;
        }
        let placement = &policy.object.spec.placement;
        let candidates = members.filter(|member| is_candidate(policy, member));
        let mut values = vec![BTreeMap::new(); placement.prioritizers.len()];
        for member in candidates.clone() {
            for (by, values) in placement.prioritizers.iter().zip(&mut values) {
                *values.entry(value(by, member)).or_default() += 1;
            }
        }
        let scoring = placement.prioritizers.iter().zip(&values);
        let scoring = scoring
            .map(|(by, values)| Scoring { weight: i128::from(by.weight), scale: measured(by, values) });
        let scoring: Vec<Scoring> = scoring.collect();
        let orders = axis(&values, &scoring).into_iter().chain([Along::Scores]);
        let found = orders.into_iter().find_map(|along| {
            let order = Order { along, scoring: &scoring };
            Some((along, places(policy, order, candidates.clone())?))
        });
        let (along, places) = found?;
        Some(Self { values, scoring, along, places })
    }

    /// Places one member, and those whose places that moves; `old` is what it was, with its place.
    ///
    /// # Errors
    ///
    /// `Unsettled` where all have to be placed anew. The field is of no use then.
    pub(crate) fn place(
        &mut self,
        policy: &Policy,
        version: Option<&Version>,
        old: Option<&Member>,
        new: Option<&Member>,
    ) -> Result<Placing, Unsettled> {
        let old = old.filter(|old| is_candidate(policy, old));
        let candidate = new.filter(|new| is_candidate(policy, new));
        let rescaled = self.count(policy, old, candidate);
        let (place, others) = if old.is_none() && candidate.is_none() {
            (None, Others::new())
        } else if !self.along.holds(&self.scoring, rescaled) {
            return Err(Unsettled);
        } else {
            let order = Order { along: self.along, scoring: &self.scoring };
            match &mut self.places {
                Places::Standings(standings) => {
                    let [gone, come] = [old, candidate].map(|one| one.map(|one| standing(policy, one)));
                    standings.exchange(order, gone, come)?
                }
                Places::Contest(contest) => {
                    let [gone, come] = [old, candidate].map(|one| one.map(|one| contender(policy, one)));
                    contest.exchange(order, rescaled, gone, come)?
                }
            }
        };
        let hold = candidate.and_then(|one| one.verdict.as_ref().ok().cloned().flatten());
        let placed = new.map(|new| (place.unwrap_or_else(|| refused(policy, version, new)), hold));
        Ok(Placing { placed, others, rescaled })
    }

    /// What a candidate is ranked by.
    pub(crate) fn key(&self, policy: &Policy, member: &Member) -> Key {
        let by = policy.object.spec.placement.prioritizers.iter().zip(&self.scoring);
        let total = by.map(|(by, scoring)| scoring.weight * scoring.scale.score(value(by, member))).sum();
        Key::of(policy, member, total)
    }

    /// Counts one candidate's values in another's place. Returns whether a scale moved.
    fn count(&mut self, policy: &Policy, old: Option<&Member>, new: Option<&Member>) -> bool {
        let prioritizers = &policy.object.spec.placement.prioritizers;
        let mut rescaled = false;
        for ((by, values), scoring) in prioritizers.iter().zip(&mut self.values).zip(&mut self.scoring) {
            if let Some(old) = old.map(|old| value(by, old))
                && let Some(count) = values.get_mut(&old)
            {
                *count -= 1;
                if *count == 0 {
                    values.remove(&old);
                }
            }
            if let Some(new) = new.map(|new| value(by, new)) {
                *values.entry(new).or_default() += 1;
            }
            let scale = measured(by, values);
            rescaled |= scale != scoring.scale;
            scoring.scale = scale;
        }
        rescaled
    }
}

/// The prioritizer that says the most, where its scale tells all apart.
fn axis(values: &[BTreeMap<Option<i128>, usize>], scoring: &[Scoring]) -> Option<Along> {
    let most = values.iter().enumerate().max_by_key(|(_, values)| values.len());
    let along = Along::Axis(most?.0);
    along.holds(scoring, false).then_some(along)
}

/// Who has a place in this order, as it was decided. None where one change would have to look at too many.
fn places<'a>(
    policy: &Policy,
    order: Order<'_>,
    candidates: impl Iterator<Item = &'a Member>,
) -> Option<Places> {
    let number = policy.number.unwrap_or(usize::MAX);
    let spread = policy.spread();
    if spread.is_empty() {
        let candidates = candidates.map(|member| (standing(policy, member), member.is_selected()));
        return Standings::of(number, order, candidates).map(Places::Standings);
    }
    let contenders = candidates.map(|member| (contender(policy, member), member.is_selected()));
    let domains = spread.iter().map(Domains::new).collect();
    Contest::of(number, order, domains, contenders).map(Places::Contest)
}

fn contender(policy: &Policy, member: &Member) -> Contender {
    Contender { standing: standing(policy, member), signature: Signature::clone(&member.signature) }
}

fn standing(policy: &Policy, member: &Member) -> Standing {
    let prioritizers = policy.object.spec.placement.prioritizers.iter();
    Standing {
        kept: member.chosen && !policy.steady,
        prefer_no_select: member.prefer_no_select,
        values: prioritizers.map(|by| value(by, member)).collect(),
        name: Name::clone(member.name()),
    }
}

/// Least and most are at the ends; what lies between says nothing.
fn measured(by: &Prioritizer, values: &BTreeMap<Option<i128>, usize>) -> Scale {
    let known = |value: &&Option<i128>| value.is_some();
    let unknown = values.keys().next().filter(|first| first.is_none());
    let ends = [unknown, values.keys().find(known), values.keys().next_back()];
    Scale::of(by, ends.into_iter().flatten().copied())
}

fn is_candidate(policy: &Policy, member: &Member) -> bool {
    member.matched && member.verdict.is_ok() && member.winner.is_none() && lacks_key(policy, member).is_none()
}

/// Why one that is no candidate is not selected.
fn refused(policy: &Policy, version: Option<&Version>, member: &Member) -> Place {
    match (&member.verdict, &member.winner) {
        _ if !member.matched => Place::Out,
        (Err(refusal), _) => Place::Excluded(refusal.clone()),
        (Ok(_), Some(winner)) => Place::Excluded(lose(policy, version, member, winner)),
        (Ok(_), None) => lacks_key(policy, member).map_or(Place::Out, Place::Excluded),
    }
}
