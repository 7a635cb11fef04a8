//! Contest: the candidates of a policy that chooses some of them. Whom it told keeps their places; the others wait in one
//! queue for each combination of domains, best first, so that whoever takes a place that becomes free is found among the
//! queues' heads.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    choose::{out_of_number, skewed},
    domains::{Domains, Signature},
    exclusion::Refusal,
    field::Unsettled,
    member::Place,
    rank::Key,
};
use crate::Name;

/// With more that are selected and not told yet, all are placed together: each change would have to look at all of these.
const MOST_PICKED: usize = 32;

/// Who has a place, and who waits for one.
#[derive(Debug)]
pub(crate) struct Contest {
    number: usize,
    domains: Vec<Domains>,
    /// How many were told already. They stay whatever the constraints say.
    kept: usize,
    /// Selected, and not told yet: a better one that comes now is selected instead.
    picked: BTreeMap<Key, Signature>,
    waiting: BTreeMap<Signature, Queue>,
}

#[derive(Debug)]
struct Queue {
    keys: BTreeSet<Key>,
    /// Whether the firm constraints allow one more of these.
    allowed: bool,
}

/// A candidate as the contest sees it.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) key: Key,
    pub(crate) chosen: bool,
    pub(crate) signature: Signature,
}

/// What one change does to the places of others.
pub(crate) type Others = Vec<(Name, Place)>;

impl Contest {
    /// The contest for so many places, as it was decided. None where more wait to be told than one change should look at, or
    /// where more were told than there are places.
    pub(crate) fn of(
        number: usize,
        mut domains: Vec<Domains>,
        contenders: impl Iterator<Item = (Contender, bool)>,
    ) -> Option<Self> {
        let mut waiting: BTreeMap<Signature, Vec<Key>> = BTreeMap::new();
        let (mut kept, mut picked) = (0, BTreeMap::new());
        for (Contender { key, chosen, signature }, selected) in contenders {
            for (domains, domain) in domains.iter_mut().zip(&signature) {
                domains.join(domain.as_deref());
                if selected {
                    domains.take(domain.as_deref());
                }
            }
            match (chosen, selected) {
                (true, true) => kept += 1,
                (true, false) => return None,
                (false, true) if picked.len() == MOST_PICKED => return None,
                (false, true) => drop(picked.insert(key, signature)),
                (false, false) => waiting.entry(signature).or_default().push(key),
            }
        }
        let queue = |(signature, keys): (Signature, Vec<Key>)| {
            let allowed = allows(&domains, &signature);
            (signature, Queue { keys: keys.into_iter().collect(), allowed })
        };
        let waiting = waiting.into_iter().map(queue).collect();
        Some(Self { number, domains, kept, picked, waiting })
    }

    /// One candidate in another's place: the place of the new one, and of others whose place is another now.
    ///
    /// # Errors
    ///
    /// `Unsettled` where all have to be placed together.
    pub(crate) fn exchange(
        &mut self,
        old: Option<Contender>,
        new: Option<Contender>,
    ) -> Result<(Option<Place>, Others), Unsettled> {
        let changed = new.as_ref().or(old.as_ref()).map(|one| one.key.name.clone());
        let before = self.give_back();
        let mut counts_moved = !before.is_empty();
        if let Some(old) = old {
            counts_moved |= self.leave(&old);
        }
        if let Some(new) = &new {
            counts_moved |= self.enter(new);
        }
        if self.kept > self.number {
            return Err(Unsettled);
        }
        counts_moved |= self.fill();
        if self.picked.len() > MOST_PICKED {
            return Err(Unsettled);
        }
        let mut others = if counts_moved { self.judge_queues() } else { Others::new() };
        for (key, signature) in &before {
            if !self.picked.contains_key(key) && self.waits(key, signature) {
                others.push((key.name.clone(), Place::Excluded(self.refusal(signature))));
            }
        }
        let picked_now = self.picked.keys().filter(|key| !before.contains_key(*key));
        others.extend(picked_now.map(|key| (key.name.clone(), Place::Selected(key.clone()))));
        others.retain(|(name, _)| Some(name) != changed.as_ref());
        Ok((new.map(|new| self.place_of(new)), others))
    }

    /// Lets those selected but not told wait again, as if nobody had been picked.
    fn give_back(&mut self) -> BTreeMap<Key, Signature> {
        let before = std::mem::take(&mut self.picked);
        for (key, signature) in &before {
            self.count(signature, Domains::give_back);
            self.queue(key.clone(), signature);
        }
        before
    }

    /// Returns whether that may allow others what they were not allowed, or not what they were.
    fn leave(&mut self, one: &Contender) -> bool {
        if one.chosen {
            self.kept -= 1;
            self.count(&one.signature, Domains::give_back);
        } else {
            self.dequeue(&one.key, &one.signature);
        }
        let gone = self.count_where(&one.signature, Domains::leave);
        one.chosen || gone > 0
    }

    /// The same.
    fn enter(&mut self, one: &Contender) -> bool {
        let come = self.count_where(&one.signature, Domains::join);
        if one.chosen {
            self.kept += 1;
            self.count(&one.signature, Domains::take);
        } else {
            self.queue(one.key.clone(), &one.signature);
        }
        one.chosen || come > 0
    }

    fn queue(&mut self, key: Key, signature: &Signature) {
        match self.waiting.get_mut(signature) {
            Some(queue) => drop(queue.keys.insert(key)),
            None => {
                let allowed = allows(&self.domains, signature);
                self.waiting.insert(signature.clone(), Queue { keys: [key].into(), allowed });
            }
        }
    }

    fn dequeue(&mut self, key: &Key, signature: &Signature) {
        let Some(queue) = self.waiting.get_mut(signature) else { return };
        queue.keys.remove(key);
        if queue.keys.is_empty() {
            self.waiting.remove(signature);
        }
    }

    /// Picks as many as there is room for: of those that every firm constraint allows, the one that breaks the fewest
    /// others, then the best. Returns whether there was one.
    fn fill(&mut self) -> bool {
        while self.kept + self.picked.len() < self.number {
            let heads =
                self.waiting.iter().filter_map(|(signature, queue)| Some((signature, queue.keys.first()?)));
            let allowed = heads.filter(|(signature, _)| allows(&self.domains, signature));
            let best = allowed.min_by_key(|(signature, key)| (breaks(&self.domains, signature), *key));
            let Some((signature, key)) = best.map(|(signature, key)| (signature.clone(), key.clone())) else {
                break;
            };
            self.dequeue(&key, &signature);
            self.count(&signature, Domains::take);
            self.picked.insert(key, signature);
            if self.picked.len() > MOST_PICKED {
                break;
            }
        }
        !self.picked.is_empty()
    }

    fn count(&mut self, signature: &Signature, how: impl Fn(&mut Domains, Option<&str>)) {
        for (domains, domain) in self.domains.iter_mut().zip(signature) {
            how(domains, domain.as_deref());
        }
    }

    /// In how many constraints that was so.
    fn count_where(
        &mut self,
        signature: &Signature,
        how: impl Fn(&mut Domains, Option<&str>) -> bool,
    ) -> usize {
        let domains = self.domains.iter_mut().zip(signature);
        domains.map(|(domains, domain)| usize::from(how(domains, domain.as_deref()))).sum()
    }

    /// Those who wait for another reason than before.
    fn judge_queues(&mut self) -> Others {
        let mut others = Others::new();
        for (signature, queue) in &mut self.waiting {
            let allowed = allows(&self.domains, signature);
            if std::mem::replace(&mut queue.allowed, allowed) != allowed {
                let why = refusal(self.number, allowed);
                others.extend(queue.keys.iter().map(|key| (key.name.clone(), Place::Excluded(why.clone()))));
            }
        }
        others
    }

    fn waits(&self, key: &Key, signature: &Signature) -> bool {
        self.waiting.get(signature).is_some_and(|queue| queue.keys.contains(key))
    }

    fn place_of(&self, one: Contender) -> Place {
        if one.chosen || self.picked.contains_key(&one.key) {
            Place::Selected(one.key)
        } else {
            Place::Excluded(self.refusal(&one.signature))
        }
    }

    fn refusal(&self, signature: &Signature) -> Refusal {
        refusal(self.number, allows(&self.domains, signature))
    }
}

/// Whether the firm constraints allow one more of these domains.
fn allows(domains: &[Domains], signature: &Signature) -> bool {
    domains
        .iter()
        .zip(signature)
        .filter(|(domains, _)| domains.firm)
        .all(|(domains, domain)| domains.keeps(domain.as_deref()))
}

/// How many of the other constraints one more of these domains would break.
fn breaks(domains: &[Domains], signature: &Signature) -> usize {
    domains
        .iter()
        .zip(signature)
        .filter(|(domains, domain)| !domains.firm && !domains.keeps(domain.as_deref()))
        .count()
}

/// Why one waits.
fn refusal(number: usize, allowed: bool) -> Refusal {
    if allowed { out_of_number(number) } else { skewed() }
}
