//! Where chunks end, and that it does not depend on how the bytes come.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use nave_manifest::{Blake3, CHUNK, EMBEDDING_CHUNK, FileEntry, FileHasher, Manifest};
use nave_names::{Digest, RelativePath};
use proptest::prelude::*;

const MIB: usize = CHUNK as usize;

fn hash(path: &str, bytes: &[u8], step: usize) -> FileEntry {
    let mut hasher = FileHasher::new(RelativePath::new(path).unwrap());
    for piece in bytes.chunks(step.max(1)) {
        hasher.update(piece);
    }
    hasher.finish()
}

fn lengths(entry: &FileEntry) -> Vec<u32> {
    entry.chunks.iter().map(|chunk| chunk.length).collect()
}

/// A safetensors file with these tensors, one byte an element.
fn safetensors(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let fields = tensors.iter().map(|(name, size)| {
        let begin = at;
        at += size;
        format!(r#""{name}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{begin},{at}]}}"#)
    });
    let header = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    for (number, (_, size)) in tensors.iter().enumerate() {
        bytes.extend((0..*size).map(|i| (i * 7 + number * 13 + i / 251) as u8));
    }
    bytes
}

#[test]
fn opaque_files_are_cut_every_mebibyte() {
    let bytes = vec![3; 2 * MIB + 5];
    let entry = hash("model.onnx", &bytes, 1_000);
    assert_eq!(lengths(&entry), [CHUNK, CHUNK, 5]);
    assert_eq!(entry.sha256, Digest::of(&bytes));
    assert_eq!(entry.blake3, Blake3::of(&bytes));
    assert!(entry.chunks.iter().all(|c| c.blake3 == Blake3::of(&bytes[c.offset as usize..c.end() as usize])));
}

#[test]
fn safetensors_are_cut_at_tensors_and_embeddings_finer() {
    let bytes =
        safetensors(&[("model.embed_tokens.weight", 600_000), ("layer.weight", MIB + 7), ("bias", 12)]);
    let header = (bytes.len() - 600_000 - MIB - 19) as u32;
    let fine = EMBEDDING_CHUNK;
    let expected = [header, fine, fine, 600_000 - 2 * fine, CHUNK, 7, 12];
    assert_eq!(lengths(&hash("m.safetensors", &bytes, 4_096)), expected);
}

#[test]
fn tensors_keep_their_chunks_when_they_move() {
    let one = hash("m.safetensors", &safetensors(&[("a", 3 * MIB), ("b", 100)]), MIB);
    let two = hash("m.safetensors", &safetensors(&[("a", 3 * MIB), ("b", 100), ("new_tensor", 9)]), MIB);
    let known: Vec<_> = one.chunks.hashes().iter().skip(1).collect();
    assert!(known.iter().all(|hash| two.chunks.hashes().contains(hash)), "only the header's chunk changes");
}

#[test]
fn what_only_looks_like_safetensors_is_opaque() {
    let good = safetensors(&[("a", MIB), ("b", 100)]);
    let mut lying = good.clone();
    lying[0] = 0xff;
    lying[7] = 0xff;
    let overlapping = String::from_utf8_lossy(&good[8..]).replace("[1048576,", "[1048575,").into_bytes();
    let mut overlapping_file = good[..8].to_vec();
    overlapping_file.extend(overlapping.iter().take(good.len() - 8));
    for bytes in [lying, overlapping_file] {
        let entry = hash("m.safetensors", &bytes, 10_000);
        assert_eq!(lengths(&entry)[0], CHUNK);
    }
    // Cut off in the header, in the length, or with bytes after the last tensor.
    assert_eq!(lengths(&hash("m.safetensors", &good[..50], 7)), [50]);
    assert_eq!(lengths(&hash("m.safetensors", &good[..5], 2)), [5]);
    let mut longer = good.clone();
    longer.extend(vec![1; 20]);
    assert_eq!(lengths(&hash("m.safetensors", &longer, 9)).last(), Some(&20));
}

#[test]
fn an_8_gib_files_manifest_is_compact() {
    let bytes = vec![0; MIB];
    let hash_of_chunk = hash("x", &bytes, MIB).chunks.hashes()[0];
    assert_eq!(hash_of_chunk, Blake3::of(&bytes));
    let entry = hash("model.bin", &vec![5; 64 * MIB], MIB);
    let size = Manifest::new(vec![entry]).unwrap().to_canonical_bytes().len();
    assert!(size < 64 * 43 + 300, "{size} bytes for 64 chunks");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn how_the_bytes_come_does_not_matter(
        sizes in prop::collection::vec(0usize..700_000, 1..6), step in 1usize..300_000, embedding in any::<bool>(),
    ) {
        let names = ["wte.a", "b", "c", "d", "lm_head", "f"];
        let tensors: Vec<_> =
            sizes.iter().zip(names).map(|(&size, name)| (if embedding { name } else { &name[..1] }, size)).collect();
        let bytes = safetensors(&tensors);
        let whole = hash("m.safetensors", &bytes, usize::MAX);
        prop_assert_eq!(&whole, &hash("m.safetensors", &bytes, step));
        let manifest = Manifest::new(vec![whole]).unwrap();
        prop_assert_eq!(&Manifest::parse(&manifest.to_canonical_bytes()).unwrap(), &manifest);
    }

    #[test]
    fn any_bytes_are_a_file(bytes in prop::collection::vec(any::<u8>(), 0..5_000), step in 1usize..100) {
        let entry = hash("m.safetensors", &bytes, step);
        prop_assert_eq!(entry.sha256, Digest::of(&bytes));
        prop_assert!(Manifest::new(vec![entry]).is_ok());
    }

    #[test]
    fn any_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
        prop_assert!(Manifest::parse(&bytes).is_err());
        let good = Manifest::new(vec![hash("a", &bytes, 9)]).unwrap();
        let mut text = good.to_canonical_bytes();
        let at = at % text.len();
        bytes.push(1);
        text[at] ^= bytes[0] | 1;
        // Whatever a change of one byte leaves is either refused or another version, never this one.
        if let Ok(other) = Manifest::parse(&text) {
            prop_assert_ne!(other.digest(), good.digest());
        }
    }
}
