//! Choosing: from the matched clusters to the selected ones, and the first reason of every other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    exclusion::{Hold, judge},
    rank::rank,
    spread::Spread,
};
use crate::{
    Excluded, ExclusionReason, Name, Ranked,
    input::{Held, Policy, Spoke, Version},
};

/// One cluster that concerns a policy: its labels match, or it has an entry of the policy.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) spoke: &'a Spoke,
    pub(crate) matched: bool,
    /// It has an entry of this policy.
    pub(crate) chosen: bool,
    /// Serve entries of this policy that are stored.
    pub(crate) serve_entries: usize,
    /// What is stored for the policy's model.
    pub(crate) held: Held,
    /// Chosen, but told nothing for now.
    pub(crate) hold: Option<Hold>,
    pub(crate) outranked: bool,
}

impl<'a> Member<'a> {
    /// What concerns a policy of a cluster; None where nothing does.
    pub(crate) fn of(policy: &Policy, spoke: &'a Spoke) -> Option<Self> {
        let matched = policy.selector.matches(spoke.cluster.labels());
        let mut entries = spoke.assignment.entries_of(&policy.key).peekable();
        let chosen = entries.peek().is_some();
        if !matched && !chosen {
            return None;
        }
        let serve_entries = entries.filter(|entry| entry.action == nave_crds::Action::Serve).count();
        let held = if chosen { spoke.assignment.held(&policy.key, policy.model()) } else { Held::default() };
        Some(Self { spoke, matched, chosen, serve_entries, held, hold: None, outranked: false })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.spoke.cluster.name
    }
}

/// Who is chosen, who is not and why.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) matched: Vec<Name>,
    /// Positions in the members, best first.
    pub(crate) selected: Vec<usize>,
    pub(crate) excluded: Vec<Excluded>,
    pub(crate) ranking: Vec<Ranked>,
}

/// Which policy before this one has a cluster.
#[derive(Debug)]
pub(crate) struct Winner {
    /// For people.
    pub(crate) text: Arc<str>,
    /// It tells the cluster to serve, so that nobody else's entry stays.
    pub(crate) serves: bool,
}

/// Chooses. `winner` says which policy before this one has a cluster.
pub(crate) fn place(
    policy: &Policy,
    version: Option<&Version>,
    members: &mut [Member<'_>],
    winner: impl Fn(&Name) -> Option<Winner>,
) -> Choice {
    let frozen: Option<Arc<str>> = policy.frozen().map(Arc::from);
    let mut refusals: BTreeMap<usize, (ExclusionReason, Arc<str>)> = BTreeMap::new();
    let mut candidates = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let winner = winner(member.name());
        if let (Some(why), true, None) = (&frozen, member.chosen, &winner) {
            member.hold = Some(Arc::clone(why));
            candidates.push(index);
            continue;
        }
        if !member.matched {
            continue;
        }
        let text = winner.as_ref().map(|winner| &winner.text);
        let mut verdict = judge(policy, version, member, text);
        let loses_all = winner.as_ref().is_some_and(|winner| winner.serves || member.held.serve.is_none());
        if loses_all && member.chosen && matches!(verdict, Err((ExclusionReason::Outranked, _))) {
            // Once its entry is gone it is a new one, as in `judge_dropped`.
            member.chosen = false;
            verdict = judge(policy, version, member, text);
        }
        match verdict {
            Ok(hold) => {
                member.hold = hold;
                candidates.push(index);
            }
            Err(refusal) => {
                member.outranked = refusal.0 == ExclusionReason::Outranked;
                refusals.insert(index, refusal);
            }
        }
    }
    let (order, ranking) = rank_those_with_keys(policy, members, candidates, &mut refusals);
    let selected = match frozen {
        Some(why) => keep_chosen(members, &order, &why, &mut refusals),
        None => walk(policy, members, &order, &mut refusals),
    };
    if policy.frozen().is_none() {
        judge_dropped(policy, version, members, &mut refusals);
    }
    Choice {
        matched: members
            .iter()
            .filter(|member| member.matched)
            .map(|member| Arc::clone(member.name()))
            .collect(),
        excluded: refusals
            .into_iter()
            .map(|(index, (reason, message))| Excluded {
                cluster: Arc::clone(members[index].name()),
                reason,
                message,
            })
            .collect(),
        selected,
        ranking,
    }
}

/// Once its entry is gone, a dropped cluster is a new one: what keeps new ones away comes before what dropped it, so that
/// the next plan says the same.
fn judge_dropped(
    policy: &Policy,
    version: Option<&Version>,
    members: &mut [Member<'_>],
    refusals: &mut BTreeMap<usize, (ExclusionReason, Arc<str>)>,
) {
    let spread = &policy.object.spec.placement.spread;
    for (index, refusal) in refusals {
        let member = &mut members[*index];
        let dropped = matches!(refusal.0, ExclusionReason::Spread | ExclusionReason::OutOfNumber);
        if !(dropped && std::mem::take(&mut member.chosen)) {
            continue;
        }
        if let Err(first) = judge(policy, version, member, None) {
            *refusal = first;
        } else if let Some(message) = Spread::lacks_key(spread, member) {
            *refusal = (ExclusionReason::SpreadKeyMissing, message.into());
        }
    }
}

/// Leaves out candidates without the label that a spread needs, but those that are kept, and ranks the rest.
fn rank_those_with_keys(
    policy: &Policy,
    members: &[Member<'_>],
    mut candidates: Vec<usize>,
    refusals: &mut BTreeMap<usize, (ExclusionReason, Arc<str>)>,
) -> (Vec<usize>, Vec<Ranked>) {
    let spread = &policy.object.spec.placement.spread;
    if !spread.is_empty() && policy.frozen().is_none() {
        candidates.retain(|index| {
            let member = &members[*index];
            if member.chosen && !policy.steady {
                return true;
            }
            let Some(message) = Spread::lacks_key(spread, member) else { return true };
            refusals.insert(*index, (ExclusionReason::SpreadKeyMissing, message.into()));
            false
        });
    }
    rank(policy, members, &candidates)
}

/// A policy that is not fit to decide keeps whom it has.
fn keep_chosen(
    members: &[Member<'_>],
    order: &[usize],
    why: &Arc<str>,
    refusals: &mut BTreeMap<usize, (ExclusionReason, Arc<str>)>,
) -> Vec<usize> {
    let (kept, others): (Vec<usize>, Vec<usize>) = order.iter().partition(|index| members[**index].chosen);
    for index in others {
        refusals.insert(index, (ExclusionReason::OutOfNumber, Arc::clone(why)));
    }
    kept
}

/// Walks the ranking.
fn walk(
    policy: &Policy,
    members: &[Member<'_>],
    order: &[usize],
    refusals: &mut BTreeMap<usize, (ExclusionReason, Arc<str>)>,
) -> Vec<usize> {
    let number = policy.number.unwrap_or(usize::MAX);
    let specs = &policy.object.spec.placement.spread;
    let ranked: Vec<&Member<'_>> = order.iter().map(|index| &members[*index]).collect();
    let mut spread = Spread::new(specs, &ranked);
    let mut taken = vec![false; ranked.len()];
    let mut count = 0;
    for place in 0..ranked.len() {
        let kept = ranked[place].chosen && !policy.steady;
        if count < number && (kept || specs.is_empty()) {
            spread.take(place);
            taken[place] = true;
            count += 1;
        }
    }
    if !specs.is_empty() {
        fill(&mut spread, &mut taken, number - count.min(number));
    }
    for (place, index) in order.iter().enumerate().filter(|(place, _)| !taken[*place]) {
        let refusal = if spread.allows(place) {
            (
                ExclusionReason::OutOfNumber,
                format!("numberOfClusters is {number}, and others rank before it").into(),
            )
        } else {
            (ExclusionReason::Spread, "one more in its domain would exceed maxSkew".into())
        };
        refusals.insert(*index, refusal);
    }
    order.iter().zip(taken).filter(|(_, taken)| *taken).map(|(index, _)| *index).collect()
}

/// Picks up to `missing` more: of those that every firm constraint allows, the one that breaks the fewest others, then the
/// best. Candidates that lie in the same domains wait in one queue, so a pick looks at the queues' heads only.
fn fill(spread: &mut Spread, taken: &mut [bool], missing: usize) {
    let mut queues: BTreeMap<Vec<Option<usize>>, BTreeSet<usize>> = BTreeMap::new();
    for place in (0..taken.len()).filter(|place| !taken[*place]) {
        queues.entry(spread.signature(place)).or_default().insert(place);
    }
    for _ in 0..missing {
        let heads = queues.values().filter_map(|queue| queue.first().copied());
        let best =
            heads.filter(|place| spread.allows(*place)).min_by_key(|place| (spread.breaks(*place), *place));
        let Some(place) = best else { return };
        spread.take(place);
        taken[place] = true;
        if let Some(queue) = queues.get_mut(&spread.signature(place)) {
            queue.pop_first();
        }
    }
}
