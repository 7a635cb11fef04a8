//! Random pairs of safetensors versions: changed a little, changed altogether, of another type or shape, renamed, added,
//! removed, re-ordered, moved into another file, beside files that are no safetensors.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::world::{Tensor, Version, encode, rebuild, safetensors_file};

const TYPES: [(&str, usize); 6] = [("U8", 1), ("BF16", 2), ("F16", 2), ("F32", 4), ("F64", 8), ("F4", 1)];

/// What becomes of one tensor in the second version.
#[derive(Clone, Debug)]
enum Change {
    Keep,
    /// Each element's lowest byte, with this step between the changed ones.
    Nudge(usize),
    Fresh(u64),
    OtherType(usize),
    OtherShape,
    Rename,
    Remove,
    OtherFile,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Keep),
        (1usize..50).prop_map(Change::Nudge),
        any::<u64>().prop_map(Change::Fresh),
        (0..TYPES.len()).prop_map(Change::OtherType),
        Just(Change::OtherShape),
        Just(Change::Rename),
        Just(Change::Remove),
        Just(Change::OtherFile),
    ]
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| byte()).collect()
}

fn tensor(kind: usize, elements: usize, seed: u64) -> Tensor {
    let (dtype, width) = TYPES[kind];
    // Of a type that this version does not know, the shape says nothing about the bytes.
    let shape = if dtype == "F4" { vec![2 * elements as u64] } else { vec![elements as u64] };
    (dtype, shape, noise(seed, elements * width))
}

fn apply(change: &Change, (dtype, shape, bytes): &Tensor) -> Tensor {
    let width = TYPES.iter().find(|(name, _)| name == dtype).map_or(1, |(_, width)| *width);
    match change {
        Change::Nudge(step) => {
            let mut bytes = bytes.clone();
            bytes.iter_mut().step_by(width * step).for_each(|byte| *byte = byte.wrapping_add(1));
            (dtype, shape.clone(), bytes)
        }
        Change::Fresh(seed) => (dtype, shape.clone(), noise(*seed, bytes.len())),
        Change::OtherType(kind) => tensor(*kind, bytes.len() / 8 + 1, 7),
        Change::OtherShape => {
            let elements = bytes.len() / width;
            let whole = bytes[..elements / 2 * width].to_vec();
            (dtype, vec![(elements / 2) as u64], whole)
        }
        Change::Keep | Change::Rename | Change::Remove | Change::OtherFile => {
            (dtype, shape.clone(), bytes.clone())
        }
    }
}

prop_compose! {
    fn pair()(
        tensors in prop::collection::vec((0..TYPES.len(), 0usize..3_000, any::<u64>(), change()), 1..12),
        large in prop::option::of((change(), any::<u64>())),
        added in 0usize..3, reversed in any::<bool>(), other in prop::collection::vec(any::<u8>(), 0..600),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) -> (Version, Version) {
        let mut first: Vec<(String, Tensor)> = Vec::new();
        let (mut second, mut elsewhere) = (Vec::new(), Vec::new());
        let large = large.map(|(change, seed)| (1, 700_000, seed, change));
        for (at, (kind, elements, seed, change)) in tensors.into_iter().chain(large).enumerate() {
            let name = format!("layers.{at}.weight");
            let before = tensor(kind, elements, seed);
            let after = apply(&change, &before);
            match change {
                Change::Remove => {}
                Change::Rename => second.push((format!("model.{name}"), after)),
                Change::OtherFile => elsewhere.push((name.clone(), after)),
                Change::Keep | Change::Nudge(_) | Change::Fresh(_) | Change::OtherType(_) | Change::OtherShape => {
                    second.push((name.clone(), after));
                }
            }
            first.push((name, before));
        }
        second.extend((0..added).map(|at| (format!("added.{at}"), tensor(at, 500, at as u64))));
        if reversed {
            second.reverse();
        }
        let mut other_after = other.clone();
        for flip in flips.iter().filter(|_| !other.is_empty()) {
            other_after[flip.index(other.len())] ^= 1;
        }
        let version = |files: Vec<(&str, Vec<u8>)>| {
            let named = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes));
            Version::of(&named.collect::<BTreeMap<_, _>>())
        };
        let base = version(vec![("model.safetensors", safetensors_file(&first)), ("tokenizer.bin", other)]);
        let target = version(vec![
            ("model.safetensors", safetensors_file(&second)),
            ("more/elsewhere.safetensors", safetensors_file(&elsewhere)),
            ("tokenizer.bin", other_after),
        ]);
        (base, target)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn every_pair_is_rebuilt_byte_for_byte((base, target) in pair()) {
        let (object, tail) = encode(&base, &target);
        let rebuilt = rebuild(&object, tail, &base, &target).unwrap();
        let whole = rebuilt.from_blocks + rebuilt.from_base + rebuilt.fetched;
        prop_assert_eq!(whole, target.manifest().total_size());
        prop_assert!(rebuilt.blocks <= rebuilt.from_blocks);
    }

    /// The same delta against another base of the same shape is refused before a byte is decoded.
    #[test]
    fn a_delta_is_bound_to_both_versions((base, target) in pair(), (other, _) in pair()) {
        let (object, tail) = encode(&base, &target);
        prop_assume!(other.manifest() != base.manifest() && target.manifest() != base.manifest());
        prop_assert_eq!(rebuild(&object, tail, &other, &target).unwrap_err().name(), "WrongBase");
        prop_assert_eq!(rebuild(&object, tail, &base, &base).unwrap_err().name(), "WrongTarget");
    }
}
