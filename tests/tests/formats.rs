//! Tables of tensors in real files: the vision model's ONNX and SmolLM2's GGUF. What an update costs with chunks at
//! tensors against chunks at file offsets, in numbers (`--no-capture` shows them); and that the published JSON schema takes
//! the manifests of these files.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

use std::{collections::HashSet, fs};

use nave_manifest::{
    Blake3, FileEntry, FileHasher, Manifest,
    gguf::{HeaderReader, Progress},
    onnx::Walker,
};
use nave_names::RelativePath;
use nave_tests::Tools;

/// Initialisers of 64 KiB and more that the protobuf holds; counted by tests/model.py's reader.
const ONNX_TENSORS: usize = 77;
/// Tensors of SmolLM2-135M: 30 layers of 9, the embeddings and the last norm.
const GGUF_TENSORS: usize = 272;

fn hash(path: &str, bytes: &[u8]) -> FileEntry {
    let mut hasher = FileHasher::new(RelativePath::new(path).unwrap());
    hasher.update(bytes);
    hasher.finish()
}

/// Where the walker sees large tensors start and end.
fn onnx_tensors(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut walker = Walker::default();
    let (mut at, mut borders) = (0, Vec::new());
    while at < bytes.len() {
        let until = usize::try_from(walker.horizon()).unwrap().min(bytes.len());
        walker.read(&bytes[at..until]);
        at = until;
        assert!(!walker.is_broken(), "at {at}");
        if walker.take_border() {
            borders.push(at);
        }
    }
    borders.as_chunks::<2>().0.iter().map(|[start, end]| (*start, *end)).collect()
}

fn gguf_tensors(bytes: &[u8]) -> Vec<(usize, usize)> {
    let Progress::Whole(layout) = HeaderReader::default().read(bytes) else { panic!("no GGUF header") };
    let data = usize::try_from(layout.data).unwrap();
    let starts: Vec<_> =
        layout.tensors.iter().map(|tensor| data + usize::try_from(tensor.offset).unwrap()).collect();
    let ends = starts[1..].iter().copied().chain([bytes.len()]);
    starts.iter().copied().zip(ends).collect()
}

/// What a spoke that holds `one` has to fetch of `two`, in percent of `two`.
fn to_fetch(one: &FileEntry, two: &FileEntry) -> f64 {
    let held: HashSet<Blake3> = one.chunks.hashes().iter().copied().collect();
    let missing = two.chunks.iter().filter(|chunk| !held.contains(&chunk.blake3));
    100.0 * missing.map(|chunk| f64::from(chunk.length)).sum::<f64>() / two.size as f64
}

/// (chunks at tensors, chunks at file offsets) for an update of the file.
fn compare(name: &str, what: &str, one: &[u8], two: &[u8]) -> (f64, f64) {
    let at_tensors = to_fetch(&hash(name, one), &hash(name, two));
    let at_offsets = to_fetch(&hash("general.bin", one), &hash("general.bin", two));
    eprintln!("{name}, {what}: {at_tensors:.2}% at tensors, {at_offsets:.2}% at file offsets");
    (at_tensors, at_offsets)
}

/// Every tenth tensor with each of its bytes changed.
fn tune(bytes: &[u8], tensors: &[(usize, usize)]) -> Vec<u8> {
    let mut tuned = bytes.to_vec();
    for &(start, end) in tensors.iter().step_by(10) {
        tuned[start..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    tuned
}

#[test]
fn an_update_of_a_real_onnx_model_fetches_the_tensors_that_changed() {
    let folder = Tools::load().unwrap().fetched("model-v1").unwrap();
    let one = fs::read(folder.join("model.onnx")).unwrap();
    let tensors = onnx_tensors(&one);
    assert_eq!(tensors.len(), ONNX_TENSORS);
    let starts: HashSet<_> = hash("model.onnx", &one).chunks.iter().map(|chunk| chunk.offset).collect();
    assert!(
        tensors
            .iter()
            .all(|(start, end)| starts.contains(&(*start as u64)) && starts.contains(&(*end as u64)))
    );

    // A field of 100 bytes before everything else: producer_name, as another exporter would write it.
    let longer = [&[0x12, 98][..], &[b'x'; 98], &one].concat();
    let (at_tensors, at_offsets) = compare("model.onnx", "100 bytes longer before the graph", &one, &longer);
    assert!(at_tensors < 1.0 && at_offsets > 99.0);
    let tuned = tune(&one, &tensors);
    let changed: usize = tensors.iter().step_by(10).map(|(start, end)| end - start).sum();
    let least = 100.0 * changed as f64 / one.len() as f64;
    let (at_tensors, at_offsets) = compare("model.onnx", "every tenth tensor changed", &one, &tuned);
    assert!(at_tensors < least + 0.1 && at_offsets > at_tensors, "{least}% changed");
    let both = [&[0x12, 98][..], &[b'x'; 98], &tuned].concat();
    let (at_tensors, at_offsets) = compare("model.onnx", "both", &one, &both);
    assert!(at_tensors < least + 1.0 && at_offsets > 99.0);
}

#[test]
fn an_update_of_a_real_gguf_model_fetches_the_tensors_that_changed() {
    let one = fs::read(Tools::load().unwrap().fetched("gguf").unwrap()).unwrap();
    let tensors = gguf_tensors(&one);
    assert_eq!(tensors.len(), GGUF_TENSORS);
    let starts: HashSet<_> = hash("model.gguf", &one).chunks.iter().map(|chunk| chunk.offset).collect();
    assert!(tensors.iter().all(|(start, _)| starts.contains(&(*start as u64))));

    // One key more, and zeros up to the next multiple of 32, as a tool that edits metadata writes it.
    let longer = with_key(&one, tensors[0].0);
    assert_eq!(gguf_tensors(&longer).len(), GGUF_TENSORS);
    let (at_tensors, at_offsets) = compare("model.gguf", "one key more in the header", &one, &longer);
    let header = 100.0 * tensors[0].0 as f64 / one.len() as f64;
    assert!(at_tensors < header + 0.1 && at_offsets > 90.0, "{header}% is header");
    let tuned = tune(&one, &tensors);
    let changed: usize = tensors.iter().step_by(10).map(|(start, end)| end - start).sum();
    let least = 100.0 * changed as f64 / one.len() as f64;
    let (at_tensors, at_offsets) = compare("model.gguf", "every tenth tensor changed", &one, &tuned);
    assert!(at_tensors < least + 0.1 && at_offsets > at_tensors, "{least}% changed");
}

fn with_key(bytes: &[u8], data: usize) -> Vec<u8> {
    let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    let name = b"general.comment";
    let mut longer = [&bytes[..16], &(keys + 1).to_le_bytes()].concat();
    longer.extend((name.len() as u64).to_le_bytes());
    longer.extend(name);
    longer.extend(8u32.to_le_bytes());
    longer.extend(61u64.to_le_bytes());
    longer.extend([b'x'; 61]);
    let added = longer.len() - 24;
    longer.extend(&bytes[24..data]);
    // 8 + 15 + 4 + 8 + 61 = 96: the padding stays as it is.
    assert_eq!(added % 32, 0);
    longer.extend(&bytes[data..]);
    longer
}

#[test]
fn the_published_schema_takes_real_manifests_and_refuses_others() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let schema = fs::read_to_string(root.join("docs/manifest.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let tools = Tools::load().unwrap();
    let folder = tools.fetched("model-v1").unwrap();
    let files = [
        hash("model.onnx", &fs::read(folder.join("model.onnx")).unwrap()),
        hash("preprocessing.json", &fs::read(folder.join("preprocessing.json")).unwrap()),
        hash("lm/größe 1/model.gguf", &fs::read(tools.fetched("gguf").unwrap()).unwrap()),
        hash("empty", b""),
    ];
    let manifest = Manifest::new(files.to_vec()).unwrap().to_canonical_bytes();
    let good: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    validator.validate(&good).unwrap();
    for (pointer, bad) in [
        ("/format", serde_json::json!("nave.dev/manifest/v2")),
        ("/files", serde_json::json!([])),
        ("/files/0/path", serde_json::json!("../escape")),
        ("/files/0/path", serde_json::json!("/absolute")),
        ("/files/0/path", serde_json::json!("a//b")),
        ("/files/0/size", serde_json::json!(-1)),
        ("/files/0/size", serde_json::json!(9_007_199_254_740_992_u64)),
        ("/files/0/sha256", serde_json::json!("AB")),
        ("/files/2/chunks/lengths/0/0", serde_json::json!(0)),
        ("/files/2/chunks/lengths/0/0", serde_json::json!(16_777_217)),
        ("/files/2/chunks/blake3", serde_json::json!("!")),
        ("/files/2/chunks", serde_json::json!({"lengths": [], "blake3": "", "more": 1})),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = bad;
        assert!(!validator.is_valid(&changed), "{pointer}");
    }
}
