//! Choosing: from the matched clusters to the selected ones, and the first reason of every other.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Member,
    exclusion::{Hold, Refusal, judge},
    field::Placed,
    member::Place,
    rank::{Key, Ranking, rank},
    score::value,
    spread::Spread,
};
use crate::{
    ExclusionReason, PolicyKey,
    input::{Policy, Version},
};

type Refusals = Vec<Option<Refusal>>;

/// Who is chosen, who is not and why, by the members' positions.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The first reason of each that is not chosen.
    pub(crate) refusals: Vec<Option<Refusal>>,
    /// Of candidates that are chosen already and told nothing for now.
    pub(crate) holds: Vec<Option<Hold>>,
    /// The candidates, best first. Those without a refusal are selected.
    pub(crate) ranking: Ranking,
}

/// Which policy before this one has a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Winner {
    /// For people.
    pub(crate) text: Arc<str>,
    /// It tells the cluster to serve, so that nobody else's entry stays.
    pub(crate) serves: bool,
}

/// Chooses.
pub(crate) fn place(policy: &Policy, version: Option<&Version>, members: &[&Member]) -> Choice {
    let frozen: Option<Arc<str>> = policy.frozen().map(Arc::from);
    let mut refusals: Refusals = vec![None; members.len()];
    let mut holds = vec![None; members.len()];
    let mut candidates = Vec::new();
    for (index, member) in members.iter().enumerate() {
        if let (Some(why), true, None) = (&frozen, member.chosen, &member.winner) {
            holds[index] = Some(Arc::clone(why));
            candidates.push(index);
            continue;
        }
        if !member.matched {
            continue;
        }
        match (&member.verdict, &member.winner) {
            (Err(refusal), _) => refusals[index] = Some(refusal.clone()),
            (Ok(_), Some(winner)) => refusals[index] = Some(lose(policy, version, member, winner)),
            (Ok(hold), None) => {
                holds[index].clone_from(hold);
                candidates.push(index);
            }
        }
    }
    let ranking = match frozen {
        Some(why) => {
            let ranking = rank(policy, members, &candidates);
            keep_chosen(members, &ranking, &why, &mut refusals);
            ranking
        }
        None => {
            let spread = leave_out_those_without_keys(policy, members, &mut candidates, &mut refusals);
            let ranking = rank(policy, members, &candidates);
            walk(policy, &ranking, spread, &mut refusals);
            judge_dropped(policy, version, members, &mut refusals);
            ranking
        }
    };
    Choice { refusals, holds, ranking }
}

impl Winner {
    pub(crate) fn new(policy: &PolicyKey, serves: bool) -> Self {
        Self { text: format!("{policy} has it").into(), serves }
    }
}

impl Choice {
    /// The places of all members, in their order.
    pub(crate) fn places(&mut self) -> Vec<Place> {
        let refusals = std::mem::take(&mut self.refusals).into_iter();
        let mut places: Vec<Place> =
            refusals.map(|refusal| refusal.map_or(Place::Out, Place::Excluded)).collect();
        for ranked in std::mem::take(&mut self.ranking.order) {
            if let place @ Place::Out = &mut places[ranked.member] {
                *place = Place::Selected(ranked.key);
            }
        }
        places
    }

    /// The selected ones, best first.
    pub(crate) fn selected(&self) -> impl Iterator<Item = usize> {
        self.ranking.order.iter().map(|one| one.member).filter(|index| self.refusals[*index].is_none())
    }
}

/// Places one member of a policy whose choice of one cluster depends on no other cluster.
pub(crate) fn place_alone(policy: &Policy, version: Option<&Version>, member: &Member) -> Placed {
    match (&member.verdict, &member.winner) {
        _ if !member.matched => (Place::Out, None),
        (Err(refusal), _) => (Place::Excluded(refusal.clone()), None),
        (Ok(_), Some(winner)) => (Place::Excluded(lose(policy, version, member, winner)), None),
        (Ok(hold), None) => (Place::Selected(Key::of(policy, member, 0)), hold.clone()),
    }
}

/// Whether that is so.
pub(crate) fn places_one_by_one(policy: &Policy) -> bool {
    let placement = &policy.object.spec.placement;
    policy.number.is_none()
        && placement.spread.is_empty()
        && placement.prioritizers.is_empty()
        && policy.frozen().is_none()
}

/// Whether placement sees no difference between two states of one cluster.
pub(crate) fn places_alike(policy: &Policy, a: &Member, b: &Member) -> bool {
    let placement = &policy.object.spec.placement;
    (a.matched, a.chosen, &a.verdict, &a.winner, a.prefer_no_select)
        == (b.matched, b.chosen, &b.verdict, &b.winner, b.prefer_no_select)
        && a.signature == b.signature
        && placement.prioritizers.iter().all(|by| value(by, a) == value(by, b))
}

/// Why a cluster that another policy has is not this one's.
pub(crate) fn lose(policy: &Policy, version: Option<&Version>, member: &Member, winner: &Winner) -> Refusal {
    let loses_all = winner.serves || member.held().serve.is_none();
    if loses_all
        && member.chosen
        && let Err(refusal) = judge(policy, version, &member.spoke, false)
    {
        // Once its entry is gone it is a new one, as in `judge_dropped`.
        return refusal;
    }
    (ExclusionReason::Outranked, Arc::clone(&winner.text))
}

/// Once its entry is gone, a dropped cluster is a new one: what keeps new ones away comes before what dropped it, so that
/// the next plan says the same.
fn judge_dropped(policy: &Policy, version: Option<&Version>, members: &[&Member], refusals: &mut Refusals) {
    for (member, refusal) in members.iter().zip(refusals).filter(|(member, _)| member.chosen) {
        *refusal = refusal.take().map(|refusal| if_dropped(policy, version, member, refusal));
    }
}

/// Why a chosen one that is not selected is not.
fn if_dropped(policy: &Policy, version: Option<&Version>, member: &Member, refusal: Refusal) -> Refusal {
    if !matches!(refusal, (ExclusionReason::Spread | ExclusionReason::OutOfNumber, _)) {
        return refusal;
    }
    if let Err(first) = judge(policy, version, &member.spoke, false) {
        return first;
    }
    let lacks = Spread::lacks_key(policy.spread(), member);
    lacks.map_or(refusal, |message| (ExclusionReason::SpreadKeyMissing, message.into()))
}

/// The same of one that was placed by itself.
pub(crate) fn as_dropped(policy: &Policy, version: Option<&Version>, member: &Member, place: Place) -> Place {
    match place {
        Place::Excluded(refusal) if member.chosen => {
            Place::Excluded(if_dropped(policy, version, member, refusal))
        }
        Place::Out | Place::Excluded(_) | Place::Selected(_) => place,
    }
}

/// Leaves out candidates without the label that a spread needs, but those that are kept; and where the rest lie.
fn leave_out_those_without_keys<'m>(
    policy: &Policy,
    members: &[&'m Member],
    candidates: &mut Vec<usize>,
    refusals: &mut Refusals,
) -> Spread<'m> {
    let mut spread = Spread::new(policy.spread());
    candidates.retain(|index| {
        let member = members[*index];
        if member.signature.contains(&None)
            && let Some(refusal) = lacks_key(policy, member)
        {
            refusals[*index] = Some(refusal);
            return false;
        }
        spread.add(&member.signature);
        true
    });
    spread
}

/// A policy that is not fit to decide keeps whom it has.
fn keep_chosen(members: &[&Member], ranking: &Ranking, why: &Arc<str>, refusals: &mut Refusals) {
    for index in ranking.order.iter().map(|one| one.member).filter(|index| !members[*index].chosen) {
        refusals[index] = Some((ExclusionReason::OutOfNumber, Arc::clone(why)));
    }
}

/// Walks the ranking.
fn walk(policy: &Policy, ranking: &Ranking, mut spread: Spread<'_>, refusals: &mut Refusals) {
    let number = policy.number.unwrap_or(usize::MAX);
    let is_spread = !policy.spread().is_empty();
    let kind_of = ranking.order.iter().map(|one| spread.kind(one.candidate));
    let kinds: Vec<usize> = kind_of.collect();
    let mut taken = vec![false; kinds.len()];
    let mut count = 0;
    for (place, one) in ranking.order.iter().enumerate() {
        if count < number && (one.key.is_kept() || !is_spread) {
            spread.take(kinds[place]);
            taken[place] = true;
            count += 1;
        }
    }
    if is_spread {
        fill(&mut spread, &kinds, &mut taken, number - count.min(number));
    }
    let (out_of_number, skewed) = (out_of_number(number), skewed());
    let why = |kind| if spread.allows(kind) { &out_of_number } else { &skewed };
    let why: Vec<&Refusal> = (0..spread.kinds()).map(why).collect();
    for (place, one) in ranking.order.iter().enumerate().filter(|(place, _)| !taken[*place]) {
        refusals[one.member] = Some(why[kinds[place]].clone());
    }
}

/// Of a candidate that others rank before.
pub(crate) fn out_of_number(number: usize) -> Refusal {
    let message = format!("numberOfClusters is {number}, and others rank before it");
    (ExclusionReason::OutOfNumber, message.into())
}

/// Of a candidate in whose domain there are enough.
pub(crate) fn skewed() -> Refusal {
    (ExclusionReason::Spread, "one more in its domain would exceed maxSkew".into())
}

/// Of one that cannot be counted in any domain.
pub(crate) fn lacks_key(policy: &Policy, member: &Member) -> Option<Refusal> {
    if member.chosen && !policy.steady {
        return None;
    }
    let message = Spread::lacks_key(policy.spread(), member)?;
    Some((ExclusionReason::SpreadKeyMissing, message.into()))
}

/// Picks up to `missing` more: of those that every firm constraint allows, the one that breaks the fewest others, then the
/// best. Candidates of one kind wait in one queue, so a pick looks at the queues' heads only.
fn fill(spread: &mut Spread<'_>, kinds: &[usize], taken: &mut [bool], missing: usize) {
    let mut queues = vec![VecDeque::new(); spread.kinds()];
    for place in (0..taken.len()).filter(|place| !taken[*place]) {
        queues[kinds[place]].push_back(place);
    }
    for _ in 0..missing {
        let heads = queues.iter().enumerate().filter_map(|(kind, queue)| Some((kind, *queue.front()?)));
        let allowed = heads.filter(|(kind, _)| spread.allows(*kind));
        let Some((kind, place)) = allowed.min_by_key(|(kind, place)| (spread.breaks(*kind), *place)) else {
            return;
        };
        spread.take(kind);
        taken[place] = true;
        queues[kind].pop_front();
    }
}
