//! A set of chunks of one version: one bit for each, in the manifest's order, as the wire has it.

/// A set of chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// None of `len` chunks.
    pub(crate) fn none(len: usize) -> Self {
        Self { bytes: vec![0; len.div_ceil(8)], len }
    }

    /// All of `len` chunks.
    pub(crate) fn all(len: usize) -> Self {
        let mut bits = Self { bytes: vec![0xff; len.div_ceil(8)], len };
        if let Some(last) = bits.bytes.last_mut()
            && !len.is_multiple_of(8)
        {
            *last = (1 << (len % 8)) - 1;
        }
        bits
    }

    /// What a peer said; nothing said is none. `None` = it speaks of another number of chunks.
    pub(crate) fn read(bytes: Vec<u8>, len: usize) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::none(len));
        }
        let bits = Self { bytes, len };
        let surplus = |last: u8| !len.is_multiple_of(8) && last >> (len % 8) != 0;
        let fits = bits.bytes.len() == len.div_ceil(8) && !bits.bytes.last().copied().is_some_and(surplus);
        fits.then_some(bits)
    }

    /// Of how many chunks this is a set.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// As the wire has it.
    pub(crate) fn write(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    pub(crate) fn get(&self, index: usize) -> bool {
        index < self.len && self.bytes[index / 8] & (1 << (index % 8)) != 0
    }

    /// True if that changed anything.
    pub(crate) fn set(&mut self, index: usize, on: bool) -> bool {
        if index >= self.len || self.get(index) == on {
            return false;
        }
        self.bytes[index / 8] ^= 1 << (index % 8);
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_none_and_the_wire_agree() {
        for len in [0, 1, 7, 8, 9, 200] {
            let all = Bits::all(len);
            assert_eq!((all.count(), Bits::none(len).count()), (len, 0));
            assert_eq!(Bits::read(all.write(), len), Some(all));
        }
        let mut bits = Bits::none(9);
        assert!(bits.set(8, true) && !bits.set(8, true) && !bits.set(9, true));
        assert!(bits.get(8) && !bits.get(0) && !bits.get(9));
    }

    #[test]
    fn another_number_of_chunks_is_no_answer() {
        assert_eq!(Bits::read(vec![], 9), Some(Bits::none(9)));
        assert_eq!(Bits::read(vec![1], 9), None);
        assert_eq!(Bits::read(vec![0, 2], 9), None, "a tenth chunk");
    }
}
