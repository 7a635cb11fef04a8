//! Queue: those who lie in the same domains and wait for a place, with the best of them at its head.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bands::{Band, Order, Seat},
    rank::Key,
};
use crate::Name;

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    bands: BTreeMap<Band, BTreeSet<Seat>>,
    head: Option<Head>,
    /// Whether the firm constraints allow one more of these.
    pub(crate) allowed: bool,
}

/// The first of all that wait.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) key: Key,
    pub(crate) band: Band,
    pub(crate) seat: Seat,
}

impl Queue {
    /// One of these.
    pub(crate) fn new(order: Order<'_>, bands: BTreeMap<Band, Vec<Seat>>, allowed: bool) -> Self {
        let bands = bands.into_iter().map(|(band, seats)| (band, seats.into_iter().collect())).collect();
        let mut queue = Self { bands, head: None, allowed };
        queue.look(order);
        queue
    }

    /// The first of all.
    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// How many bands there are.
    pub(crate) fn bands(&self) -> usize {
        self.bands.len()
    }

    /// Whether somebody sits there.
    pub(crate) fn has(&self, band: &Band, seat: &Seat) -> bool {
        self.bands.get(band).is_some_and(|seats| seats.contains(seat))
    }

    /// All that wait.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.bands.values().flatten().map(|(_, name)| name)
    }

    /// One more waits.
    pub(crate) fn add(&mut self, order: Order<'_>, band: Band, seat: Seat) {
        let key = order.key(&band, &seat);
        if self.head.as_ref().is_none_or(|head| key < head.key) {
            self.head = Some(Head { key, band: band.clone(), seat: seat.clone() });
        }
        self.bands.entry(band).or_default().insert(seat);
    }

    /// One waits no more.
    pub(crate) fn remove(&mut self, order: Order<'_>, band: &Band, seat: &Seat) {
        let Some(seats) = self.bands.get_mut(band) else { return };
        seats.remove(seat);
        if seats.is_empty() {
            self.bands.remove(band);
        }
        if self.head.as_ref().is_some_and(|head| head.seat == *seat) {
            self.look(order);
        }
    }

    /// Finds the first of all, where that may be another.
    pub(crate) fn look(&mut self, order: Order<'_>) {
        let ends = self.bands.iter().filter_map(|(band, seats)| Some((band, seats.first()?)));
        let keyed = ends.map(|(band, seat)| (order.key(band, seat), band, seat));
        let first = keyed.min_by(|a, b| a.0.cmp(&b.0));
        self.head = first.map(|(key, band, seat)| Head { key, band: band.clone(), seat: seat.clone() });
    }
}
