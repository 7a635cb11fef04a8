//! Deltas that lie: each refused by name, before anything that they say is believed.

use std::collections::BTreeMap;

use nave_delta::{Decoder, Encoder, Index, Record, Span, tail_limit};
use proptest::prelude::*;

use crate::world::{Version, encode, rebuild, safetensors_file};

const HEAD: usize = 68;
const FOOTER: usize = 48;

fn versions() -> (Version, Version) {
    let version = |add: u8| {
        let tensor = |name: &str, seed: u8| {
            let bytes =
                (0..40_000u32).map(|at| (at / 7 + u32::from(seed)) as u8 ^ (at % 251) as u8).collect();
            (name.to_owned(), ("BF16", vec![100, 200], bytes))
        };
        let file = safetensors_file(&[tensor("a", add), tensor("b", add + 1), tensor("c", add + 2)]);
        Version::of(&BTreeMap::from([
            ("a.safetensors".to_owned(), file),
            ("b.txt".to_owned(), vec![add; 300]),
        ]))
    };
    (version(1), version(9))
}

/// The tail after `change` was made to the index, with its footer made right again.
fn forged(tail: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut index = tail[..tail.len() - FOOTER].to_vec();
    change(&mut index);
    let length = (index.len() as u64).to_le_bytes();
    let hash = *blake3::hash(&index).as_bytes();
    index.extend(length);
    index.extend(hash);
    index.extend(b"NAVEDLTE");
    index
}

/// Where a field of a record lies in the index.
const fn field(record: usize, at: usize) -> usize {
    HEAD + record * Record::BYTES + at
}

#[test]
fn each_lie_of_an_index_has_its_name() {
    let (base, target) = versions();
    let (object, at) = encode(&base, &target);
    let (tail, size) = (&object[at..], object.len() as u64);
    assert!(rebuild(&object, at, &base, &target).is_ok());
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 18] = [
        ("WrongBase", |index| index[0] ^= 1),
        ("WrongTarget", |index| index[32] ^= 1),
        ("CutOff", |index| index[64] ^= 1),
        ("CutOff", |index| index[67] = 0xff),
        ("CutOff", |index| index.truncate(HEAD + 5)),
        ("CutOff", |index| index.truncate(20)),
        ("RecordOrder", |index| index.copy_within(field(0, 0)..field(0, 8), field(1, 0))),
        ("RecordOrder", |index| index.copy_within(field(2, 0)..field(2, 8), field(0, 0))),
        ("UnknownChunk", |index| index[field(0, 3)] = 0xff),
        ("UnknownChunk", |index| index[field(0, 7)] = 0xff),
        ("UnknownBaseFile", |index| index[field(1, 8)] = 9),
        ("PastBaseFile", |index| index[field(1, 18)] = 9),
        ("PastBaseFile", |index| index[field(1, 16)..field(1, 24)].fill(0xff)),
        ("UnknownMethod", |index| index[field(1, 12)] = 3),
        ("UnknownMethod", |index| index[field(1, 12)] = 1),
        ("BadWidth", |index| index[field(1, 13)] = 3),
        ("BlockLength", |index| index[field(1, 24)..field(1, 28)].fill(0)),
        ("BlockLength", |index| index[field(1, 24)..field(1, 28)].fill(0xff)),
    ];
    for (name, change) in cases {
        let error =
            Index::parse(&forged(tail, change), size, base.manifest(), target.manifest()).unwrap_err();
        assert_eq!(error.name(), name, "{error}");
    }
}

#[test]
fn torn_swollen_and_damaged_tails_are_refused() {
    let (base, target) = versions();
    let (object, at) = encode(&base, &target);
    let (tail, size) = (&object[at..], object.len() as u64);
    let refuse = |tail: &[u8], size| {
        Index::parse(tail, size, base.manifest(), target.manifest()).map(|_| ()).unwrap_err().name()
    };
    assert_eq!(refuse(&tail[1..], size), "CutOff");
    assert_eq!(refuse(&tail[..tail.len() - 1], size), "BadMagic");
    assert_eq!(refuse(&tail[..10], size), "CutOff");
    assert_eq!(refuse(&[], size), "CutOff");
    let mut damaged = tail.to_vec();
    damaged[70] ^= 1;
    assert_eq!(refuse(&damaged, size), "IndexDamaged");
    let limit = usize::try_from(tail_limit(target.manifest())).unwrap();
    assert_eq!(refuse(&vec![0; limit + 1], size), "IndexTooLarge");
    for size in [0, size - 1, size + 1, u64::MAX] {
        assert_eq!(refuse(tail, size), "BlocksDoNotFit");
    }
}

proptest! {
    /// Whatever a block holds, it ends in the chunk's length of bytes or in a named refusal.
    #[test]
    fn garbage_in_a_block_is_a_refusal_or_bytes_for_the_hash(
        garbage in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..400, width in prop::sample::select(vec![1u8, 2, 4, 8]),
    ) {
        let chunk: Vec<u8> = (0..4_000u32).map(|at| (at / 9) as u8).collect();
        let block = Encoder::new().unwrap().encode(&chunk, None, width).unwrap().unwrap();
        let mut block = block.bytes;
        let at = at.min(block.len());
        let end = (at + garbage.len()).min(block.len());
        block.splice(at..end, garbage);
        let base = Some(Span { file: 0, offset: 0 });
        let record = Record { file: 0, chunk: 0, length: 4_000, base, width, offset: 8, stored: 1 };
        let mut bytes = vec![1; 4_000];
        if let Err(error) = Decoder::new().unwrap().decode(&record, &block, &mut bytes) {
            prop_assert_eq!(error.name(), "BadBlock");
        }
        prop_assert_eq!(bytes.len(), 4_000);
    }

    #[test]
    fn garbage_in_a_tail_is_refused(tail in prop::collection::vec(any::<u8>(), 0..400), size in any::<u64>()) {
        let (base, target) = versions();
        prop_assert!(Index::parse(&tail, size, base.manifest(), target.manifest()).is_err());
        let forged = forged(&[&tail[..], &[0; FOOTER][..]].concat(), |_| ());
        prop_assert!(Index::parse(&forged, size, base.manifest(), target.manifest()).is_err());
    }
}
