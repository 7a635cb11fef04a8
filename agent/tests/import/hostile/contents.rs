//! Chunks that overlap, and sizes and digests that lie.

use std::{fs, path::Path};

use nave_bundle::Base;
use nave_delta::Block;
use nave_names::Digest;

use super::{
    Case, Kind, World,
    delta::{Forged, HEAD, RECORD},
    names::manifest,
};
use crate::maker::{Load, MIB, Maker};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = overlaps();
    cases.extend(sizes());
    cases.extend(contents());
    cases.extend(deltas());
    cases
}

/// The index of a delta, changed.
fn index(
    kind: Kind,
    reason: &'static str,
    named: &'static str,
    change: impl Fn(&mut Vec<u8>) + 'static,
) -> Case {
    Case::new(kind, reason, named, move |world, to| {
        let mut forged = Forged::new(world, |_, block| block);
        change(&mut forged.index);
        forged.write(world, to, |_| {});
    })
}

/// Where a field of a record lies in the index.
const fn field(record: usize, at: usize) -> usize {
    HEAD + record * RECORD + at
}

fn overlaps() -> Vec<Case> {
    let kind = Kind::Overlap;
    let runs = |text: &str| {
        let into = format!(r#""model.bin": "{text}""#);
        Case::text(kind, "BundleMalformed", text, r#""model.bin": "0-1""#, into)
    };
    vec![
        runs("0-1,1"),
        runs("0,0-1"),
        runs("0-1,0-1"),
        runs("1,0"),
        runs("1-0"),
        Case::new(kind, "BundleContradictsItself", "is carried as it is and by the delta", |world, to| {
            Forged::new(world, |_, block| block).write(world, to, |load| {
                let chunks = [("model.bin".parse().unwrap(), "0".parse().unwrap())].into();
                let with = Load::of(&world.target, Some(&world.base), chunks);
                (load.chunks, load.bytes) = (with.chunks, with.bytes);
            });
        }),
        index(kind, "RecordOrder", "record 1 ", |index| {
            index.copy_within(field(0, 0)..field(0, 8), field(1, 0));
        }),
        index(kind, "RecordOrder", "record 1 ", |index| {
            let first = index[field(0, 0)..field(1, 0)].to_vec();
            index.copy_within(field(1, 0)..field(2, 0), field(0, 0));
            index[field(1, 0)..field(2, 0)].copy_from_slice(&first);
        }),
        index(kind, "PastBaseFile", "record 1 ", |index| index[field(1, 16)] += 1),
        index(kind, "BlocksDoNotFit", "blocks of the delta", |index| index[field(1, 24)] ^= 1),
        manifest(kind, "ChunkCount", "", r#"[[1048576,1],"#, r#"[[1048576,2],"#),
        manifest(kind, "ChunksDoNotCover", "", r#"[[1048576,1],"#, r#"[[1048575,1],"#),
    ]
}

fn sizes() -> Vec<Case> {
    let kind = Kind::LyingSize;
    let lie = |named: &'static str, change: fn(&mut nave_bundle::Bundle)| {
        Case::lie(kind, "BundleInconsistent", named, change)
    };
    vec![
        lie("its parts hold", |b| b.parts[0].size += 1),
        lie("its parts hold", |b| b.parts[1].size -= 1),
        lie("cannot have 0 bytes", |b| b.parts[1].size = 0),
        lie("part-00001.nave cannot have 18446744073709551615", |b| b.parts[0].size = u64::MAX),
        lie("its parts hold", |b| b.parts[0].size = 1 << 50),
        lie("it has 0 parts", |b| b.parts.clear()),
        lie("it has 0 versions", |b| b.versions.clear()),
        lie("its versions need", |b| b.versions[0].contents.chunk_bytes += 1),
        lie("sizes overflow", |b| b.versions[0].contents.chunk_bytes = u64::MAX),
        lie("chunkBytes does not fit", |b| b.versions[0].contents.chunk_bytes = 0),
        lie("no manifest's size", |b| b.versions[0].contents.manifest_bytes = 0),
        lie("no manifest's size", |b| b.versions[0].contents.manifest_bytes = 1 << 40),
        lie("signatureBytes", |b| b.versions[0].contents.signature_bytes = 1),
        lie("signatureBytes", |b| b.versions[0].contents.signature_digest = Some(Digest::of(b""))),
        lie("a delta without a base", |b| b.versions[0].contents.delta_bytes = 1),
        lie("deltaIndexBytes", |b| b.versions[0].contents.delta_index_bytes = 1),
        lie("generation 0", |b| b.generation.0 = 0),
        lie("generation 9007199254740992", |b| b.generation.0 = 1 << 53),
        lie("builds upon itself", |b| {
            let manifest_digest = b.versions[0].manifest_digest;
            b.versions[0].base = Some(Base { version: "0".parse().unwrap(), manifest_digest });
        }),
        Case::lie(kind, "BundleContradictsItself", "by bundle.json", |b| b.versions[0].size_bytes += 1),
        Case::lie(kind, "BundleContradictsItself", "manifest sha256:", |b| {
            b.versions[0].contents.chunk_bytes += 10;
            b.versions[0].contents.manifest_bytes -= 10;
        }),
        Case::after(kind, "PartTorn", "part-00002.nave has 9 bytes", |folder| {
            fs::write(folder.join("part-00002.nave"), "something").unwrap();
        }),
        Case::after(kind, "PartTorn", "part-00001.nave has 1099511627776 bytes", |folder| {
            sparse(&folder.join("part-00001.nave"), 1 << 40);
        }),
        manifest(kind, "FileTooLarge", "", r#""size":300"#, format!(r#""size":{}"#, 1_u64 << 53)),
        manifest(kind, "ChunksDoNotCover", "", r#""size":300"#, r#""size":299"#),
    ]
}

/// What lies in the parts, against what the manifest says.
fn contents() -> Vec<Case> {
    let kind = Kind::LyingSize;
    let chunks = |reason, named: &'static str, path: &'static str, runs: &'static str| {
        Case::lie(kind, reason, named, move |b| {
            b.versions[0].contents.chunks =
                [(path.parse().unwrap(), runs.parse().unwrap())].into_iter().collect();
        })
    };
    let load = |named: &'static str, change: fn(&World, &mut Load)| {
        Case::new(kind, "BundleContradictsItself", named, move |world, to| {
            let all = [("model.bin", "0-1"), ("labels/größe.txt", "0")];
            let all = all.map(|(path, runs)| (path.parse().unwrap(), runs.parse().unwrap()));
            let mut load = Load::of(&world.target, None, all.into());
            change(world, &mut load);
            Maker::new(5).load(load).write(to, &world.site.key, |_| {});
        })
    };
    vec![
        chunks("UnknownChunks", "model.bin", "model.bin", "0-9"),
        chunks("UnknownChunks", "other.bin", "other.bin", "0"),
        chunks("BundleInconsistent", "its chunks have", "model.bin", "0"),
        load("nothing for chunk 1 of model.bin", |world, load| {
            *load = Load::of(
                &world.target,
                None,
                [("model.bin", "0"), ("labels/größe.txt", "0")]
                    .map(|(path, runs)| (path.parse().unwrap(), runs.parse().unwrap()))
                    .into(),
            );
        }),
        load("nothing for chunk 0 of model.bin", |world, load| {
            // What the base has need not be there; what it lacks has to be.
            *load = Load::of(&world.target, Some(&world.base), Default::default());
        }),
        load("chunk 1 of model.bin", |_, load| load.bytes[300 + MIB + 5] ^= 1),
        load("all chunks of labels/größe.txt match", |_, load| {
            let text = String::from_utf8(std::mem::take(&mut load.manifest)).unwrap();
            let begin = text.find(r#""sha256":""#).unwrap() + 10;
            let other = Digest::of(b"other").to_hex();
            load.manifest = [&text[..begin], &other, &text[begin + 64..]].concat().into_bytes();
        }),
    ]
}

fn deltas() -> Vec<Case> {
    let kind = Kind::LyingSize;
    let tail = |named: &'static str, reason, change: fn(&mut Load)| {
        Case::new(kind, reason, named, move |world, to| {
            Forged::new(world, |_, block| block).write(world, to, change);
        })
    };
    vec![
        index(kind, "WrongBase", "delta is from base", |index| index[0] ^= 1),
        index(kind, "WrongTarget", "delta is to version", |index| index[32] ^= 1),
        index(kind, "CutOff", "cut off", |index| index[64] ^= 1),
        index(kind, "UnknownChunk", "record 0 ", |index| index[field(0, 4)] = 9),
        index(kind, "UnknownBaseFile", "record 0 ", |index| index[field(0, 8)] = 9),
        index(kind, "UnknownMethod", "record 0 ", |index| index[field(0, 12)] = 3),
        index(kind, "BadWidth", "record 0 ", |index| index[field(0, 13)] = 3),
        index(kind, "BlockLength", "record 0 ", |index| index[field(0, 24)..field(0, 28)].fill(0)),
        tail("NAVEDLT1", "BadMagic", |load| load.delta[0] ^= 1),
        tail("NAVEDLTE", "BadMagic", |load| *load.delta.last_mut().unwrap() ^= 1),
        tail("an index of", "BundleContradictsItself", |load| load.index = load.delta.len()),
        tail("deltaIndexBytes", "BundleInconsistent", |load| load.index = load.delta.len() + 1),
        tail("cut off", "CutOff", |load| load.index -= 1),
        // A block that is one, and of another chunk.
        Case::new(kind, "BundleContradictsItself", "the block for chunk 0 of model.bin", |world, to| {
            let other = zstd(&vec![1; MIB]);
            let change =
                |at, block: Block| if at == 0 { Block { bytes: other.clone(), ..block } } else { block };
            Forged::new(world, change).write(world, to, |_| {});
        }),
    ]
}

/// A frame as the encoder makes them.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = nave_delta::Encoder::new().unwrap();
    encoder.encode(bytes, None, 1).unwrap().unwrap().bytes
}

/// A file of this many bytes that takes no room.
pub(super) fn sparse(path: &Path, length: u64) {
    fs::File::options().write(true).create(true).truncate(false).open(path).unwrap().set_len(length).unwrap();
}
