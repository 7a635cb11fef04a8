//! Ranks: keys in their order, of which it is known how many come before any one. A sorted set does not say that without a
//! walk; here the walk is over pieces of some hundred keys.

use crate::placement::Key;

/// A piece that has grown twice as long is cut.
const PIECE: usize = 256;

/// Keys, best first.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    /// None is empty.
    pieces: Vec<Vec<Key>>,
    count: usize,
}

impl Ranks {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Puts one in; one that is there already is not put in twice.
    pub(crate) fn insert(&mut self, key: Key) {
        let at = self.piece_of(&key);
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(vec![key]);
            self.count += 1;
            return;
        };
        let Err(place) = piece.binary_search(&key) else { return };
        piece.insert(place, key);
        self.count += 1;
        if piece.len() >= 2 * PIECE {
            let rest = piece.split_off(PIECE);
            self.pieces.insert(at + 1, rest);
        }
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, key: &Key) {
        let at = self.piece_of(key);
        let Some(piece) = self.pieces.get_mut(at) else { return };
        let Ok(place) = piece.binary_search(key) else { return };
        piece.remove(place);
        self.count -= 1;
        if piece.is_empty() {
            self.pieces.remove(at);
        }
    }

    /// How many rank before this one, whether it is there or not.
    pub(crate) fn before(&self, key: &Key) -> usize {
        let at = self.pieces.partition_point(|piece| piece.last() < Some(key));
        let whole: usize = self.pieces[..at].iter().map(Vec::len).sum();
        whole + self.pieces.get(at).map_or(0, |piece| piece.partition_point(|one| one < key))
    }

    /// All from this one on, or from where it would be; None = from the first.
    pub(crate) fn from(&self, key: Option<&Key>) -> impl Iterator<Item = &Key> {
        let at = self.pieces.partition_point(|piece| key.is_some() && piece.last() < key);
        let place = self.pieces.get(at).map_or(0, |piece| piece.partition_point(|one| Some(one) < key));
        self.pieces[at..].iter().flatten().skip(place)
    }

    /// The first for which this holds, if it holds for all after it as well.
    pub(crate) fn first_where(&self, holds: impl Fn(&Key) -> bool) -> Option<&Key> {
        let at = self.pieces.partition_point(|piece| !piece.last().is_some_and(&holds));
        let piece = self.pieces.get(at)?;
        piece.get(piece.partition_point(|key| !holds(key)))
    }

    /// Where a key is, or belongs: the last piece takes those behind all others.
    fn piece_of(&self, key: &Key) -> usize {
        let at = self.pieces.partition_point(|piece| piece.last() < Some(key));
        at.min(self.pieces.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranks_are_those_of_a_sorted_set() {
        let key = |number: u64| Key::named(&format!("c{number:05}"));
        let (mut ranks, mut set) = (Ranks::default(), BTreeSet::new());
        let mut number: u64 = 1;
        for round in 0..9_000 {
            // A full cycle of numbers below 2^13, so that each comes and goes.
            number = (number * 4_909 + 12_345) % 8_192;
            if round % 3 == 2 && set.contains(&key(number / 2)) {
                ranks.remove(&key(number / 2));
                set.remove(&key(number / 2));
            } else {
                ranks.insert(key(number));
                set.insert(key(number));
            }
            assert_eq!(ranks.count(), set.len());
            if round % 97 == 0 {
                for asked in [0, number, number + 1, 9_999] {
                    assert_eq!(ranks.before(&key(asked)), set.range(..key(asked)).count());
                    assert_eq!(ranks.first_where(|one| *one >= key(asked)), set.range(key(asked)..).next());
                    assert!(ranks.from(Some(&key(asked))).eq(set.range(key(asked)..)));
                    assert!(ranks.from(None).eq(&set));
                }
            }
        }
        for one in &set {
            ranks.remove(one);
            ranks.remove(one);
        }
        assert_eq!((ranks.count(), ranks.pieces.len()), (0, 0));
    }
}
