//! What a delta is for: the bytes that it takes, change by change.

use std::collections::BTreeMap;

use crate::world::{Rebuilt, Tensor, Version, encode, rebuild, safetensors_file};

/// 512 Ki weights of a layer as bfloat16: exponents close together, mantissas like noise.
fn weights(seed: u32) -> Vec<u16> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as u16
    };
    (0..512 << 10).map(|_| 0x3c00 | (next() & 0x81ff)).collect()
}

fn bytes(weights: &[u16]) -> Vec<u8> {
    weights.iter().flat_map(|weight| weight.to_le_bytes()).collect()
}

fn version(tensors: &[(&str, Vec<u64>, Vec<u8>)]) -> Version {
    let tensor = |(name, shape, bytes): &(&str, Vec<u64>, Vec<u8>)| -> (String, Tensor) {
        ((*name).to_owned(), ("BF16", shape.clone(), bytes.clone()))
    };
    let file = safetensors_file(&tensors.iter().map(tensor).collect::<Vec<_>>());
    Version::of(&BTreeMap::from([("model.safetensors".to_owned(), file)]))
}

fn between(base: &Version, target: &Version) -> Rebuilt {
    let (object, tail) = encode(base, target);
    rebuild(&object, tail, base, target).unwrap()
}

const SHAPE: [u64; 2] = [512, 1024];

#[test]
fn small_steps_of_every_weight_take_a_fraction() {
    let before = weights(1);
    let after: Vec<u16> =
        before.iter().enumerate().map(|(at, w)| if at % 3 == 0 { w ^ 1 } else { *w }).collect();
    let base = version(&[("w", SHAPE.to_vec(), bytes(&before))]);
    let rebuilt = between(&base, &version(&[("w", SHAPE.to_vec(), bytes(&after))]));
    assert_eq!(rebuilt.fetched, 0);
    assert!(rebuilt.blocks * 8 < rebuilt.from_blocks, "{rebuilt:?}");
}

#[test]
fn a_tensor_keeps_its_base_when_the_file_around_it_changes() {
    let before = weights(1);
    let after: Vec<u16> = before.iter().map(|w| w ^ 1).collect();
    let base =
        version(&[("w", SHAPE.to_vec(), bytes(&before)), ("kept", SHAPE.to_vec(), bytes(&weights(2)))]);
    let moved = version(&[
        ("new", vec![16], vec![1; 32]),
        ("kept", SHAPE.to_vec(), bytes(&weights(2))),
        ("w", SHAPE.to_vec(), bytes(&after)),
    ]);
    let rebuilt = between(&base, &moved);
    assert_eq!(rebuilt.from_base, 1 << 20);
    assert!(rebuilt.blocks < 20_000, "{rebuilt:?}");
}

#[test]
fn a_new_tensor_is_stored_by_planes_alone() {
    let base = version(&[("w", SHAPE.to_vec(), bytes(&weights(1)))]);
    let rebuilt = between(&base, &version(&[("v", SHAPE.to_vec(), bytes(&weights(2)))]));
    // The exponents' byte is worth something, the mantissas' is not.
    assert!(
        rebuilt.blocks > rebuilt.from_blocks / 2 && rebuilt.blocks < rebuilt.from_blocks * 9 / 10,
        "{rebuilt:?}"
    );
}

#[test]
fn rounded_weights_take_half_because_their_base_is_left_out() {
    let rounded: Vec<u8> =
        weights(1).iter().flat_map(|w| [0, 0, w.to_le_bytes()[0], w.to_le_bytes()[1]]).collect();
    let mut exact = rounded.clone();
    let mut state = 1u32;
    for element in exact.as_chunks_mut::<4>().0 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        [element[0], element[1]] = [(state >> 16) as u8, (state >> 24) as u8];
    }
    let f32_version = |bytes: Vec<u8>| {
        let file = safetensors_file(&[("w".to_owned(), ("F32", SHAPE.to_vec(), bytes))]);
        Version::of(&BTreeMap::from([("model.safetensors".to_owned(), file)]))
    };
    let rebuilt = between(&f32_version(exact), &f32_version(rounded));
    assert!(rebuilt.blocks < rebuilt.from_blocks * 45 / 100, "{rebuilt:?}");
}

#[test]
fn noise_gets_no_block() {
    let mut state = 9u32;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let base = version(&[("w", SHAPE.to_vec(), bytes(&weights(1)))]);
    let rebuilt = between(&base, &version(&[("w", SHAPE.to_vec(), noise)]));
    assert_eq!(rebuilt.fetched, 1 << 20);
}
