//! Keep: what a cluster that changes keeps of what was decided about it.

use std::sync::Arc;

use jiff::Timestamp;

use super::Again;
use crate::{
    at_rest::{group_of, matching},
    input::{Held, Policy, Version},
    placement::{Asked, Member, Placed, as_dropped},
    rollout::{Run, rest},
};

/// A cluster that changed in nothing that placement looks at keeps its place.
pub(super) fn take_over(
    policy: &Policy,
    version: Option<&Version>,
    now: Timestamp,
    old: &mut Member,
    new: Member,
) -> (Option<Member>, Again) {
    let rest = old.rest;
    let counted_alike =
        group_of(policy, &new) == group_of(policy, old) && matching(policy, &new) == matching(policy, old);
    // Of one that failed it is said why.
    let says_alike = rest.is_none_or(|rest| !rest.failed) || new.rows().eq(old.rows());
    let mut new = inherit(Some(old), new);
    if !new.is_selected() {
        return (Some(new), Again::Nothing);
    }
    let_rest(policy, version, now, &mut new);
    let the_same = counted_alike && says_alike && new.rest == rest && new.rest.is_some();
    (Some(new), if the_same { Again::Nothing } else { Again::Rollout })
}

/// A cluster that placement has to look at together with all the others, at the next decision.
pub(super) fn inherit(old: Option<&mut Member>, mut new: Member) -> Member {
    if let Some(old) = old {
        new.place = std::mem::take(&mut old.place);
        new.hold = old.hold.take();
        new.asked = std::mem::take(&mut old.asked);
    }
    new
}

/// A cluster whose place moves no other.
pub(super) fn settle(
    policy: &Policy,
    version: Option<&Version>,
    now: Timestamp,
    old: Option<&mut Member>,
    new: Member,
    placed: Placed,
) -> Member {
    let mut new = inherit(old, new);
    let (place, hold) = placed;
    new.place = as_dropped(policy, version, &new, place);
    new.hold = hold;
    if !new.is_selected() {
        new.asked = asked_of_others(&new);
    }
    let_rest(policy, version, now, &mut new);
    new
}

/// What is asked of a cluster that is not selected: what it serves, if another policy has it, until that one tells it.
pub(super) fn asked_of_others(member: &Member) -> Asked {
    let taken = !member.is_outranked() || member.winner.as_ref().is_some_and(|winner| winner.serves);
    match &member.held().serve {
        Some(serve) if !taken => {
            Asked::This(Arc::new(Held { serve: Some(serve.clone()), ..Held::default() }))
        }
        Some(_) | None => Asked::Nothing,
    }
}

pub(super) fn let_rest(policy: &Policy, version: Option<&Version>, now: Timestamp, member: &mut Member) {
    if member.is_selected()
        && let Some(run) = Run::lets_rest(policy, now)
    {
        member.rest = rest(policy, version, &run, now, member);
    }
    if member.rest.is_some() {
        member.asked = Asked::Stored;
    }
}
