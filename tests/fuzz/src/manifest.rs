//! The manifest: what is read is canonical, and its chunks tile its files.

use nave_manifest::{CHUNK, FileHasher, Manifest};
use nave_names::{Digest, RelativePath};

use crate::noise;

/// `nave_manifest::Manifest::parse`.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes) else { return false };
    assert_eq!(manifest.to_canonical_bytes(), bytes, "only one text is a manifest's");
    assert_eq!(manifest.digest(), Digest::of(bytes));
    for file in manifest.files() {
        let end = file.chunks.iter().fold(0, |end, chunk| {
            assert_eq!(chunk.offset, end, "{}: no gap and no overlap", file.path);
            chunk.end()
        });
        assert_eq!(end, file.size, "{}: chunks cover the file", file.path);
        assert!(file.path.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", file.path);
    }
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let large = noise(1, CHUNK as usize * 2 + 5);
    let one = of(&[("model.safetensors", &large[..100])]);
    let three = of(&[("config.json", b"{}"), ("onnx/model.onnx", &large), ("empty", b"")]);
    [one, three].iter().map(Manifest::to_canonical_bytes).collect()
}

/// The manifest of these files.
pub(crate) fn of(files: &[(&str, &[u8])]) -> Manifest {
    let entry = |(path, bytes): &(&str, &[u8])| {
        let mut hasher = FileHasher::new(RelativePath::new(*path).unwrap());
        hasher.update(bytes);
        hasher.finish()
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}
