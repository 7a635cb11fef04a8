//! Deltas: an index names only what there is, a block becomes exactly as many bytes as its chunk has, and the list of deltas is
//! canonical.

use std::sync::LazyLock;

use nave_delta::{
    Block, Catalog, Decoder, Encoder, Index, IndexWriter, Layout, MAGIC, Offer, Record, Span, plan,
};
use nave_manifest::{CHUNK, Manifest};
use nave_names::Digest;

use crate::{manifest::of, noise};

const WIDTHS: [u8; 4] = [1, 2, 4, 8];

/// `nave_delta::Index::parse`, with a footer that is right: nobody comes by the index's BLAKE3 by chance. The first byte says
/// where the blocks end.
pub fn delta(bytes: &[u8]) -> bool {
    let Some((blocks, index)) = bytes.split_first() else { return false };
    let (base, target) = &*VERSIONS;
    let hash = blake3::hash(index);
    let length = (index.len() as u64).to_le_bytes();
    let tail = [index, &length, hash.as_bytes(), b"NAVEDLTE"].concat();
    let size = MAGIC.len() as u64 + u64::from(*blocks) + tail.len() as u64;
    // And the bytes as they are.
    drop(Index::parse(bytes, bytes.len() as u64, base, target));
    let Ok(index) = Index::parse(&tail, size, base, target) else { return false };
    let mut before = MAGIC.len() as u64;
    for record in index.records() {
        let chunk = target.files()[record.file].chunks.iter().nth(record.chunk).unwrap();
        assert_eq!(record.length, chunk.length);
        assert_eq!(record.offset, before, "blocks follow one another");
        assert!(record.stored > 0 && record.stored < record.length && WIDTHS.contains(&record.width));
        if let Some(span) = record.base {
            assert!(span.offset + u64::from(record.length) <= base.files()[span.file].size);
        }
        before = record.end();
    }
    assert_eq!(before, MAGIC.len() as u64 + u64::from(*blocks), "blocks end where the index begins");
    true
}

/// `nave_delta::Decoder::decode`: a length, a width, and a block.
pub fn delta_block(bytes: &[u8]) -> bool {
    let Some(([low, high, kind], block)) = bytes.split_first_chunk::<3>() else { return false };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let base = (kind & 4 != 0).then_some(Span { file: 0, offset: 0 });
    let width = WIDTHS[usize::from(kind & 3)];
    let record = Record {
        file: 0,
        chunk: 0,
        length: length as u32,
        base,
        width,
        offset: 0,
        stored: block.len() as u32,
    };
    let mut chunk = noise(5, length);
    let decoded = Decoder::new().unwrap().decode(&record, block, &mut chunk);
    assert_eq!(chunk.len(), length);
    decoded.is_ok()
}

/// `nave_delta::Catalog::parse`.
pub fn delta_catalog(bytes: &[u8]) -> bool {
    let Ok(catalog) = Catalog::parse(bytes) else { return false };
    let again = Catalog::parse(&catalog.to_bytes()).expect("what was read can be written and read");
    assert_eq!(again.offers(), catalog.offers());
    assert!(catalog.offers().is_sorted_by(|a, b| a.base < b.base));
    assert!(catalog.offers().iter().all(|offer| offer.index_size <= offer.size));
    true
}

/// Two versions of a few chunks.
static VERSIONS: LazyLock<(Manifest, Manifest)> = LazyLock::new(|| {
    let base = noise(6, CHUNK as usize + 9_000);
    let mut target = base.clone();
    target.iter_mut().step_by(1_000).for_each(|byte| *byte ^= 1);
    let from = of(&[("a.bin", &base), ("b.bin", &base[..5_000])]);
    (from, of(&[("a.bin", &target), ("c.bin", &target[..7_000])]))
});

pub(crate) fn index_seeds() -> Vec<Vec<u8>> {
    let (base, target) = &*VERSIONS;
    let recipes = plan(&Layout::new(base.clone()), &Layout::new(target.clone()));
    assert!(recipes.len() > 1 && recipes.iter().any(|recipe| recipe.base.is_some()));
    let seed = |count: usize| {
        let mut writer = IndexWriter::new(base.digest(), target.digest());
        for recipe in &recipes[..count] {
            let method =
                if recipe.base.is_some() { nave_delta::Method::Xor } else { nave_delta::Method::Alone };
            writer.push(recipe, &Block { method, bytes: vec![0; 20] });
        }
        let tail = writer.finish();
        [&[count as u8 * 20], &tail[..tail.len() - 48]].concat()
    };
    (0..=recipes.len()).map(seed).collect()
}

pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new().unwrap();
    let base = noise(5, 4_000);
    let mut chunk = base.clone();
    chunk.iter_mut().step_by(50).for_each(|byte| *byte ^= 3);
    let mut seed = |length: usize, kind: u8| {
        let base = (kind & 4 != 0).then_some(&base[..length]);
        let text = vec![7; length];
        let chunk = if base.is_some() { &chunk[..length] } else { &text };
        let block =
            encoder.encode(chunk, base, WIDTHS[usize::from(kind & 3)]).unwrap().expect("it is smaller");
        [&(length as u16).to_le_bytes()[..], &[kind], &block.bytes].concat()
    };
    vec![seed(4_000, 4), seed(3_999, 1 | 4), seed(1_001, 2), seed(4_000, 3 | 4)]
}

pub(crate) fn catalog_seeds() -> Vec<Vec<u8>> {
    let mut catalog = Catalog::default();
    let offer = |name: &[u8], size| Offer { base: Digest::of(name), size, index_size: size / 2 };
    let empty = catalog.to_bytes();
    catalog.insert(offer(b"one", 5_000));
    catalog.insert(offer(b"two", 900));
    vec![empty, catalog.to_bytes()]
}
