//! `bundle.json`: only one text is a bundle's, its parts have the names that they may have, and its sizes add up.

use std::collections::HashSet;

use nave_bundle::{Bundle, Contents, Had, Part, Source, Version, part_name};
use nave_names::{Digest, Generation};

use crate::{manifest::of, noise};

/// `nave_bundle::Bundle::parse`.
pub fn bundle(bytes: &[u8]) -> bool {
    let Ok(bundle) = Bundle::parse(bytes) else { return false };
    assert_eq!(bundle.to_bytes(), bytes, "only one text is a bundle's");
    for (number, part) in bundle.parts.iter().enumerate() {
        assert_eq!(part.name, part_name(number + 1));
    }
    let carried = |contents: &Contents| {
        let Contents { manifest_bytes, signature_bytes, delta_bytes, chunk_bytes, .. } = contents;
        [manifest_bytes, signature_bytes, delta_bytes, chunk_bytes]
            .into_iter()
            .map(|bytes| u128::from(*bytes))
            .sum::<u128>()
    };
    let carried: u128 = bundle.versions.iter().map(|version| carried(&version.contents)).sum();
    let parts: u128 = bundle.parts.iter().map(|part| u128::from(part.size)).sum();
    assert_eq!(carried, parts, "parts hold what the versions say, and nothing else");
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let large = noise(1, 3 << 20);
    let files: [&[(&str, &[u8])]; 2] = [&[("a.bin", &large), ("b.txt", b"text")], &[("a.bin", &large[..9])]];
    let versions: Vec<_> = files.into_iter().zip(["1.0.0", "2.0.0"]).map(version).collect();
    [&versions[..1], &versions[..]].map(whole).to_vec()
}

fn version((files, number): (&[(&str, &[u8])], &str)) -> Version {
    let manifest = of(files);
    let contents = Contents {
        manifest_bytes: manifest.to_canonical_bytes().len() as u64,
        chunk_bytes: manifest.total_size(),
        chunks: Had::default().lacks(&manifest, &HashSet::new()),
        ..Contents::default()
    };
    Version {
        namespace: "vision".parse().unwrap(),
        model: "vit".parse().unwrap(),
        version: number.parse().unwrap(),
        manifest_digest: manifest.digest(),
        size_bytes: manifest.total_size(),
        base: None,
        contents,
    }
}

fn whole(versions: &[Version]) -> Vec<u8> {
    let size = versions.iter().map(|one| one.contents.manifest_bytes + one.contents.chunk_bytes).sum();
    let bundle = Bundle {
        source: Source::Model { namespace: "vision".parse().unwrap(), name: "vit".parse().unwrap() },
        generation: Generation(7),
        created_at: "2026-11-25T20:00:00Z".to_owned(),
        created_by: "a seed".to_owned(),
        parts: vec![Part { name: part_name(1), size, sha256: Digest::of(b"part") }],
        versions: versions.to_vec(),
    };
    bundle.to_bytes()
}
