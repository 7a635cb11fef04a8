//! The journal of a part: it names chunks that the part has, each once, and its good bytes alone say the same.

use nave_agent::store::journal as format;
use nave_names::Digest;

const CHUNKS: usize = 40;

/// `nave_agent::store::journal::read`, of a part with 40 chunks. The first byte says how many records are written after what the
/// bytes hold, with checks that are right: nobody comes by one by chance.
pub fn journal(bytes: &[u8]) -> bool {
    let Some((added, bytes)) = bytes.split_first() else { return false };
    let header = header();
    let added = added % 8;
    let tail = (0..u32::from(added)).flat_map(|chunk| format::record(&header, chunk * 7));
    let bytes: Vec<u8> = bytes.iter().copied().chain(tail).collect();
    let (named, good) = format::read(&header, &bytes, CHUNKS);
    assert!(good <= bytes.len());
    assert!(named.is_sorted_by(|a, b| a < b), "each chunk once");
    assert!(named.iter().all(|&chunk| (chunk as usize) < CHUNKS));
    assert_eq!(format::read(&header, &bytes[..good], CHUNKS), (named, good), "the rest says nothing");
    good == bytes.len()
}

fn header() -> Vec<u8> {
    format::header(&Digest::of(b"part"), 42)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let header = header();
    let seed = |added: u8, chunks: &[u32]| {
        let records = chunks.iter().flat_map(|&chunk| format::record(&header, chunk));
        [added].into_iter().chain(header.iter().copied()).chain(records).collect()
    };
    vec![seed(0, &[]), seed(0, &[5, 3, 3, 39]), seed(3, &[1])]
}
