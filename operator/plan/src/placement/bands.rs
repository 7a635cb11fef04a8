//! Bands: the order of candidates, whatever their scores are measured by. Candidates that differ in one prioritizer's value
//! alone are of one band, and no scale changes their order; so when a scale moves, only the bands' ends have to be compared.

use std::{cmp::Reverse, sync::Arc};

use super::{rank::Key, score::Scoring};
use crate::Name;

/// What the candidates of one band are in order of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Along {
    /// The values of the prioritizer with this index, as long as its scale tells all of them apart.
    Axis(usize),
    /// Their scores, as long as no scale moves.
    Scores,
}

/// How candidates are put in order now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) along: Along,
    /// By prioritizer.
    pub(crate) scoring: &'a [Scoring],
}

/// What candidates of one band have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Band {
    kept: bool,
    prefer_no_select: u32,
    /// By prioritizer; the axis's says only whether it is known. Empty along the scores.
    values: Vec<Option<i128>>,
}

/// One candidate within its band: what it is in order of, better first.
pub(crate) type Seat = (Reverse<i128>, Name);

/// A candidate, as far as its rank depends on it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// It was chosen already, and others do not rank before it for that.
    pub(crate) kept: bool,
    pub(crate) prefer_no_select: u32,
    /// By prioritizer.
    pub(crate) values: Vec<Option<i128>>,
    pub(crate) name: Name,
}

impl Along {
    /// Whether the order within bands is still the order of the scores.
    pub(crate) fn holds(self, scoring: &[Scoring], rescaled: bool) -> bool {
        match self {
            Self::Axis(axis) => scoring.get(axis).is_some_and(|axis| axis.scale.tells_all_apart()),
            Self::Scores => !rescaled,
        }
    }
}

impl Order<'_> {
    /// Where a candidate sits.
    pub(crate) fn seat(self, candidate: Standing) -> (Band, Seat) {
        let Standing { kept, prefer_no_select, mut values, name } = candidate;
        let value = match self.along {
            Along::Axis(axis) => {
                let gain = self.scoring.get(axis).map_or(0, |axis| axis.weight.signum());
                values.get_mut(axis).and_then(Option::as_mut).map_or(0, |value| std::mem::take(value) * gain)
            }
            Along::Scores => {
                let scores = self.scoring.iter().zip(std::mem::take(&mut values));
                scores.map(|(by, value)| by.weight * by.scale.score(value)).sum()
            }
        };
        (Band { kept, prefer_no_select, values }, (Reverse(value), name))
    }

    /// The rank of the candidate that sits there.
    pub(crate) fn key(self, band: &Band, (Reverse(value), name): &Seat) -> Key {
        let total = match self.along {
            Along::Axis(axis) => {
                let scores = self.scoring.iter().zip(&band.values).enumerate().map(|(index, (by, known))| {
                    let value =
                        if index == axis { known.map(|_| value * by.weight.signum()) } else { *known };
                    by.weight * by.scale.score(value)
                });
                scores.sum()
            }
            Along::Scores => *value,
        };
        Key::new(band.kept, band.prefer_no_select, total, name)
    }
}

impl Band {
    /// Whether its candidates were chosen already, and others do not rank before them for that.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }
}

/// The name of the candidate that sits there.
pub(crate) fn name(seat: &Seat) -> Name {
    Arc::clone(&seat.1)
}
