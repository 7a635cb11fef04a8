//! The chunks of one file: contiguous from offset 0, each with a length and a BLAKE3. Held as runs of equal lengths and
//! one flat list of hashes, because an 8 GiB file has 8,192 of them.

use crate::Blake3;

/// The longest chunk that a manifest may name, in bytes. A chunk is the unit that is fetched again when it is wrong
/// and copied when it is known, so it has to stay small beside the memory and the link of a spoke.
pub const MAX_CHUNK: u32 = 16 << 20;

/// One chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Position in the list, from 0.
    pub index: usize,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes, never 0.
    pub length: u32,
    /// The hash of its bytes.
    pub blake3: Blake3,
}

impl Chunk {
    /// The offset of the first byte after it.
    pub const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// Every chunk of a file, in order, without gap or overlap: the form has no way to say either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkList {
    /// (length, how many in a row), no two neighbours with the same length.
    runs: Vec<(u32, u32)>,
    hashes: Vec<Blake3>,
}

impl ChunkList {
    /// How many chunks there are.
    pub const fn len(&self) -> usize {
        self.hashes.len()
    }

    /// True for the list of an empty file.
    pub const fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = Chunk> {
        let lengths = self.runs.iter().flat_map(|&(length, count)| (0..count).map(move |_| length));
        lengths.zip(&self.hashes).enumerate().scan(0, |offset, (index, (length, &blake3))| {
            let chunk = Chunk { index, offset: *offset, length, blake3 };
            *offset = chunk.end();
            Some(chunk)
        })
    }

    /// The hashes in order.
    pub fn hashes(&self) -> &[Blake3] {
        &self.hashes
    }

    pub(crate) fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// The bytes covered; `None` where the sum leaves 64 bits.
    pub(crate) fn covered(&self) -> Option<u64> {
        self.runs.iter().try_fold(0u64, |sum, &(length, count)| {
            sum.checked_add(u64::from(length).checked_mul(u64::from(count))?)
        })
    }

    /// What a manifest says, unchecked but for the number of chunks, which bounds the memory of everything after it.
    pub(crate) fn from_parts(runs: Vec<(u32, u32)>, hashes: Vec<Blake3>) -> Result<Self, (u64, u64)> {
        let count: u64 = runs.iter().map(|&(_, count)| u64::from(count)).sum();
        let hashed = hashes.len() as u64;
        if count != hashed {
            return Err((count, hashed));
        }
        // Neighbours of one length are one run: the same chunks have one form. An empty run stays, to be refused.
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(runs.len());
        for (length, count) in runs {
            match merged.last_mut() {
                Some((last, sum)) if *last == length && *sum > 0 && count > 0 => {
                    *sum = sum.saturating_add(count)
                }
                Some(_) | None => merged.push((length, count)),
            }
        }
        Ok(Self { runs: merged, hashes })
    }

    pub(crate) fn push(&mut self, length: u32, blake3: Blake3) {
        self.hashes.push(blake3);
        match self.runs.last_mut() {
            Some((last, count)) if *last == length && *count < u32::MAX => *count += 1,
            Some(_) | None => self.runs.push((length, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_and_offsets_add_up() {
        let mut list = ChunkList::default();
        for length in [10, 10, 10, 4, 10] {
            list.push(length, Blake3::of(&[]));
        }
        assert_eq!(list.runs(), [(10, 3), (4, 1), (10, 1)]);
        let spans: Vec<_> = list.iter().map(|c| (c.index, c.offset, c.end())).collect();
        assert_eq!(spans, [(0, 0, 10), (1, 10, 20), (2, 20, 30), (3, 30, 34), (4, 34, 44)]);
        assert_eq!(list.covered(), Some(44));
    }
}
