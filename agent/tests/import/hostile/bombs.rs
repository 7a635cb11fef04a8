//! What is small to carry and would be large to take in.

use std::fs;

use base64::Engine as _;
use nave_bundle::Bundle;
use nave_delta::Block;
use nave_manifest::FORMAT_V1;

use super::{Case, Kind, World, contents::sparse, delta::Forged, names::manifest};
use crate::maker::{Load, MIB, Maker};

const KIND: Kind = Kind::Bomb;
/// The most bytes that one block of a zstd frame may become.
const MOST: u32 = 128 << 10;
/// More than any of them may take beside what the test itself has.
const ROOM: u64 = 48 << 20;

/// A zstd frame by hand: a window or none, what it says that it becomes, and runs of zeros.
fn frame(window: Option<u8>, says: Option<u32>, runs: &[u32]) -> Vec<u8> {
    let descriptor = u8::from(says.is_some()) << 7 | u8::from(window.is_none()) << 5;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    frame.extend(window);
    frame.extend(says.iter().flat_map(|says| says.to_le_bytes()));
    for (at, run) in runs.iter().enumerate() {
        let header = u32::from(at + 1 == runs.len()) | 1 << 1 | run << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A delta whose first block is this in the place of one that becomes 1 MiB.
fn block(named: &'static str, bytes: Vec<u8>) -> Case {
    Case::new(KIND, "BadBlock", named, move |world, to| {
        let change = |at, block: Block| if at == 0 { Block { bytes: bytes.clone(), ..block } } else { block };
        Forged::new(world, change).write(world, to, |_| {});
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = blocks();
    cases.extend(claims());
    cases.extend(files());
    cases
}

fn blocks() -> Vec<Case> {
    let says = Some(MIB as u32);
    let good = frame(None, says, &[MOST; 8]);
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &6_u32.to_le_bytes(), b"hidden"].concat();
    vec![
        block("says that it becomes 268435456", frame(None, Some(256 << 20), &[MOST; 2048])),
        block("says that it becomes 4294967295", frame(None, Some(u32::MAX), &[MOST; 32_768])),
        block("says that it becomes 1048575", frame(None, Some(MIB as u32 - 1), &[MOST; 8])),
        block("does not say how long", frame(Some(10 << 3), None, &[MOST; 100_000])),
        // It says the right length, and would become 32 GiB.
        block("chunk 0 of model.bin", frame(None, says, &[MOST; 250_000])),
        block("chunk 0 of model.bin", frame(None, says, &[MOST; 7])),
        block("a window of 2147483648 bytes", frame(Some(21 << 3), says, &[MOST; 8])),
        block("skippable frame", [skippable.clone(), good.clone()].concat()),
        block("bytes follow its frame", [good.clone(), skippable].concat()),
        block("bytes follow its frame", good.repeat(1_000)),
        block("no zstd frame", vec![0; 500_000]),
        block("cut off", good[..good.len() - 1].to_vec()),
    ]
}

/// Few bytes that name many.
fn claims() -> Vec<Case> {
    let chunks = |runs: &'static str| {
        Case::lie(KIND, "UnknownChunks", "model.bin", move |b: &mut Bundle| {
            b.versions[0].contents.chunks = [("model.bin".parse().unwrap(), runs.parse().unwrap())].into();
        })
    };
    let deep = "[".repeat(1 << 16);
    vec![
        chunks("0-4294967295"),
        chunks("0-1,4294967295"),
        manifest(KIND, "ChunkCount", "", "[[1048576,1],", "[[1,4294967295],[2,4294967295],[1048576,1],"),
        manifest(KIND, "ChunkTooLarge", "", "[[1048576,1],", "[[4294967295,1],"),
        manifest(KIND, "Malformed", "malformed", r#""files":["#, format!(r#""files":[{deep}"#)),
        Case::text(
            KIND,
            "BundleMalformed",
            "malformed",
            r#""versions": ["#,
            format!(r#""versions": [{deep}"#),
        ),
        Case::lie(KIND, "BundleInconsistent", "10001 parts", |b| b.parts = vec![b.parts[0].clone(); 10_001]),
        Case::lie(KIND, "BundleInconsistent", "65 versions", |b| {
            b.versions = vec![b.versions[0].clone(); 65];
        }),
        Case::new(KIND, "DiskFull", "bytes are needed", a_terabyte),
    ]
}

/// A manifest of 3 MB names a file of 1 TiB, and a part that takes no room on its disk holds that.
fn a_terabyte(world: &World, to: &std::path::Path) {
    let (chunk, count) = (16_u64 << 20, 1_usize << 16);
    let size = chunk * count as u64;
    let hash = "7".repeat(64);
    let hashes = base64::engine::general_purpose::STANDARD.encode(vec![7; 32 * count]);
    let text = format!(
        r#"{{"format":"{FORMAT_V1}","files":[{{"path":"huge.bin","size":{size},"sha256":"{hash}","blake3":"{hash}","chunks":{{"lengths":[[{chunk},{count}]],"blake3":"{hashes}"}}}}]}}"#
    );
    let mut load = Load::of(&world.target, None, Default::default());
    (load.manifest, load.size) = (text.into_bytes(), size);
    let mut last = (String::new(), 0);
    Maker::new(5).load(load).write(to, &world.site.key, |b| {
        let contents = &mut b.versions[0].contents;
        contents.chunks = [("huge.bin".parse().unwrap(), "0-65535".parse().unwrap())].into();
        contents.chunk_bytes = size;
        let part = b.parts.last_mut().unwrap();
        part.size += size;
        last = (part.name.clone(), part.size);
    });
    sparse(&to.join(last.0), last.1);
}

/// Files that are larger than any that are right, and take no room on their disk.
fn files() -> Vec<Case> {
    ["bundle.json", "model.sig", "README.txt"]
        .map(|name| {
            Case::after(KIND, "BundleContradictsItself", name, move |folder| {
                sparse(&folder.join(name), 1 << 40);
            })
        })
        .into()
}

/// The most that is resident while each of them is refused, beside what was before.
#[test]
fn bombs_take_no_more_memory_than_what_is_right() {
    let world = World::new();
    for case in cases() {
        let folder = world.site.path("bundle");
        (case.make)(&world, &folder);
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = resident("VmRSS:");
        let refusal = world.site.import_here(&folder);
        let grown = resident("VmHWM:").saturating_sub(before);
        assert!(refusal.is_err());
        assert!(grown < ROOM, "{}: {grown} bytes more were resident", case.named);
        fs::remove_dir_all(&folder).unwrap();
    }
}

fn resident(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
