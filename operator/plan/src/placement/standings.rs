//! Standings: the candidates of a policy that chooses the best of them, whatever their scores are measured by. Candidates
//! that differ in one prioritizer's value alone are of one band, and no scale changes their order; so when a scale moves,
//! only the bands' ends have to be compared.
//!
//! Invariant: so many as there are places for are inside, and none of the others ranks before any of these.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    choose::out_of_number, contest::Others, field::Unsettled, member::Place, rank::Key, score::Scoring,
};
use crate::Name;

/// With more, each change would have to look at too many ends: all are placed together then.
const MOST_BANDS: usize = 256;

/// Where more change their places, to place all together is less work.
const MOST_MOVED: usize = 512;

/// Who is among the best, and who is not.
#[derive(Debug)]
pub(crate) struct Standings {
    number: usize,
    /// The prioritizer whose values a band's candidates differ in.
    axis: usize,
    inside: usize,
    bands: BTreeMap<Band, Sides>,
}

/// What candidates of one band have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Band {
    kept: bool,
    prefer_no_select: u32,
    /// By prioritizer; the axis's says only whether it is known.
    values: Vec<Option<i128>>,
}

/// One candidate within its band: what the axis says of it, better first.
type Seat = (Reverse<i128>, Name);

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

/// A candidate as the standings see it.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) kept: bool,
    pub(crate) prefer_no_select: u32,
    /// By prioritizer.
    pub(crate) values: Vec<Option<i128>>,
    pub(crate) name: Name,
}

impl Standings {
    /// The standings for so many places, as they were decided. None where there are too many bands.
    pub(crate) fn of(
        number: usize,
        axis: usize,
        scoring: &[Scoring],
        candidates: impl Iterator<Item = (Standing, bool)>,
    ) -> Option<Self> {
        let mut standings = Self { number, axis, inside: 0, bands: BTreeMap::new() };
        for (candidate, selected) in candidates {
            let (band, seat) = standings.seat(scoring, candidate);
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
    /// `Unsettled` where there are too many bands, where too many move, or where the axis does not tell all apart any more.
    pub(crate) fn exchange(
        &mut self,
        scoring: &[Scoring],
        old: Option<Standing>,
        new: Option<Standing>,
    ) -> Result<(Option<Place>, Others), Unsettled> {
        if !scoring.get(self.axis).is_some_and(|axis| axis.scale.tells_all_apart()) {
            return Err(Unsettled);
        }
        if let Some(old) = old {
            let (band, seat) = self.seat(scoring, old);
            self.leave(&band, &seat);
        }
        let new = new.map(|new| self.seat(scoring, new));
        if let Some((band, seat)) = &new {
            self.bands.entry(band.clone()).or_default().outside.insert(seat.clone());
        }
        if self.bands.len() > MOST_BANDS {
            return Err(Unsettled);
        }
        let moved = self.settle(scoring)?.into_iter();
        let place = new.map(|(band, seat)| {
            let inside = self.bands.get(&band).is_some_and(|sides| sides.inside.contains(&seat));
            self.place(inside.then(|| self.key(scoring, &band, &seat)))
        });
        Ok((place, moved.map(|(name, key)| (name, self.place(key))).collect()))
    }

    /// Who is among the best.
    pub(crate) fn insiders(&self) -> impl Iterator<Item = &Name> {
        self.bands.values().flat_map(|sides| &sides.inside).map(|(_, name)| name)
    }

    fn place(&self, key: Option<Key>) -> Place {
        key.map_or_else(|| Place::Excluded(out_of_number(self.number)), Place::Selected)
    }

    fn seat(&self, scoring: &[Scoring], candidate: Standing) -> (Band, Seat) {
        let Standing { kept, prefer_no_select, mut values, name } = candidate;
        let gain = scoring.get(self.axis).map_or(0, |axis| axis.weight.signum());
        let known = values.get_mut(self.axis).and_then(Option::as_mut);
        let value = known.map_or(0, |value| std::mem::take(value) * gain);
        (Band { kept, prefer_no_select, values }, (Reverse(value), name))
    }

    fn key(&self, scoring: &[Scoring], band: &Band, (Reverse(value), name): &Seat) -> Key {
        let total = scoring.iter().zip(&band.values).enumerate().map(|(index, (by, known))| {
            let value = if index == self.axis { known.map(|_| value * by.weight.signum()) } else { *known };
            by.weight * by.scale.score(value)
        });
        Key::new(band.kept, band.prefer_no_select, total.sum(), name)
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
    fn settle(&mut self, scoring: &[Scoring]) -> Result<BTreeMap<Name, Option<Key>>, Unsettled> {
        let mut moved = BTreeMap::new();
        while let Some(best) = self.best_outside(scoring) {
            if self.inside >= self.number {
                let Some(last) = self.last_inside(scoring).filter(|last| best.key < last.key) else { break };
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

    fn best_outside(&self, scoring: &[Scoring]) -> Option<End> {
        let ends = self.bands.iter().filter_map(|(band, sides)| Some((band, sides.outside.first()?)));
        let keyed = ends.map(|(band, seat)| (self.key(scoring, band, seat), band, seat));
        keyed.min_by(|a, b| a.0.cmp(&b.0)).map(End::of)
    }

    fn last_inside(&self, scoring: &[Scoring]) -> Option<End> {
        let ends = self.bands.iter().filter_map(|(band, sides)| Some((band, sides.inside.last()?)));
        let keyed = ends.map(|(band, seat)| (self.key(scoring, band, seat), band, seat));
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
