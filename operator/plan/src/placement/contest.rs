//! Contest: the candidates of a policy that spreads those it chooses over domains. Whom it told keeps their places; the
//! others wait in one queue for each combination of domains, so that whoever takes a place that becomes free is found among
//! the queues' heads.

use std::collections::BTreeMap;

use super::{
    bands::{Band, Order, Seat, Standing, name},
    choose::{out_of_number, skewed},
    domains::{Domains, Signature},
    exclusion::Refusal,
    field::Unsettled,
    member::Place,
    queue::Queue,
    rank::Key,
};
use crate::Name;

/// With more that are selected and not told yet, to place all together may be less work: each change picks all of these anew.
const MOST_PICKED: usize = 128;

/// Or with more than this part of the candidates.
const MOST_PICKED_OF: usize = 8;

/// With more in all queues, too many ends have to be compared where a scale moves.
const MOST_BANDS: usize = 1024;

/// Who has a place, and who waits for one.
#[derive(Debug)]
pub(crate) struct Contest {
    number: usize,
    domains: Vec<Domains>,
    candidates: usize,
    /// How many were told already. They stay whatever the constraints say.
    kept: usize,
    /// Selected, and not told yet: a better one that comes now is selected instead.
    picked: BTreeMap<Name, Seated>,
    waiting: BTreeMap<Signature, Queue>,
    /// The first of each queue.
    heads: BTreeMap<Key, Signature>,
    /// How many the queues have.
    bands: usize,
}

/// A candidate as the contest sees it.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) standing: Standing,
    pub(crate) signature: Signature,
}

/// The same, in its place.
#[derive(Clone, Debug)]
struct Seated {
    band: Band,
    seat: Seat,
    signature: Signature,
}

/// What one change does to the places of others.
pub(crate) type Others = Vec<(Name, Place)>;

impl Contest {
    /// The contest for so many places, as it was decided. None where one change would have to look at too many, or where more
    /// were told than there are places.
    pub(crate) fn of(
        number: usize,
        order: Order<'_>,
        mut domains: Vec<Domains>,
        contenders: impl Iterator<Item = (Contender, bool)>,
    ) -> Option<Self> {
        let mut waiting: BTreeMap<Signature, BTreeMap<Band, Vec<Seat>>> = BTreeMap::new();
        let (mut kept, mut picked, mut candidates) = (0, BTreeMap::new(), 0);
        for (contender, selected) in contenders {
            let Seated { band, seat, signature } = Seated::of(order, contender);
            candidates += 1;
            for (domains, domain) in domains.iter_mut().zip(&*signature) {
                domains.join(domain.as_deref());
                if selected {
                    domains.take(domain.as_deref());
                }
            }
            match (band.is_kept(), selected) {
                (true, true) => kept += 1,
                (true, false) => return None,
                (false, true) => drop(picked.insert(name(&seat), Seated { band, seat, signature })),
                (false, false) => {
                    waiting.entry(signature).or_default().entry(band).or_default().push(seat);
                }
            }
        }
        let queue = |(signature, bands): (Signature, BTreeMap<Band, Vec<Seat>>)| {
            let allowed = allows(&domains, &signature);
            (signature, Queue::new(order, bands, allowed))
        };
        let waiting: BTreeMap<Signature, Queue> = waiting.into_iter().map(queue).collect();
        let bands = waiting.values().map(Queue::bands).sum();
        let heads = BTreeMap::new();
        let mut contest = Self { number, domains, candidates, kept, picked, waiting, heads, bands };
        contest.line_up(order);
        contest.is_small().then_some(contest)
    }

    /// One candidate in another's place, or none; or the scales moved. Returns the place of the new one, and of others whose
    /// place is another now.
    ///
    /// # Errors
    ///
    /// `Unsettled` where all have to be placed together.
    pub(crate) fn exchange(
        &mut self,
        order: Order<'_>,
        rescaled: bool,
        old: Option<Contender>,
        new: Option<Contender>,
    ) -> Result<(Option<Place>, Others), Unsettled> {
        let [old, new] = [old, new].map(|one| one.map(|one| Seated::of(order, one)));
        let changed = new.as_ref().or(old.as_ref()).map(|one| name(&one.seat));
        if rescaled {
            self.line_up(order);
        }
        let before = self.give_back(order);
        let mut counts_moved = !before.is_empty();
        if let Some(old) = old {
            counts_moved |= self.leave(order, &old);
        }
        if let Some(new) = &new {
            counts_moved |= self.enter(order, new);
        }
        if self.kept > self.number {
            return Err(Unsettled);
        }
        counts_moved |= self.fill(order);
        if !self.is_small() {
            return Err(Unsettled);
        }
        let mut others = if counts_moved { self.judge_queues() } else { Others::new() };
        for (name, one) in &before {
            if !self.picked.contains_key(name) && self.waits(one) {
                others.push((Name::clone(name), Place::Excluded(self.refusal(&one.signature))));
            }
        }
        let picked_now = self.picked.iter().filter(|(name, _)| !before.contains_key(*name));
        others.extend(picked_now.map(|(name, one)| (Name::clone(name), one.selected(order))));
        others.retain(|(name, _)| Some(name) != changed.as_ref());
        Ok((new.map(|new| self.place_of(order, &new)), others))
    }

    /// Whether a change has to look at few.
    fn is_small(&self) -> bool {
        self.bands <= MOST_BANDS && self.picked.len() <= self.most_picked()
    }

    fn most_picked(&self) -> usize {
        MOST_PICKED.max(self.candidates / MOST_PICKED_OF)
    }

    /// Compares all that may be first of a queue.
    fn line_up(&mut self, order: Order<'_>) {
        self.waiting.values_mut().for_each(|queue| queue.look(order));
        let head = |(signature, queue): (&Signature, &Queue)| {
            Some((queue.head()?.key.clone(), Signature::clone(signature)))
        };
        self.heads = self.waiting.iter().filter_map(head).collect();
    }

    /// Lets those selected but not told wait again, as if nobody had been picked.
    fn give_back(&mut self, order: Order<'_>) -> BTreeMap<Name, Seated> {
        let before = std::mem::take(&mut self.picked);
        for one in before.values() {
            self.count(&one.signature, Domains::give_back);
            self.queue(order, one);
        }
        before
    }

    /// Returns whether that may allow others what they were not allowed, or not what they were.
    fn leave(&mut self, order: Order<'_>, one: &Seated) -> bool {
        self.candidates -= 1;
        let kept = one.band.is_kept();
        if kept {
            self.kept -= 1;
            self.count(&one.signature, Domains::give_back);
        } else {
            self.dequeue(order, one);
        }
        let gone = self.count_where(&one.signature, Domains::leave);
        kept || gone > 0
    }

    /// The same.
    fn enter(&mut self, order: Order<'_>, one: &Seated) -> bool {
        self.candidates += 1;
        let come = self.count_where(&one.signature, Domains::join);
        let kept = one.band.is_kept();
        if kept {
            self.kept += 1;
            self.count(&one.signature, Domains::take);
        } else {
            self.queue(order, one);
        }
        kept || come > 0
    }

    fn queue(&mut self, order: Order<'_>, one: &Seated) {
        self.change_queue(
            &one.signature,
            |queue| queue.add(order, one.band.clone(), one.seat.clone()),
            order,
        );
    }

    fn dequeue(&mut self, order: Order<'_>, one: &Seated) {
        self.change_queue(&one.signature, |queue| queue.remove(order, &one.band, &one.seat), order);
    }

    /// Changes a queue, and knows its head and its bands afterwards.
    fn change_queue(&mut self, signature: &Signature, change: impl FnOnce(&mut Queue), order: Order<'_>) {
        if !self.waiting.contains_key(signature) {
            let allowed = allows(&self.domains, signature);
            self.waiting.insert(Signature::clone(signature), Queue::new(order, BTreeMap::new(), allowed));
        }
        let Some(queue) = self.waiting.get_mut(signature) else { return };
        let (head, bands) = (queue.head().map(|head| head.key.clone()), queue.bands());
        change(queue);
        self.bands = self.bands + queue.bands() - bands;
        let first = queue.head().map(|head| head.key.clone());
        if first == head {
            return;
        }
        head.inspect(|head| drop(self.heads.remove(head)));
        match first {
            Some(first) => drop(self.heads.insert(first, Signature::clone(signature))),
            None => drop(self.waiting.remove(signature)),
        }
    }

    /// Picks as many as there is room for. Returns whether there was one.
    fn fill(&mut self, order: Order<'_>) -> bool {
        let most = self.most_picked();
        while self.kept + self.picked.len() < self.number && self.picked.len() <= most {
            let Some(best) = self.best() else { break };
            self.dequeue(order, &best);
            self.count(&best.signature, Domains::take);
            self.picked.insert(name(&best.seat), best);
        }
        !self.picked.is_empty()
    }

    /// Of those that every firm constraint allows, the one that breaks the fewest others, then the best.
    fn best(&self) -> Option<Seated> {
        let allowed = self.heads.values().filter(|signature| allows(&self.domains, signature));
        let mut fewest: Option<(usize, &Signature)> = None;
        for signature in allowed {
            let broken = breaks(&self.domains, signature);
            if fewest.is_none_or(|(least, _)| broken < least) {
                fewest = Some((broken, signature));
            }
            if broken == 0 {
                break;
            }
        }
        let (_, signature) = fewest?;
        let head = self.waiting.get(signature)?.head()?;
        Some(Seated {
            band: head.band.clone(),
            seat: head.seat.clone(),
            signature: Signature::clone(signature),
        })
    }

    fn count(&mut self, signature: &Signature, how: impl Fn(&mut Domains, Option<&str>)) {
        for (domains, domain) in self.domains.iter_mut().zip(&**signature) {
            how(domains, domain.as_deref());
        }
    }

    /// In how many constraints that was so.
    fn count_where(
        &mut self,
        signature: &Signature,
        how: impl Fn(&mut Domains, Option<&str>) -> bool,
    ) -> usize {
        let domains = self.domains.iter_mut().zip(&**signature);
        domains.map(|(domains, domain)| usize::from(how(domains, domain.as_deref()))).sum()
    }

    /// Those who wait for another reason than before.
    fn judge_queues(&mut self) -> Others {
        let mut others = Others::new();
        for (signature, queue) in &mut self.waiting {
            let allowed = allows(&self.domains, signature);
            if std::mem::replace(&mut queue.allowed, allowed) != allowed {
                let why = refusal(self.number, allowed);
                others.extend(queue.names().map(|name| (Name::clone(name), Place::Excluded(why.clone()))));
            }
        }
        others
    }

    fn waits(&self, one: &Seated) -> bool {
        self.waiting.get(&one.signature).is_some_and(|queue| queue.has(&one.band, &one.seat))
    }

    fn place_of(&self, order: Order<'_>, one: &Seated) -> Place {
        if one.band.is_kept() || self.picked.contains_key(&one.seat.1) {
            one.selected(order)
        } else {
            Place::Excluded(self.refusal(&one.signature))
        }
    }

    fn refusal(&self, signature: &Signature) -> Refusal {
        refusal(self.number, allows(&self.domains, signature))
    }
}

impl Seated {
    fn of(order: Order<'_>, contender: Contender) -> Self {
        let (band, seat) = order.seat(contender.standing);
        Self { band, seat, signature: contender.signature }
    }

    fn selected(&self, order: Order<'_>) -> Place {
        Place::Selected(order.key(&self.band, &self.seat))
    }
}

/// Whether the firm constraints allow one more of these domains.
fn allows(domains: &[Domains], signature: &Signature) -> bool {
    domains
        .iter()
        .zip(&**signature)
        .filter(|(domains, _)| domains.firm)
        .all(|(domains, domain)| domains.keeps(domain.as_deref()))
}

/// How many of the other constraints one more of these domains would break.
fn breaks(domains: &[Domains], signature: &Signature) -> usize {
    domains
        .iter()
        .zip(&**signature)
        .filter(|(domains, domain)| !domains.firm && !domains.keeps(domain.as_deref()))
        .count()
}

/// Why one waits.
fn refusal(number: usize, allowed: bool) -> Refusal {
    if allowed { out_of_number(number) } else { skewed() }
}

#[cfg(test)]
mod tests {
    use super::{super::bands::Along, *};

    #[test]
    fn a_queue_in_which_nobody_waits_any_more_is_gone() {
        let order = Order { along: Along::Scores, scoring: &[] };
        let contender = |name: &str| Contender {
            standing: Standing { kept: false, prefer_no_select: 0, values: Vec::new(), name: name.into() },
            signature: [Some(name.into())].into(),
        };
        let two = ["a", "b"].map(|name| (contender(name), false));
        let mut contest = Contest::of(0, order, Vec::new(), two.into_iter()).unwrap();
        contest.exchange(order, false, Some(contender("a")), None).unwrap();
        let waiting: Vec<_> = contest.waiting.keys().cloned().collect();
        assert_eq!((waiting, contest.bands, contest.heads.len()), (vec![contender("b").signature], 1, 1));
    }
}
