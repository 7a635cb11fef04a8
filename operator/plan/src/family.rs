//! Family: the policies for one model, in their order: the first that selects a cluster has it. Of a cluster whose holder
//! changed those after it hear by its name, so that nobody looks at the others.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{Name, input::Catalogue, placement::Winner, slot::Slot};

/// Decides what is to be decided of all policies. Returns of which clusters something else is asked than before.
pub(crate) fn decide<'a>(
    slots: impl Iterator<Item = &'a mut Slot>,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Vec<Name> {
    let mut slots: Vec<&mut Slot> = slots.collect();
    let in_order = |a: &Slot, b: &Slot| {
        a.policy.model().cmp(b.policy.model()).then_with(|| a.policy.precedes(&b.policy))
    };
    slots.sort_by(|a, b| in_order(a, b));
    let families = slots.chunk_by_mut(|a, b| a.policy.model() == b.policy.model());
    let due = families.filter(|family| family.iter().any(|slot| slot.is_due()));
    due.flat_map(|family| decide_one(family, catalogue, now)).collect()
}

fn decide_one(family: &mut [&mut Slot], catalogue: &Catalogue, now: Timestamp) -> Vec<Name> {
    let mut asked = Vec::new();
    let mut holders = Holders::default();
    let last = family.len().saturating_sub(1);
    for place in 0..family.len() {
        let (before, [slot, ..]) = family.split_at_mut(place) else { break };
        holders.ask(slot.take_unasked(), before);
        if !slot.places_all() {
            slot.holders_changed(holders.asked());
        }
        if slot.places_all() {
            slot.set_winners(holders.of_all(before));
        }
        if slot.is_due() {
            let moved = slot.decide(catalogue, now, place == last);
            asked.extend(moved.asked);
            if place == last {
                break;
            }
            holders.ask(moved.claims, before);
        }
        holders.pass(slot);
    }
    asked
}

/// Who of the policies so far has which cluster.
#[derive(Debug, Default)]
struct Holders {
    /// Those that the policies to come have to hear of, with who has them.
    asked: BTreeMap<Name, Option<Arc<Winner>>>,
    /// Who has any; None = nobody had to know it yet.
    all: Option<BTreeMap<Name, Arc<Winner>>>,
}

impl Holders {
    /// The policies after these have to hear who has these clusters.
    fn ask(&mut self, names: Vec<Name>, before: &[&mut Slot]) {
        for name in names {
            if let Entry::Vacant(free) = self.asked.entry(name) {
                let find = || before.iter().find_map(|slot| slot.claim(free.key()));
                let winner = if self.all.is_none() { find() } else { None };
                free.insert(winner);
            }
        }
    }

    /// What the next policy has to hear.
    fn asked(&self) -> Vec<(&Name, Option<&Arc<Winner>>)> {
        let winner = |(name, winner)| match &self.all {
            Some(all) => (name, all.get(name)),
            None => (name, Option::as_ref(winner)),
        };
        self.asked.iter().map(winner).collect()
    }

    /// All that the policies so far have.
    fn of_all(&mut self, before: &[&mut Slot]) -> &BTreeMap<Name, Arc<Winner>> {
        self.all.get_or_insert_with(|| before.iter().flat_map(|slot| slot.claims()).collect())
    }

    /// One more policy.
    fn pass(&mut self, slot: &Slot) {
        if let Some(all) = &mut self.all {
            all.extend(slot.claims());
            return;
        }
        for (name, winner) in self.asked.iter_mut().filter(|(_, winner)| winner.is_none()) {
            *winner = slot.claim(name);
        }
    }
}
