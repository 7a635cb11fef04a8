//! Standings: the candidates of a policy that chooses the best of them and spreads them over nothing. Of those inside and of
//! those outside only the bands' ends are compared, so that one change looks at few.
//!
//! Invariant: so many as there are places for are inside, and none of the others ranks before any of these.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    bands::{Band, Order, Seat, Standing},
    choose::out_of_number,
    contest::Others,
    field::Unsettled,
    member::Place,
    rank::Key,
};
use crate::Name;

/// With more, each change would have to look at too many ends.
const MOST_BANDS: usize = 256;

/// Where more change their places, to place all together is less work.
const MOST_MOVED: usize = 512;

/// Who is among the best, and who is not.
#[derive(Debug)]
pub(crate) struct Standings {
    number: usize,
    inside: usize,
    bands: BTreeMap<Band, Sides>,
}

#[derive(Debug, Default)]
struct Sides {
    inside: BTreeSet<Seat>,
    outside: BTreeSet<Seat>,
}

/// One at an end of a band's sides, with its rank.
#[derive(Debug)]
struct End {
    key: Key,
    band: Band,
    seat: Seat,
}

impl Standings {
    /// The standings for so many places, as they were decided. None where there are too many bands.
    pub(crate) fn of(
        number: usize,
        order: Order<'_>,
        candidates: impl Iterator<Item = (Standing, bool)>,
    ) -> Option<Self> {
        let mut standings = Self { number, inside: 0, bands: BTreeMap::new() };
        for (candidate, selected) in candidates {
            let (band, seat) = order.seat(candidate);
            let sides = standings.bands.entry(band).or_default();
            let side = if selected { &mut sides.inside } else { &mut sides.outside };
            side.insert(seat);
            standings.inside += usize::from(selected);
            if standings.bands.len() > MOST_BANDS {
                return None;
            }
        }
        Some(standings)
    }

    /// One candidate in another's place, or none; or the scales moved. Returns the place of the new one, and of others whose
    /// place is another now; the new one may be among these.
    ///
    /// # Errors
    ///
    /// `Unsettled` where there are too many bands, or where too many move.
    pub(crate) fn exchange(
        &mut self,
        order: Order<'_>,
        old: Option<Standing>,
        new: Option<Standing>,
    ) -> Result<(Option<Place>, Others), Unsettled> {
        if let Some(old) = old {
            let (band, seat) = order.seat(old);
            self.leave(&band, &seat);
        }
        let new = new.map(|new| order.seat(new));
        if let Some((band, seat)) = &new {
            self.bands.entry(band.clone()).or_default().outside.insert(seat.clone());
        }
        if self.bands.len() > MOST_BANDS {
            return Err(Unsettled);
        }
        let moved = self.settle(order)?.into_iter();
        let place = new.map(|(band, seat)| {
            let inside = self.bands.get(&band).is_some_and(|sides| sides.inside.contains(&seat));
            self.place(inside.then(|| order.key(&band, &seat)))
        });
        Ok((place, moved.map(|(name, key)| (name, self.place(key))).collect()))
    }

    fn place(&self, key: Option<Key>) -> Place {
        key.map_or_else(|| Place::Excluded(out_of_number(self.number)), Place::Selected)
    }

    fn leave(&mut self, band: &Band, seat: &Seat) {
        let Some(sides) = self.bands.get_mut(band) else { return };
        self.inside -= usize::from(sides.inside.remove(seat));
        sides.outside.remove(seat);
        if sides.inside.is_empty() && sides.outside.is_empty() {
            self.bands.remove(band);
        }
    }

    /// Fills the places that are free, and gives those of the last to better ones. Returns who moved, with the key of one
    /// that is inside now.
    fn settle(&mut self, order: Order<'_>) -> Result<BTreeMap<Name, Option<Key>>, Unsettled> {
        let mut moved = BTreeMap::new();
        while let Some(best) = self.best_outside(order) {
            if self.inside >= self.number {
                let Some(last) = self.last_inside(order).filter(|last| best.key < last.key) else { break };
                self.switch(&last, false);
                moved.insert(Arc::clone(&last.key.name), None);
            }
            self.switch(&best, true);
            moved.insert(Arc::clone(&best.key.name), Some(best.key));
            if moved.len() > MOST_MOVED {
                return Err(Unsettled);
            }
        }
        Ok(moved)
    }

    fn best_outside(&self, order: Order<'_>) -> Option<End> {
        let ends = self.bands.iter().filter_map(|(band, sides)| Some((band, sides.outside.first()?)));
        let keyed = ends.map(|(band, seat)| (order.key(band, seat), band, seat));
        keyed.min_by(|a, b| a.0.cmp(&b.0)).map(End::of)
    }

    fn last_inside(&self, order: Order<'_>) -> Option<End> {
        let ends = self.bands.iter().filter_map(|(band, sides)| Some((band, sides.inside.last()?)));
        let keyed = ends.map(|(band, seat)| (order.key(band, seat), band, seat));
        keyed.max_by(|a, b| a.0.cmp(&b.0)).map(End::of)
    }

    fn switch(&mut self, end: &End, inside: bool) {
        let Some(sides) = self.bands.get_mut(&end.band) else { return };
        let (from, to) = match inside {
            true => (&mut sides.outside, &mut sides.inside),
            false => (&mut sides.inside, &mut sides.outside),
        };
        from.remove(&end.seat);
        to.insert(end.seat.clone());
        self.inside = if inside { self.inside + 1 } else { self.inside - 1 };
    }
}

impl End {
    fn of((key, band, seat): (Key, &Band, &Seat)) -> Self {
        Self { key, band: band.clone(), seat: seat.clone() }
    }
}
