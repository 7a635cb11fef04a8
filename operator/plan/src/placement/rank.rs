//! Ranking: a total order of the candidates. The field order of `Key` is the policy.

use std::{cmp::Reverse, sync::Arc};

use super::{
    Member,
    score::{POINT, Scores, score, steady_gain},
};
use crate::{Name, Ranked, input::Policy};

/// What candidates are compared by, first difference first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    kept: Reverse<bool>,
    pub(crate) prefer_no_select: u32,
    total: Reverse<Total>,
    pub(crate) name: Name,
}

/// A number in its order, in two halves: a whole one would have keys, and all that holds one, begin at every other place in
/// memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Total(i64, u64);

impl From<i128> for Total {
    fn from(number: i128) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Self((number >> 64) as i64, number as u64)
    }
}

impl From<Total> for i128 {
    fn from(Total(upper, lower): Total) -> Self {
        (Self::from(upper) << 64) | Self::from(lower)
    }
}

impl Key {
    /// The key of a candidate with this score.
    pub(crate) fn of(policy: &Policy, member: &Member, total: i128) -> Self {
        let kept = member.chosen && !policy.steady;
        Self::new(kept, member.prefer_no_select, total, member.name())
    }

    /// The same from what it is made of.
    pub(crate) fn new(kept: bool, prefer_no_select: u32, total: i128, name: &Name) -> Self {
        Self { kept: Reverse(kept), prefer_no_select, total: Reverse(total.into()), name: Arc::clone(name) }
    }

    /// Whether it was chosen already, and others do not rank before it for that.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.0
    }

    /// All but the name.
    pub(crate) fn before_the_name(&self) -> impl Ord + use<> {
        (self.kept, self.prefer_no_select, self.total)
    }

    /// What the next plan compares it by among the selected, all of which are chosen then.
    pub(crate) fn once_chosen(&self, policy: &Policy, chosen: bool) -> Self {
        let gain = if chosen { 0 } else { steady_gain(&policy.object.spec.placement.prioritizers) };
        let total = i128::from(self.total.0) + gain;
        Self { kept: Reverse(!policy.steady), total: Reverse(total.into()), ..self.clone() }
    }

    /// One that differs from others in its name alone.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        Self { kept: Reverse(true), prefer_no_select: 0, total: Reverse(0.into()), name: Name::from(name) }
    }
}

/// The candidates, best first, and what decided that.
#[derive(Debug)]
pub(crate) struct Ranking {
    pub(crate) order: Vec<RankedMember>,
    scores: Vec<Scores>,
}

/// One candidate.
#[derive(Debug)]
pub(crate) struct RankedMember {
    pub(crate) key: Key,
    /// Its position among the members.
    pub(crate) member: usize,
    /// And among the candidates.
    pub(crate) candidate: usize,
}

/// Ranks the candidates, which are positions in `members`, which come by name.
pub(crate) fn rank(policy: &Policy, members: &[&Member], candidates: &[usize]) -> Ranking {
    let chosen: Vec<&Member> = candidates.iter().map(|index| members[*index]).collect();
    let scores = score(&policy.object.spec.placement.prioritizers, &chosen);
    let ranked = |(candidate, index): (usize, &usize)| {
        let total = scores.iter().map(|scores| scores.weight * scores.of[candidate]).sum();
        RankedMember { key: Key::of(policy, members[*index], total), member: *index, candidate }
    };
    let mut order: Vec<RankedMember> = candidates.iter().enumerate().map(ranked).collect();
    // Its position says the same of a member as its name, and ties are many.
    order.sort_unstable_by_key(|one| (one.key.before_the_name(), one.member));
    Ranking { order, scores }
}

impl Ranking {
    /// The same for people.
    pub(crate) fn shown(&self) -> Vec<Ranked> {
        let ranked = |one: &RankedMember| {
            let score = |scores: &Scores| (Arc::clone(&scores.name), shown(scores.of[one.candidate]));
            Ranked {
                cluster: Arc::clone(&one.key.name),
                kept: one.key.kept.0,
                prefer_no_select: one.key.prefer_no_select,
                total: shown(one.key.total.0.into()),
                scores: self.scores.iter().map(score).collect(),
            }
        };
        self.order.iter().map(ranked).collect()
    }
}

/// Points for people; what decides is exact.
#[allow(clippy::cast_precision_loss)]
fn shown(score: i128) -> f64 {
    let whole = score / POINT;
    let part = score % POINT;
    whole as f64 + part as f64 / POINT as f64
}
