//! Slot: one policy in the planner, the clusters that it concerns, and what was decided about them last. A cluster that
//! changes is placed by itself where no other depends on it, and the rollout looks only at clusters that are not at rest.

mod claims;
mod gather;
mod keep;
mod shift;
#[cfg(test)]
mod staged;
mod whole;

use std::sync::Arc;

use jiff::Timestamp;

use self::{
    keep::{asked_of_others, inherit, let_rest, settle, take_over},
    shift::rank_anew,
};
use crate::{
    Name, PolicyReport,
    at_rest::AtRest,
    entries::Ask,
    input::{Catalogue, Held, Policy, Spoke, Told, Version},
    members::{At, Members},
    outcome::{self, Outcome},
    placement::{
        Asked, Choice, Field, Member, Moved, Others, Placed, Winner, place, place_alone, places_alike,
        places_one_by_one,
    },
    rollout::{Look, Run, Wanted, failures, rest, roll},
    status::FAILURE_NAMES,
    tally::{Counts, Tally},
};

/// One policy.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) policy: Arc<Policy>,
    /// The policy's target, if it is known.
    version: Option<Arc<Version>>,
    /// Clusters that match, or have an entry of it.
    members: Members,
    tally: Tally,
    pub(crate) outcome: Option<Outcome>,
    /// What it is to policies after it, of clusters that it has.
    has: Arc<Winner>,
    /// And of those that it tells to serve.
    serves: Arc<Winner>,
    /// Policies before it may have some of its clusters.
    loses: bool,
    again: Again,
    /// What places of single clusters depend on, as long as placement is decided; None = not looked at yet.
    field: Option<Field>,
    /// A scale moved: clusters at rest that do not wait to be told may have the ranks of before.
    rescaled: bool,
    /// What moved since the last decision, other than by it.
    moved: Moved,
    /// Clusters of which it was not asked yet whether a policy before this one has them.
    unasked: Vec<Name>,
    /// The time of the last decision.
    now: Timestamp,
}

/// How much is to be decided anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Again {
    Nothing,
    /// What is asked of whom, and the status.
    Rollout,
    /// And who is selected.
    Placement,
}

impl Slot {
    fn new(policy: Arc<Policy>, catalogue: &Catalogue) -> Self {
        Self {
            version: target(&policy, catalogue),
            has: Arc::new(Winner::new(&policy.key, false)),
            serves: Arc::new(Winner::new(&policy.key, true)),
            loses: false,
            policy,
            members: Members::default(),
            tally: Tally::default(),
            outcome: None,
            again: Again::Placement,
            field: None,
            rescaled: false,
            moved: Moved::default(),
            unasked: Vec::new(),
            now: Timestamp::MIN,
        }
    }

    /// Takes a newer form of the policy that says the same of placement and rollout as the present one.
    pub(crate) fn renew(&mut self, policy: Arc<Policy>) {
        let resting = Run::resting(&self.policy);
        self.policy = policy;
        // Who may rest is decided with the placement.
        let again = if Run::resting(&self.policy) == resting { Again::Rollout } else { Again::Placement };
        self.again = self.again.max(again);
    }

    /// A version of its model changed. Returns whose entries say something of it. One that is not the target says nothing of
    /// who is selected.
    pub(crate) fn version_changed(&mut self, catalogue: &Catalogue, changed: &str) -> Vec<Name> {
        if *changed != *self.policy.target_name {
            self.again = self.again.max(Again::Rollout);
            if !self.members.may_be_asked(changed) {
                return Vec::new();
            }
            let concerns =
                |told: &Option<Arc<Told>>| told.as_ref().is_some_and(|told| *told.version == *changed);
            let asked = self.all_asked();
            let concerned = asked.filter(|(_, held)| concerns(&held.serve) || concerns(&held.prefetch));
            return concerned.map(|(name, _)| Arc::clone(name)).collect();
        }
        self.version = target(&self.policy, catalogue);
        for member in self.members.iter_mut() {
            member.judge(&self.policy, self.version.as_deref());
        }
        self.again = Again::Placement;
        self.all_asked().map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Another policy for the same model came, went, or changed its place.
    pub(crate) fn company_changed(&mut self) {
        self.again = Again::Placement;
    }

    /// It is this time: the rollout may have to be looked at again.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        if now < self.now {
            // The clock was put back: whose time was up may have some left.
            self.again = Again::Placement;
        }
        let due = self.outcome.as_ref().is_none_or(|outcome| outcome.recheck.is_some_and(|at| at <= now));
        if due {
            self.again = self.again.max(Again::Rollout);
        }
    }

    /// Whether anything is to be decided.
    pub(crate) fn is_due(&self) -> bool {
        self.again != Again::Nothing
    }

    /// A cluster changed; `spoke` is what it is now.
    pub(crate) fn cluster_changed(&mut self, name: &Name, spoke: Option<&Spoke>) {
        let mut new = spoke.and_then(|spoke| Member::of(&self.policy, self.version.as_deref(), spoke));
        let at = self.members.find(name);
        match (self.members.at(at), &mut new) {
            (None, None) => return,
            (None, Some(_)) => self.unasked.push(Arc::clone(name)),
            (Some(_), None) => {}
            (Some(old), Some(new)) => new.winner.clone_from(&old.winner),
        }
        self.put(at, name, new);
    }

    /// Puts a member in another's place.
    fn put(&mut self, at: At, name: &Name, new: Option<Member>) {
        let old = self.members.at(at);
        if let Some(old) = old {
            self.tally.take(&self.policy, old);
        }
        let claim = old.and_then(Member::claim);
        let alike = old
            .zip(new.as_ref())
            .is_some_and(|(old, new)| old.keeps_place() && places_alike(&self.policy, old, new));
        let placed = if alike { None } else { self.place_one(at, new.as_ref()) };
        let (mut others, mut rescaled) = (Others::new(), false);
        let version = self.version.as_deref();
        let (mut new, again) = match (self.members.at_mut(at), new, placed) {
            (Some(old), Some(new), None) if alike => take_over(&self.policy, version, self.now, old, new),
            (old, new, Some(placing)) => {
                (others, rescaled) = (placing.others, placing.rescaled);
                let new = new
                    .zip(placing.placed)
                    .map(|(new, placed)| settle(&self.policy, version, self.now, old, new, placed));
                (new, Again::Rollout)
            }
            (old, new, None) => (new.map(|new| inherit(old, new)), Again::Placement),
        };
        if let Some(new) = new.as_mut().filter(|_| self.rescaled) {
            rank_anew(&self.policy, self.field.as_ref(), new);
        }
        self.again = self.again.max(again);
        if claim != new.as_ref().and_then(Member::claim) {
            self.again = self.again.max(Again::Rollout);
            self.moved.claims.push(Arc::clone(name));
        }
        match new {
            Some(new) => {
                self.tally.add(&self.policy, &new);
                self.members.insert(at, new);
            }
            None => self.members.remove(at),
        }
        others.into_iter().for_each(|(name, place)| self.shift(&name, place));
        if rescaled {
            self.rekey();
        }
    }

    /// Whether all clusters are to be placed anew.
    pub(crate) fn places_all(&self) -> bool {
        self.again == Again::Placement
    }

    /// Decides what is to be decided anew. `last` says that no other policy has to hear of it.
    pub(crate) fn decide(&mut self, catalogue: &Catalogue, now: Timestamp, last: bool) -> Moved {
        let mut moved = Moved { unheard: last, ..std::mem::take(&mut self.moved) };
        self.now = now;
        if self.places_all() {
            self.place(&mut moved);
        }
        let over = self.tally.at_rest.over(now);
        self.look_again(&over);
        self.roll(catalogue, now, &mut moved);
        self.again = Again::Nothing;
        moved
    }

    /// Decides who is selected.
    fn place(&mut self, moved: &mut Moved) {
        let (policy, version, now) = (&*self.policy, self.version.as_deref(), self.now);
        let run = Run::lets_rest(policy, now);
        let mut settle = |member: &mut Member, (place, hold): Placed| {
            member.decide(place, moved);
            member.hold = hold;
            member.rest = None;
            if !member.is_selected() {
                member.ask(asked_of_others(member), moved);
            } else if let Some(run) = &run
                && let Some(rest) = rest(policy, version, run, now, member)
            {
                member.rest = Some(rest);
                member.ask(Asked::Stored, moved);
            }
        };
        if places_one_by_one(policy) {
            for member in self.members.iter_mut() {
                let placed = place_alone(policy, version, member);
                settle(member, placed);
            }
        } else {
            let mut choice = self.choice();
            let holds = std::mem::take(&mut choice.holds);
            let placed = choice.places().into_iter().zip(holds);
            self.members.iter_mut().zip(placed).for_each(|(member, placed)| settle(member, placed));
        }
        self.tally = Tally::of(&self.policy, &self.members);
        self.field = None;
        self.rescaled = false;
    }

    fn choice(&self) -> Choice {
        let members: Vec<&Member> = self.members.iter().collect();
        place(&self.policy, self.version.as_deref(), &members)
    }

    /// The time of these is up: where they are now depends on nobody else.
    fn look_again(&mut self, names: &[Name]) {
        for name in names {
            let Some(member) = self.members.get_mut(name) else { continue };
            self.tally.take(&self.policy, member);
            member.rest = None;
            let_rest(&self.policy, self.version.as_deref(), self.now, member);
            self.tally.add(&self.policy, member);
        }
    }

    /// Looks at these again one by one.
    fn rouse(&mut self, names: &[Name]) {
        for name in names {
            let Some(member) = self.members.get_mut(name) else { continue };
            self.tally.take(&self.policy, member);
            member.rest = None;
            self.tally.add(&self.policy, member);
        }
    }

    /// Decides what is asked of the selected ones.
    fn roll(&mut self, catalogue: &Catalogue, now: Timestamp, moved: &mut Moved) {
        let policy = Arc::clone(&self.policy);
        let look = Look::new(&policy, catalogue, now);
        let excluded = self.tally.excluded(&self.members);
        let nobody = AtRest::default();
        self.tally.busy.settle(&self.members);
        let (rolled, counts, failures) = loop {
            let busy = self.members.busy(&self.tally.busy);
            let rolled = roll(&look, &busy, &self.tally.at_rest);
            let names = match rolled.wanted {
                None => {
                    let counts = self.tally.counts(&rolled);
                    let others = self.tally.at_rest.failed().iter().take(FAILURE_NAMES);
                    let others = others.filter_map(|name| self.members.get(name));
                    let failures = failures(&look, &rolled, others, FAILURE_NAMES);
                    break (rolled, counts, failures);
                }
                Some(Wanted::Everybody) => {
                    let rolled = roll(&look, &self.members.selected(), &nobody);
                    let counts = Counts::of(self.tally.matched, &rolled);
                    let failures = failures(&look, &rolled, std::iter::empty(), FAILURE_NAMES);
                    break (rolled, counts, failures);
                }
                Some(Wanted::These(names)) => names,
            };
            self.rouse(&names);
        };
        debug_assert!(whole::decides_the_same(&look, &self.members, &rolled), "{} at {now}", policy.key);
        self.outcome = Some(Outcome::of(&look, &rolled, counts, excluded, failures));
        // A step mostly asks the same of all its clusters.
        let mut shared = Arc::new(Held::default());
        let mut share = |held| {
            if *shared != held {
                shared = Arc::new(held);
            }
            Arc::clone(&shared)
        };
        let seats = rolled.seats.into_iter();
        let asked: Vec<(Name, Arc<Held>)> =
            seats.map(|seat| (Arc::clone(seat.name()), share(seat.asked))).collect();
        self.members.for_each(asked, |member, held| {
            if member.rest.is_some() {
                if *held == *member.held() {
                    return;
                }
                self.tally.take(&policy, member);
                member.rest = None;
                self.tally.add(&policy, member);
            }
            member.ask(Asked::This(held), moved);
        });
    }

    /// What was decided about each cluster and why, as of a decision at this time.
    pub(crate) fn report(&self, catalogue: &Catalogue, now: Timestamp) -> PolicyReport {
        let members: Vec<&Member> = self.members.iter().collect();
        outcome::report(&self.policy, catalogue, now, &members, &self.choice())
    }

    /// The same as what its entries are made from; `place` is the policy's among all.
    pub(crate) fn ask<'a>(&'a self, place: usize, member: &'a Member) -> Option<Ask<'a>> {
        let (target, only_keeps) = (self.version.as_deref(), member.only_keeps());
        Some(Ask { policy: &self.policy, target, held: member.asked()?, place, only_keeps })
    }

    /// One cluster.
    pub(crate) fn member(&self, name: &Name) -> Option<&Member> {
        self.members.get(name)
    }

    /// All clusters that concern it.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// What is asked of each cluster of which anything is asked.
    pub(crate) fn all_asked(&self) -> impl Iterator<Item = (&Name, &Held)> {
        self.members.iter().filter_map(|member| Some((member.name(), member.asked()?)))
    }
}

fn target(policy: &Policy, catalogue: &Catalogue) -> Option<Arc<Version>> {
    catalogue.find(&policy.key.namespace, policy.model(), policy.target()).cloned()
}
