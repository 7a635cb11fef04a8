//! Tables of tensors in ONNX and GGUF files: where chunks end, that hostile tables do no harm, and what is not one.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use nave_manifest::{Blake3, CHUNK, EMBEDDING_CHUNK, ExternalData, FileEntry, FileHasher, onnx::MIN_TENSOR};
use nave_names::RelativePath;
use proptest::prelude::*;

const LARGE: usize = MIN_TENSOR as usize;

fn path(path: &str) -> RelativePath {
    RelativePath::new(path).unwrap()
}

fn hash(name: &str, bytes: &[u8], step: usize) -> FileEntry {
    let mut hasher = FileHasher::new(path(name));
    for piece in bytes.chunks(step.max(1)) {
        hasher.update(piece);
    }
    hasher.finish()
}

fn starts(entry: &FileEntry) -> Vec<u64> {
    entry.chunks.iter().map(|chunk| chunk.offset).collect()
}

/// Bytes that no other seed has.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

// ---- protobuf by hand --------------------------------------------------------------------------------------------

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn tensor(name: &str, data: &[u8]) -> Vec<u8> {
    [number(1, data.len() as u64), number(2, 2), field(8, name.as_bytes()), field(9, data)].concat()
}

fn external(name: &str, location: &str, offset: usize, length: usize) -> Vec<u8> {
    let pair =
        |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let place = [
        pair("location", location),
        pair("offset", &offset.to_string()),
        pair("length", &length.to_string()),
    ];
    [number(1, length as u64), field(8, name.as_bytes()), place.concat(), number(14, 1)].concat()
}

fn model(initialisers: &[Vec<u8>]) -> Vec<u8> {
    let node = field(1, &[field(1, b"input"), field(4, b"Relu")].concat());
    let graph: Vec<u8> = initialisers.iter().flat_map(|tensor| field(5, tensor)).collect();
    [
        number(1, 10),
        field(2, b"pytorch"),
        field(7, &[node, graph, field(2, b"main")].concat()),
        field(8, &number(2, 17)),
    ]
    .concat()
}

/// Where `data` starts in `bytes`.
fn find(bytes: &[u8], data: &[u8]) -> u64 {
    bytes.windows(64).position(|window| window == &data[..64]).unwrap() as u64
}

#[test]
fn onnx_is_cut_where_large_tensors_start_and_end() {
    let (a, b, small) = (noise(1, CHUNK as usize + 7), noise(2, LARGE), noise(3, LARGE - 1));
    let bytes = model(&[tensor("onnx::MatMul_1", &a), tensor("bias", &small), tensor("wte", &b)]);
    let entry = hash("model.onnx", &bytes, 4_096);
    let (a, b) = (find(&bytes, &a), find(&bytes, &b));
    let expected = [0, a, a + u64::from(CHUNK), a + u64::from(CHUNK) + 7, b, b + MIN_TENSOR];
    assert_eq!(starts(&entry), expected);
}

#[test]
fn tensors_keep_their_chunks_when_their_names_change_and_the_graph_grows() {
    let (a, b) = (noise(1, 3 * LARGE), noise(2, 2 * LARGE));
    let one = hash("m.onnx", &model(&[tensor("onnx::MatMul_1", &a), tensor("embed", &b)]), 9_999);
    let renamed = [tensor("new", &noise(5, 100)), tensor("onnx::MatMul_1024", &a), tensor("embed", &b)];
    let two = hash("m.onnx", &model(&renamed), 9_999);
    for data in [a, b] {
        let hash = Blake3::of(&data);
        assert!(one.chunks.hashes().contains(&hash) && two.chunks.hashes().contains(&hash));
    }
}

#[test]
fn tensors_in_nodes_of_inner_graphs_are_found() {
    let data = noise(7, 2 * LARGE);
    let inner = field(6, &field(5, &tensor("inner", &data)));
    let node = field(1, &field(5, &inner));
    let bytes = [number(1, 10), field(7, &node)].concat();
    let at = find(&bytes, &data);
    assert_eq!(starts(&hash("m.onnx", &bytes, 1_000)), [0, at]);
}

#[test]
fn data_beside_a_model_is_cut_as_the_model_says() {
    let (a, b) = (noise(1, 100_000), noise(2, 50_000));
    let beside = [a.clone(), vec![0; 96], b.clone()].concat();
    let tensors = [
        external("a", "weights.bin", 0, a.len()),
        external("model.embed", "./weights.bin", a.len() + 96, b.len()),
        external("evil", "../../etc/passwd", 0, 10),
    ];
    let mut external = ExternalData::default();
    let onnx = path("onnx/model.onnx");
    assert!(ExternalData::refers(&onnx) && !ExternalData::refers(&path("onnx/weights.bin")));
    let mut hasher = FileHasher::new(onnx);
    hasher.update(&model(&tensors));
    hasher.finish_into(&mut external);
    let mut hasher = FileHasher::knowing(path("onnx/weights.bin"), &external);
    hasher.update(&beside);
    assert_eq!(starts(&hasher.finish()), [0, a.len() as u64, a.len() as u64 + 96]);
    // The same file elsewhere is none that the model names.
    let mut hasher = FileHasher::knowing(path("weights.bin"), &external);
    hasher.update(&beside);
    assert_eq!(starts(&hasher.finish()), [0]);
}

#[test]
fn what_is_not_onnx_is_cut_every_mebibyte_from_there() {
    let data = noise(1, 3 * CHUNK as usize);
    let good = model(&[tensor("a", &data)]);
    let at = find(&good, &data);
    // A group, a length past its message, a number of 11 bytes: none of them is ONNX.
    for junk in
        [vec![0x0b], field(7, &[0x2a, 0xff, 0xff, 0x7f]), [vec![0x08], vec![0xff; 10], vec![1]].concat()]
    {
        let bytes = [junk, data.clone()].concat();
        assert_eq!(starts(&hash("m.onnx", &bytes, 500)), [0, 1 << 20, 2 << 20, 3 << 20]);
    }
    // Cut off in the middle of a tensor.
    let torn = &good[..at as usize + 5];
    assert_eq!(starts(&hash("m.onnx", torn, 77)), [0, at]);
}

// ---- GGUF by hand ------------------------------------------------------------------------------------------------

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn list(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    [kind.to_le_bytes().to_vec(), (items.len() as u64).to_le_bytes().to_vec(), items.concat()].concat()
}

/// Keys of all kinds, these tensors at multiples of 64, and their bytes.
fn gguf(tensors: &[(&str, usize)]) -> (Vec<u8>, u64) {
    let keys = [
        key("general.alignment", 4, &64u32.to_le_bytes()),
        key("general.name", 8, &text("test")),
        key("a.bool", 7, &[1]),
        key("a.double", 12, &1.5f64.to_le_bytes()),
        key("tokenizer.ggml.tokens", 9, &list(8, &[text("a"), text(""), text("größe")])),
        key("tokenizer.ggml.scores", 9, &list(6, &[vec![0; 4], vec![1; 4]])),
        key("nothing", 9, &list(8, &[])),
    ];
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    bytes.extend(keys.concat());
    let mut offset = 0u64;
    for (name, size) in tensors {
        bytes.extend(text(name));
        bytes.extend(1u32.to_le_bytes());
        bytes.extend((*size as u64).to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset = (offset + *size as u64).next_multiple_of(64);
    }
    let data = (bytes.len() as u64).next_multiple_of(64);
    bytes.resize(data as usize, 0);
    for (number, (_, size)) in tensors.iter().enumerate() {
        bytes.extend(noise(number as u8, *size));
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    (bytes, data)
}

#[test]
fn gguf_is_cut_at_tensors_and_embeddings_finer() {
    let fine = u64::from(EMBEDDING_CHUNK);
    let (bytes, data) =
        gguf(&[("token_embd.weight", 300_000), ("blk.0.attn_q.weight", 1_000), ("output", 2_000_000)]);
    let second = data + 300_032;
    let third = second + 1_024;
    let expected = [0, data, data + fine, second, third, third + u64::from(CHUNK)];
    assert_eq!(starts(&hash("m.gguf", &bytes, 1_000)), expected);
}

#[test]
fn gguf_data_starts_where_the_alignment_that_it_names_says() {
    // Headers of all lengths, so that some end where 32, which holds unless it is named, would say something else.
    for length in 1..=64 {
        let (bytes, data) = gguf(&[(&"x".repeat(length), 2_000)]);
        assert_eq!(starts(&hash("m.gguf", &bytes, 1_000)), [0, data], "a name of {length} bytes");
    }
}

#[test]
fn gguf_tensors_may_be_listed_in_any_order() {
    let (mut bytes, data) = gguf(&[("a", 100_000), ("b", 50_000), ("c", 10)]);
    let listed = starts(&hash("m.gguf", &bytes, 1_000));
    assert_eq!(listed, [0, data, data + 100_032, data + 150_080]);
    // An entry is a name, one dimension, a type and the offset.
    let offset_of = |size: u64| {
        let entry = [&1u32.to_le_bytes()[..], &size.to_le_bytes()].concat();
        bytes.windows(entry.len()).position(|window| window == entry).unwrap() + entry.len() + 4
    };
    let (a, b) = (offset_of(100_000), offset_of(50_000));
    bytes[a..a + 8].copy_from_slice(&100_032u64.to_le_bytes());
    bytes[b..b + 8].copy_from_slice(&0u64.to_le_bytes());
    assert_eq!(starts(&hash("m.gguf", &bytes, 1_000)), listed);
}

#[test]
fn gguf_tensors_keep_their_chunks_when_the_vocabulary_grows() {
    let (one, data) = gguf(&[("a", 100_000), ("b", 50_000)]);
    let longer = [&one[..24], &one[24..data as usize], &one[data as usize..]].concat();
    let (mut two, _) = gguf(&[
        ("a.longer.name.than.before.so.that.the.header.moves.on.to.the.next.multiple", 100_000),
        ("b", 50_000),
    ]);
    assert_ne!(two.len(), longer.len());
    two.extend([1, 2, 3]);
    let (one, two) = (hash("m.gguf", &one, 333), hash("m.gguf", &two, 333));
    assert!(two.chunks.hashes().contains(&one.chunks.hashes()[1]), "tensor a is known");
}

#[test]
fn what_only_looks_like_gguf_is_cut_every_mebibyte() {
    let (good, data) = gguf(&[("a", 100_000), ("b", 2_000_000)]);
    assert_eq!(starts(&hash("m.gguf", &good, 1_000))[1], data);
    let broken = |at: usize, bytes: &[u8]| {
        let mut broken = good.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        broken
    };
    let position = |what: &[u8]| good.windows(what.len()).position(|window| window == what).unwrap();
    let offset_of_b = position(&100_032u64.to_le_bytes());
    let cases = [
        ("magic", broken(0, b"GGML")),
        ("version", broken(4, &1u32.to_le_bytes())),
        ("big-endian", broken(4, &3u32.to_be_bytes())),
        ("tensors", broken(8, &u64::MAX.to_le_bytes())),
        ("no tensors", broken(8, &0u64.to_le_bytes())),
        ("keys", broken(16, &u64::MAX.to_le_bytes())),
        ("name", broken(24, &u64::MAX.to_le_bytes())),
        ("alignment 0", broken(24 + 8 + 17 + 4, &0u32.to_le_bytes())),
        ("alignment 48", broken(24 + 8 + 17 + 4, &48u32.to_le_bytes())),
        ("kind", broken(24 + 8 + 17, &99u32.to_le_bytes())),
        ("unaligned", broken(offset_of_b, &100_033u64.to_le_bytes())),
        ("overflow", broken(offset_of_b, &(u64::MAX - 63).to_le_bytes())),
    ];
    for (what, bytes) in cases {
        assert_eq!(starts(&hash("m.gguf", &bytes, 1_000)), [0, 1 << 20, 2 << 20], "{what}");
    }
    // Two tensors at one place are one; a torn header leaves one chunk.
    let one = hash("m.gguf", &broken(offset_of_b, &0u64.to_le_bytes()), 1_000);
    assert_eq!(starts(&one), [0, data, data + (1 << 20), data + (2 << 20)]);
    assert_eq!(starts(&hash("m.gguf", &good[..data as usize - 70], 9)), [0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn how_the_bytes_come_does_not_matter(
        sizes in prop::collection::vec(0usize..200_000, 1..5), step in 1usize..100_000, cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(), bit in 0u8..9,
    ) {
        let names = ["wte.a", "token_embd", "c", "d"];
        let tensors: Vec<_> = sizes.iter().zip(names).map(|(&size, name)| tensor(name, &noise(size as u8, size))).collect();
        let pairs: Vec<_> = sizes.iter().zip(names).map(|(&size, name)| (name, size)).collect();
        for (name, mut bytes) in [("m.onnx", model(&tensors)), ("m.gguf", gguf(&pairs).0)] {
            // Whole, torn, or with one bit of its first kilobyte turned over.
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
            if bit < 8 {
                let at = flip.index(bytes.len().min(1_024));
                bytes[at] ^= 1 << bit;
            }
            prop_assert_eq!(hash(name, &bytes, usize::MAX), hash(name, &bytes, step));
        }
    }

    #[test]
    fn any_bytes_are_a_file(bytes in prop::collection::vec(any::<u8>(), 0..3_000), step in 1usize..100, good in 0usize..60) {
        for (name, whole) in [("m.onnx", model(&[tensor("a", &[1; 40])])), ("m.gguf", gguf(&[("a", 40)]).0)] {
            let bytes = [&whole[..good.min(whole.len())], &bytes[..]].concat();
            prop_assert_eq!(hash(name, &bytes, usize::MAX), hash(name, &bytes, step));
        }
    }
}
