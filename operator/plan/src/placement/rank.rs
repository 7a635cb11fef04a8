//! Ranking: a total order of the candidates. The field order of `Key` is the policy.

use std::{cmp::Reverse, sync::Arc};

use nave_crds::TaintEffect;

use super::{
    Member,
    score::{POINT, score},
    taints::untolerated,
};
use crate::{Name, Ranked, input::Policy};

/// What candidates are compared by, first difference first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kept: Reverse<bool>,
    prefer_no_select: u32,
    total: Reverse<i128>,
    name: Name,
}

/// The candidates' positions in `members`, best first, and how each got its place.
pub(crate) fn rank(
    policy: &Policy,
    members: &[Member<'_>],
    candidates: &[usize],
) -> (Vec<usize>, Vec<Ranked>) {
    let placement = &policy.object.spec.placement;
    let chosen: Vec<&Member<'_>> = candidates.iter().map(|index| &members[*index]).collect();
    let scores = score(&placement.prioritizers, &chosen);
    let mut keys: Vec<(Key, usize)> = Vec::with_capacity(candidates.len());
    for (place, member) in chosen.iter().enumerate() {
        let cluster = &member.spoke.cluster;
        let taints = untolerated(cluster.taints(), &placement.tolerations, TaintEffect::PreferNoSelect);
        let total = scores.iter().map(|scores| scores.weight * scores.of[place]).sum();
        let key = Key {
            kept: Reverse(member.chosen && !policy.steady),
            prefer_no_select: u32::try_from(taints.count()).unwrap_or(u32::MAX),
            total: Reverse(total),
            name: Arc::clone(&cluster.name),
        };
        keys.push((key, place));
    }
    keys.sort_unstable();
    let ranked = keys.iter().map(|(key, place)| Ranked {
        cluster: Arc::clone(&key.name),
        kept: key.kept.0,
        prefer_no_select: key.prefer_no_select,
        total: shown(key.total.0),
        scores: scores.iter().map(|scores| (Arc::clone(&scores.name), shown(scores.of[*place]))).collect(),
    });
    let ranking = ranked.collect();
    (keys.into_iter().map(|(_, place)| candidates[place]).collect(), ranking)
}

/// Points for people; what decides is exact.
#[allow(clippy::cast_precision_loss)]
fn shown(score: i128) -> f64 {
    let whole = score / POINT;
    let part = score % POINT;
    whole as f64 + part as f64 / POINT as f64
}
