//! `bundle.json` as an attacker, a broken tool or a torn copy could leave it: each is refused, by name. And what a bundle
//! has to carry, against what the site has.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::collections::{BTreeMap, HashSet};

use nave_bundle::{
    Base, Bundle, Contents, Had, MAX_BUNDLE_BYTES, Part, Place, Runs, Source, Version, part_name,
};
use nave_manifest::{CHUNK, FileHasher, Manifest};
use nave_names::{Digest, Generation, RelativePath};

const MIB: usize = CHUNK as usize;

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).unwrap()
}

fn manifest(files: &[(&str, Vec<u8>)]) -> Manifest {
    let entry = |(name, bytes): &(&str, Vec<u8>)| {
        let mut hasher = FileHasher::new(path(name));
        hasher.update(bytes);
        hasher.finish()
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}

/// Chunks that are all different.
fn bytes(seed: u8, chunks: usize) -> Vec<u8> {
    (0..chunks * MIB).map(|at| seed.wrapping_add((at / MIB) as u8)).collect()
}

fn version(manifest: &Manifest, base: Option<Base>, chunks: BTreeMap<RelativePath, Runs>) -> Version {
    let length = |(path, runs): (&RelativePath, &Runs)| {
        let all: Vec<_> = manifest.file(path).unwrap().chunks.iter().collect();
        let run = |(first, last)| {
            all[first as usize..=last as usize].iter().map(|c| u64::from(c.length)).sum::<u64>()
        };
        runs.iter().map(run).sum::<u64>()
    };
    let contents = Contents {
        manifest_bytes: manifest.to_canonical_bytes().len() as u64,
        chunk_bytes: chunks.iter().map(length).sum(),
        chunks,
        ..Contents::default()
    };
    Version {
        namespace: "vision".parse().unwrap(),
        model: "vit".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        manifest_digest: manifest.digest(),
        size_bytes: manifest.total_size(),
        base,
        contents,
    }
}

fn bundle(versions: Vec<Version>) -> Bundle {
    let total = |c: &Contents| c.manifest_bytes + c.signature_bytes + c.delta_bytes + c.chunk_bytes;
    let size = versions.iter().map(|version| total(&version.contents)).sum();
    Bundle {
        source: Source::Model { namespace: "vision".parse().unwrap(), name: "vit".parse().unwrap() },
        generation: Generation(7),
        created_at: "2026-11-25T20:00:00Z".to_owned(),
        created_by: "a test".to_owned(),
        parts: vec![Part { name: part_name(1), size, sha256: Digest::of(b"part") }],
        versions,
    }
}

fn good() -> Bundle {
    let one = manifest(&[("a.bin", bytes(0, 2)), ("b.txt", b"text".to_vec())]);
    let chunks = Had::default().lacks(&one, &HashSet::new());
    bundle(vec![version(&one, None, chunks)])
}

fn refusal(text: &str) -> &'static str {
    Bundle::parse(text.as_bytes()).unwrap_err().name()
}

#[test]
fn what_is_written_is_read() {
    let good = good();
    assert_eq!(Bundle::parse(&good.to_bytes()).unwrap(), good);
    let text = String::from_utf8(good.to_bytes()).unwrap();
    assert!(text.contains(r#""a.bin": "0-1""#) && text.contains(r#""b.txt": "0""#), "{text}");
}

#[test]
fn other_text_than_the_one_that_is_written_is_refused_by_name() {
    let text = String::from_utf8(good().to_bytes()).unwrap();
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        refusal(&text.replacen(from, to, 1))
    };
    assert_eq!(refusal(""), "BundleMalformed");
    assert_eq!(refusal("[]"), "BundleMalformed");
    assert_eq!(refusal(&text[..text.len() / 2]), "BundleMalformed");
    assert_eq!(change("bundle/v1", "bundle/v2"), "UnknownBundleFormat");
    assert_eq!(change("\"generation\": 7", "\"generation\": 7,\"x\":1"), "BundleMalformed");
    assert_eq!(change("\"generation\": 7", "\"generation\": -7"), "BundleMalformed");
    assert_eq!(change("\"generation\": 7", "\"generation\": 0"), "BundleInconsistent");
    assert_eq!(change("\"generation\": 7", "\"generation\": 9007199254740992"), "BundleInconsistent");
    assert_eq!(change("\"generation\": 7", "\"generation\":  7"), "BundleNotCanonical");
    assert_eq!(change("\"kind\": \"Model\"", "\"kind\": \"Model\", \"hidden\": 1"), "BundleNotCanonical");
    assert_eq!(change("\"a test\"", "\"a\\u0007test\""), "BundleInconsistent");
    assert_eq!(change("\"model\": \"vit\"", "\"model\": \"../vit\""), "BundleMalformed");
    assert_eq!(change("\"0-1\"", "\"0,1\""), "BundleMalformed");
    assert_eq!(change("\"0-1\"", "\"1-0\""), "BundleMalformed");
    assert_eq!(
        change("\"a.bin\": \"0-1\",", "\"a.bin\": \"0-1\", \"a.bin\": \"0-1\","),
        "BundleNotCanonical"
    );
    for escape in ["../a.bin", "/a.bin", "a//b", "a\\\\b", ".", "a/../b"] {
        assert_eq!(change("a.bin", escape), "BundleMalformed", "{escape}");
    }
    let huge = " ".repeat(MAX_BUNDLE_BYTES + 1);
    assert_eq!(refusal(&huge), "BundleTooLarge");
}

#[test]
fn a_part_has_the_one_name_that_it_may_have() {
    for name in [
        "../part-00001.nave",
        "/etc/passwd",
        ".part-00001.nave",
        "part-00002.nave",
        "part-1.nave",
        "part-00001.nave/x",
        "PART-00001.NAVE",
        "part-00001.nave ",
        "bundle.json",
        "",
    ] {
        let mut bad = good();
        bad.parts[0].name = name.to_owned();
        let error = bad.check().unwrap_err();
        assert_eq!(error.name(), "BadPartName", "{name}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        assert_eq!(Bundle::parse(&bad.to_bytes()).unwrap_err().name(), "BadPartName");
    }
}

#[test]
fn sizes_that_lie_are_refused_by_name() {
    let check = |change: &dyn Fn(&mut Bundle)| {
        let mut bad = good();
        change(&mut bad);
        let error = Bundle::parse(&bad.to_bytes()).unwrap_err();
        assert_eq!(error.name(), "BundleInconsistent", "{error}");
    };
    check(&|b| b.parts[0].size += 1);
    check(&|b| b.parts[0].size = 0);
    check(&|b| b.parts[0].size = u64::MAX);
    check(&|b| b.parts.clear());
    check(&|b| b.versions.clear());
    check(&|b| b.versions.push(b.versions[0].clone()));
    check(&|b| b.versions[0].contents.chunk_bytes = u64::MAX);
    check(&|b| b.versions[0].contents.chunk_bytes = 0);
    check(&|b| b.versions[0].contents.manifest_bytes = 0);
    check(&|b| b.versions[0].contents.manifest_bytes = 65 << 20);
    check(&|b| b.versions[0].contents.signature_bytes = 1);
    check(&|b| b.versions[0].contents.signature_digest = Some(Digest::of(b"")));
    check(&|b| b.versions[0].contents.delta_bytes = 1);
    check(&|b| b.versions[0].contents.delta_index_bytes = 1);
    check(&|b| {
        let manifest_digest = b.versions[0].manifest_digest;
        b.versions[0].base = Some(Base { version: "0".parse().unwrap(), manifest_digest });
    });
}

#[test]
fn chunks_that_the_manifest_does_not_have_are_refused_by_name() {
    let one = manifest(&[("a.bin", bytes(0, 3)), ("b.bin", bytes(9, 1))]);
    let places = |named: &[(&str, &str)], chunk_bytes: u64| {
        let chunks = named.iter().map(|(name, runs)| (path(name), runs.parse().unwrap())).collect();
        let mut version = version(&one, None, BTreeMap::new());
        version.contents.chunks = chunks;
        version.contents.chunk_bytes = chunk_bytes;
        version.places(&one, 100).map_err(|error| error.name())
    };
    let mib = MIB as u64;
    let place =
        |file, first, last, begins, length, offset| Place { file, first, last, begins, length, offset };
    assert_eq!(
        places(&[("a.bin", "0,2"), ("b.bin", "0")], 3 * mib),
        Ok(vec![
            place(0, 0, 0, 0, mib, 100),
            place(0, 2, 2, 2 * mib, mib, 100 + mib),
            place(1, 0, 0, 0, mib, 100 + 2 * mib),
        ])
    );
    assert_eq!(places(&[("a.bin", "0-3")], 4 * mib), Err("UnknownChunks"));
    assert_eq!(places(&[("a.bin", "0-4294967295")], 4 * mib), Err("UnknownChunks"));
    assert_eq!(places(&[("c.bin", "0")], mib), Err("UnknownChunks"));
    assert_eq!(places(&[("a.bin", "0-2")], 2 * mib), Err("BundleInconsistent"));
}

#[test]
fn what_the_site_has_is_not_carried() {
    let base = manifest(&[("a.bin", bytes(0, 4)), ("same.txt", b"same".to_vec())]);
    let mut changed = bytes(0, 4);
    changed[2 * MIB] ^= 0xff;
    let target = manifest(&[
        ("a.bin", changed.clone()),
        ("copy.bin", changed),
        ("empty", Vec::new()),
        ("renamed.txt", b"same".to_vec()),
    ]);
    let lacks = |had: &Had, rebuilt: &HashSet<(usize, usize)>| {
        let lacks = had.lacks(&target, rebuilt).into_iter();
        lacks.map(|(path, runs)| format!("{path} {runs}")).collect::<Vec<_>>()
    };
    let mut had = Had::default();
    assert_eq!(lacks(&had, &HashSet::new()), ["a.bin 0-3", "renamed.txt 0"]);
    had.add(&base);
    assert_eq!(lacks(&had, &HashSet::new()), ["a.bin 2"]);
    assert_eq!(lacks(&had, &HashSet::from([(0, 2)])), [""; 0]);
}
