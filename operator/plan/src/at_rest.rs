//! At rest: selected clusters that a rollout counts, and queues, instead of looking at each of them. What can be said of one
//! of these depends on nothing but its kind: that it serves the target, is away, is on its way to it or back, or waits to be told.
//!
//! Invariant: it is what adding its clusters one by one gives, in any order.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nave_crds::RolloutPhase;

use crate::{
    Name,
    input::{Policy, StepSpec, selector::Selector},
    placement::{Key, Kind, Member, Rest},
    ranks::Ranks,
    rollout::Run,
};

/// The clusters of one policy that are at rest.
#[derive(Debug, Default)]
pub(crate) struct AtRest {
    /// Soaks are measured: not once a rollout is complete.
    measures: bool,
    crowds: BTreeMap<Matching, Crowd>,
    /// By the label of the disruption budget, if there is one.
    groups: BTreeMap<String, Group>,
    told_away: BTreeSet<Name>,
    untold_away: BTreeSet<Name>,
    /// To the target, or on the way back from it.
    in_flight: BTreeSet<Name>,
    /// The same, by the end of their time.
    flights: BTreeSet<(Timestamp, Name)>,
    /// Connected, to be told, and able to switch at once.
    waiting: BTreeSet<Name>,
    /// The same, but what they have to hold before is missing.
    unstaged: BTreeSet<Name>,
    /// Connected, and without the target's weights: the gate of prefetch waits for these.
    delaying: BTreeSet<Name>,
    pub(crate) serving: usize,
    /// Those in flight that are on the way back.
    pub(crate) returning: usize,
    back: usize,
    back_away: usize,
    /// Sent back because they failed.
    failed: BTreeSet<Name>,
    pub(crate) holding_target: usize,
    pub(crate) told_in_run: usize,
}

/// Which of the steps that have a selector a cluster is in, one bit for each.
pub(crate) type Matching = u128;

/// Clusters that are in the same steps.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) count: usize,
    pub(crate) serving: usize,
    pub(crate) in_flight: usize,
    pub(crate) told: usize,
    pub(crate) told_in_run: usize,
    /// Since when they serve, and how many.
    since: BTreeMap<Timestamp, usize>,
    /// All that wait to be told.
    waiting: Ranks,
    /// Those of them that could switch at once.
    able: Ranks,
    /// The same, by group of the disruption budget.
    lanes: BTreeMap<String, BTreeSet<Key>>,
}

/// A group of the disruption budget.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) count: usize,
    pub(crate) in_flight: usize,
}

/// Those that one step is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) count: usize,
    pub(crate) serving: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    /// Since when the last of those that serve does.
    pub(crate) since: Option<Timestamp>,
}

/// In which steps a cluster is.
pub(crate) fn matching(policy: &Policy, member: &Member) -> Matching {
    // Labels are far away in memory, and mostly no step asks for any.
    let matches = |selector: &Selector| selector.matches(member.spoke.cluster.labels());
    let with_selector = policy.steps.iter().zip(0..Matching::BITS);
    with_selector
        .filter(|(step, _)| step.selector.as_ref().is_some_and(matches))
        .fold(0, |matching, (_, bit)| matching | (1 << bit))
}

/// A member's group of the disruption budget, if there is one.
pub(crate) fn group_of<'a>(policy: &Policy, member: &'a Member) -> Option<&'a str> {
    let (label, _) = policy.budget.as_ref()?;
    Some(member.label(label).unwrap_or_default())
}

impl AtRest {
    /// Nobody yet.
    pub(crate) fn new(policy: &Policy) -> Self {
        let measures =
            Run::lets_rest(policy, Timestamp::MAX).is_some_and(|run| run.phase == RolloutPhase::Rolling);
        Self { measures, ..Self::default() }
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.active_count() + self.away_count() + self.back_away
    }

    pub(crate) fn in_flight(&self) -> &BTreeSet<Name> {
        &self.in_flight
    }

    pub(crate) fn waiting(&self) -> &BTreeSet<Name> {
        &self.waiting
    }

    pub(crate) fn unstaged(&self) -> &BTreeSet<Name> {
        &self.unstaged
    }

    pub(crate) fn told_away(&self) -> &BTreeSet<Name> {
        &self.told_away
    }

    pub(crate) fn untold_away(&self) -> &BTreeSet<Name> {
        &self.untold_away
    }

    pub(crate) fn failed(&self) -> &BTreeSet<Name> {
        &self.failed
    }

    pub(crate) fn delaying(&self) -> &BTreeSet<Name> {
        &self.delaying
    }

    pub(crate) fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    pub(crate) fn crowds(&self) -> &BTreeMap<Matching, Crowd> {
        &self.crowds
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len() + self.unstaged.len()
    }

    /// Those that are away, and did not fail.
    pub(crate) fn away_count(&self) -> usize {
        self.told_away.len() + self.untold_away.len()
    }

    /// Connected ones.
    pub(crate) fn active_count(&self) -> usize {
        self.serving + self.in_flight.len() + self.waiting_count() + self.back
    }

    /// When the first of those in flight has used up its time.
    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        self.flights.first().map(|(end, _)| *end)
    }

    /// Those in flight whose time is up.
    pub(crate) fn over(&self, now: Timestamp) -> Vec<Name> {
        self.flights.iter().take_while(|(end, _)| *end <= now).map(|(_, name)| Name::clone(name)).collect()
    }

    /// The crowds that a step is about; without a step, all.
    pub(crate) fn of_step<'a>(
        &'a self,
        step: Option<(usize, &StepSpec)>,
    ) -> impl Iterator<Item = &'a Crowd> + Clone + use<'a> {
        self.crowds_where(step, true)
    }

    /// The other crowds.
    pub(crate) fn not_of_step<'a>(
        &'a self,
        step: Option<(usize, &StepSpec)>,
    ) -> impl Iterator<Item = &'a Crowd> + Clone + use<'a> {
        self.crowds_where(step, false)
    }

    fn crowds_where<'a>(
        &'a self,
        step: Option<(usize, &StepSpec)>,
        in_it: bool,
    ) -> impl Iterator<Item = &'a Crowd> + Clone + use<'a> {
        let bit = step.filter(|(_, step)| step.selector.is_some()).map(|(index, _)| 1 << (index - 1));
        let is_in_it = move |matching: Matching| bit.is_none_or(|bit: Matching| matching & bit != 0);
        let crowds = self.crowds.iter();
        crowds.filter(move |(matching, _)| is_in_it(**matching) == in_it).map(|(_, crowd)| crowd)
    }

    /// What these are together.
    pub(crate) fn sums(&self, step: Option<(usize, &StepSpec)>) -> Sums {
        let mut sums = Sums::default();
        for crowd in self.of_step(step) {
            sums.count += crowd.count;
            sums.serving += crowd.serving;
            sums.in_flight += crowd.in_flight;
            sums.waiting += crowd.waiting.count();
            sums.since = sums.since.max(crowd.since.keys().next_back().copied());
        }
        sums
    }

    /// One more.
    pub(crate) fn add(&mut self, policy: &Policy, key: &Key, member: &Member, rest: Rest) {
        let name = member.name();
        let group = group_of(policy, member);
        let crowd = self.crowds.entry(matching(policy, member)).or_default();
        crowd.count += 1;
        crowd.told += usize::from(rest.kind.told());
        crowd.told_in_run += usize::from(rest.told_in_run);
        self.told_in_run += usize::from(rest.told_in_run);
        self.holding_target += usize::from(rest.holds_target);
        let place = group.map(|group| match self.groups.contains_key(group) {
            true => self.groups.get_mut(group),
            false => Some(self.groups.entry(group.to_owned()).or_default()),
        });
        let mut place = place.flatten();
        if let Some(place) = &mut place {
            place.count += 1;
        }
        match rest.kind {
            Kind::Serving(since) => {
                self.serving += 1;
                crowd.serving += 1;
                if self.measures {
                    *crowd.since.entry(since).or_default() += 1;
                }
            }
            Kind::InFlight(until) | Kind::Returning(until) => {
                self.in_flight.insert(Name::clone(name));
                self.flights.insert((until, Name::clone(name)));
                crowd.in_flight += usize::from(rest.kind.told());
                self.returning += usize::from(!rest.kind.told());
                if let Some(place) = place {
                    place.in_flight += 1;
                }
            }
            Kind::Back => self.back += 1,
            Kind::BackAway => self.back_away += 1,
            Kind::ToldAway => drop(self.told_away.insert(Name::clone(name))),
            Kind::UntoldAway => drop(self.untold_away.insert(Name::clone(name))),
            Kind::Waiting => {
                crowd.waiting.insert(key.clone());
                if !rest.staged(policy) {
                    self.unstaged.insert(Name::clone(name));
                } else {
                    crowd.able.insert(key.clone());
                    self.waiting.insert(Name::clone(name));
                    let group = group.unwrap_or_default();
                    match crowd.lanes.get_mut(group) {
                        Some(lane) => drop(lane.insert(key.clone())),
                        None => drop(crowd.lanes.insert(group.to_owned(), [key.clone()].into())),
                    }
                }
            }
        }
        if rest.delays() {
            self.delaying.insert(Name::clone(name));
        }
        if rest.failed {
            self.failed.insert(Name::clone(name));
        }
    }

    /// One less.
    pub(crate) fn take(&mut self, policy: &Policy, key: &Key, member: &Member, rest: Rest) {
        let name = member.name();
        let group = group_of(policy, member);
        let matching = matching(policy, member);
        let Some(crowd) = self.crowds.get_mut(&matching) else { return };
        crowd.count -= 1;
        crowd.told -= usize::from(rest.kind.told());
        crowd.told_in_run -= usize::from(rest.told_in_run);
        self.told_in_run -= usize::from(rest.told_in_run);
        self.holding_target -= usize::from(rest.holds_target);
        let mut place = group.and_then(|group| self.groups.get_mut(group));
        if let Some(place) = &mut place {
            place.count -= 1;
        }
        match rest.kind {
            Kind::Serving(since) => {
                self.serving -= 1;
                crowd.serving -= 1;
                if let Some(count) = crowd.since.get_mut(&since) {
                    *count -= 1;
                    if *count == 0 {
                        crowd.since.remove(&since);
                    }
                }
            }
            Kind::InFlight(until) | Kind::Returning(until) => {
                self.in_flight.remove(name);
                self.flights.remove(&(until, Name::clone(name)));
                crowd.in_flight -= usize::from(rest.kind.told());
                self.returning -= usize::from(!rest.kind.told());
                if let Some(place) = &mut place {
                    place.in_flight -= 1;
                }
            }
            Kind::Back => self.back -= 1,
            Kind::BackAway => self.back_away -= 1,
            Kind::ToldAway => drop(self.told_away.remove(name)),
            Kind::UntoldAway => drop(self.untold_away.remove(name)),
            Kind::Waiting => {
                crowd.waiting.remove(key);
                crowd.able.remove(key);
                self.unstaged.remove(name);
                self.waiting.remove(name);
                let group = group.unwrap_or_default();
                if let Some(lane) = crowd.lanes.get_mut(group) {
                    lane.remove(key);
                    if lane.is_empty() {
                        crowd.lanes.remove(group);
                    }
                }
            }
        }
        if rest.delays() {
            self.delaying.remove(name);
        }
        if rest.failed {
            self.failed.remove(name);
        }
        if crowd.count == 0 {
            self.crowds.remove(&matching);
        }
        if let Some(group) =
            group.filter(|group| self.groups.get(*group).is_some_and(|group| group.count == 0))
        {
            self.groups.remove(group);
        }
    }
}

impl Crowd {
    /// All that wait to be told.
    pub(crate) fn waiting(&self) -> &Ranks {
        &self.waiting
    }

    /// Those of them that could switch at once.
    pub(crate) fn able(&self) -> &Ranks {
        &self.able
    }

    /// Who could switch at once, best first, by group of the disruption budget.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (&str, &BTreeSet<Key>)> {
        self.lanes.iter().map(|(group, lane)| (group.as_str(), lane))
    }
}
