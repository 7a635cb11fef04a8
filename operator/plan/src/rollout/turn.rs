//! Turn: of those that are not told yet, the ones that the step that a run is in has places for. Whoever comes behind them
//! waits for the step, whatever else is short.

use super::{
    Look,
    standing::Seat,
    steps::{self, Need, untold},
    target::Run,
    waiting::Decided,
};
use crate::{
    at_rest::{AtRest, Crowd},
    input::StepSpec,
    placement::Key,
    ranks::Ranks,
};

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    step: Option<(usize, &'a StepSpec)>,
    at_rest: &'a AtRest,
    /// Places of seats on the way to an older target; these come first.
    pub(crate) old: Vec<usize>,
    /// The first in rank that has no place any more; None = there is one for everybody of the step.
    end: Option<Key>,
}

/// So many clusters at rest, and the best ranked of them.
#[derive(Debug, Default)]
pub(crate) struct Share<'a> {
    pub(crate) count: usize,
    pub(crate) best: Vec<&'a Key>,
}

impl<'a> Turn<'a> {
    /// Of a step that needs `open` more.
    pub(crate) fn of(
        look: &Look<'a>,
        run: &Run,
        seats: &[Seat<'_>],
        at_rest: &'a AtRest,
        open: usize,
    ) -> Self {
        let mut turn = Self { step: steps::current(look, run), at_rest, old: Vec::new(), end: None };
        let of_step = seats.iter().enumerate().filter(|(_, seat)| turn.is_of_step(seat));
        let (old, others): (Vec<_>, Vec<_>) = of_step.partition(|(_, seat)| seat.in_old_flight());
        let others: Vec<&Key> = others.into_iter().filter_map(|(_, seat)| seat.key()).collect();
        turn.old = old.into_iter().map(|(place, _)| place).take(open).collect();
        turn.end = turn.nth(&others, open - turn.old.len()).cloned();
        turn
    }

    /// Of what a plan has decided, if the step needs more.
    pub(crate) fn now(decided: &Decided<'a>, seats: &[Seat<'_>]) -> Option<Self> {
        match *decided.need {
            Need::Told(open) => Some(Self::of(decided.look, decided.run, seats, decided.at_rest, open)),
            Need::Arrival
            | Need::Recovery
            | Need::Soak(_)
            | Need::Approval
            | Need::Everybody
            | Need::Nothing => None,
        }
    }

    fn is_of_step(&self, seat: &Seat<'_>) -> bool {
        untold(seat) && self.step.is_none_or(|(_, step)| steps::matches(step, seat))
    }

    /// Crowds at rest that the step is about.
    pub(crate) fn crowds(&self) -> impl Iterator<Item = &'a Crowd> + Clone + use<'a> {
        self.at_rest.of_step(self.step)
    }

    /// The one before which this many of the step rank: `seats` are the keys of those that have one, in their order.
    fn nth<'k>(&self, seats: &[&'k Key], number: usize) -> Option<&'k Key>
    where
        'a: 'k,
    {
        let waiting: Vec<&'a Ranks> = self.crowds().map(Crowd::waiting).collect();
        let before = |key: &Key| {
            let at_rest: usize = waiting.iter().map(|ranks| ranks.before(key)).sum();
            at_rest + seats.partition_point(|seat| *seat < key)
        };
        let seat = seats.get(seats.partition_point(|key| before(key) < number)).copied();
        let at_rest = waiting.iter().filter_map(|ranks| ranks.first_where(|key| before(key) >= number));
        at_rest.chain(seat).min()
    }

    /// Whether one of this rank comes too late, where no older target gives it a place.
    pub(crate) fn is_behind(&self, key: Option<&Key>) -> bool {
        self.end.as_ref().is_some_and(|end| key >= Some(end))
    }

    /// Whether it is this seat's by its rank.
    pub(crate) fn is_by_rank(&self, seat: &Seat<'_>) -> bool {
        self.is_of_step(seat) && !seat.in_old_flight() && !self.is_behind(seat.key())
    }

    /// Whether it is this seat's, at that place.
    pub(crate) fn is_of(&self, place: usize, seat: &Seat<'_>) -> bool {
        self.is_by_rank(seat) || self.old.binary_search(&place).is_ok()
    }

    /// Of those at rest that could switch at once: whose turn it is, and the others.
    pub(crate) fn at_rest(&self, named: usize) -> [Share<'a>; 2] {
        let (mut now, mut later) = (Share::default(), Share::default());
        for crowd in self.crowds() {
            now.count += self.end.as_ref().map_or(crowd.able().count(), |end| crowd.able().before(end));
            let before_the_end = |key: &&Key| !self.is_behind(Some(key));
            now.best.extend(crowd.able().from(None).take_while(before_the_end).take(named));
            let behind = self.end.as_ref().map(|end| crowd.able().from(Some(end)).take(named));
            later.best.extend(behind.into_iter().flatten());
        }
        for crowd in self.at_rest.not_of_step(self.step) {
            later.best.extend(crowd.able().from(None).take(named));
        }
        later.count = self.at_rest.waiting().len() - now.count;
        for share in [&mut now, &mut later] {
            share.best.sort_unstable();
            share.best.truncate(named);
        }
        [now, later]
    }
}
