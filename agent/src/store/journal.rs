//! The journal beside a part: which chunks of it were written. It is a hint that saves reading the whole part, never
//! a proof: whoever resumes hashes the chunks that it names. So it needs no fsync, and a torn end is just shorter.

use nave_names::Digest;

/// First bytes of every journal; the digit is the format's version.
const MAGIC: &[u8; 8] = b"NAVEJNL1";
const RECORD: usize = 8;

/// What a journal starts with: which part it belongs to.
pub fn header(sha256: &Digest, size: u64) -> Vec<u8> {
    [&MAGIC[..], sha256.as_bytes(), &size.to_le_bytes()].concat()
}

/// The record of one chunk.
pub fn record(header: &[u8], chunk: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&chunk.to_le_bytes());
    record[4..].copy_from_slice(&check(header, chunk));
    record
}

/// The chunks that a journal names, and how many of its bytes are good. A journal of another part names none.
pub fn read(header: &[u8], bytes: &[u8], chunks: usize) -> (Vec<u32>, usize) {
    let Some(records) = bytes.strip_prefix(header) else { return (Vec::new(), 0) };
    let mut named = Vec::new();
    let mut good = header.len();
    for record in records.as_chunks::<RECORD>().0 {
        let chunk = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
        if record[4..] != check(header, chunk) || chunk as usize >= chunks {
            break;
        }
        named.push(chunk);
        good += RECORD;
    }
    named.sort_unstable();
    named.dedup();
    (named, good)
}

fn check(header: &[u8], chunk: u32) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(&chunk.to_le_bytes());
    let hash = hasher.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journal(chunks: &[u32]) -> (Vec<u8>, Vec<u8>) {
        let header = header(&Digest::of(b"part"), 42);
        let mut bytes = header.clone();
        bytes.extend(chunks.iter().flat_map(|&chunk| record(&header, chunk)));
        (header, bytes)
    }

    proptest! {
        #[test]
        fn any_cut_leaves_a_prefix(chunks in prop::collection::vec(0u32..100, 0..50), cut in 0usize..500) {
            let (header, bytes) = journal(&chunks);
            let cut = cut.min(bytes.len());
            let (named, good) = read(&header, &bytes[..cut], 100);
            let whole = cut.saturating_sub(header.len()) / RECORD;
            let mut expected = chunks[..whole].to_vec();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(named, expected);
            prop_assert!(good <= cut);
        }

        #[test]
        fn a_flipped_bit_names_no_chunk_that_was_not_written(
            chunks in prop::collection::vec(0u32..100, 1..50), at in 0usize..500, bit in 0u8..8,
        ) {
            let (header, mut bytes) = journal(&chunks);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let (named, _) = read(&header, &bytes, 100);
            prop_assert!(named.iter().all(|chunk| chunks.contains(chunk)));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let (header, _) = journal(&[]);
            let (named, good) = read(&header, &bytes, 7);
            prop_assert!(named.iter().all(|&chunk| chunk < 7) && good <= bytes.len());
        }
    }

    #[test]
    fn a_chunk_that_the_part_does_not_have_ends_the_journal() {
        let (header, bytes) = journal(&[3, 7, 1]);
        assert_eq!(read(&header, &bytes, 7), (vec![3], header.len() + RECORD));
    }

    #[test]
    fn a_bad_record_is_the_end() {
        let (header, mut bytes) = journal(&[3, 4, 5]);
        bytes[header.len() + RECORD] ^= 1;
        assert_eq!(read(&header, &bytes, 7), (vec![3], header.len() + RECORD));
    }

    #[test]
    fn another_parts_journal_names_nothing() {
        let (_, bytes) = journal(&[1, 2, 3]);
        assert_eq!(read(&header(&Digest::of(b"part"), 43), &bytes, 100), (vec![], 0));
    }
}
