//! Updates by delta, beside what else could carry them: bytes over the wire, and what rebuilding costs. A real fine-tune (in
//! float32 as it was trained, and rounded to bfloat16 as it is served) and a synthetic pair of 1 GB.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nave_delta::{Decoder, Index, Record, delta_path};
use nave_manifest::{Blake3, MANIFEST_FILE, Manifest};
use nave_names::Digest;
use nave_tests::Stack;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path as Key};

use crate::{
    measured::{self, Cost},
    process, synthetic,
    table::{Grid, Table, say},
};

const WEIGHTS: &str = "model.safetensors";

/// A base and what was made of it.
struct Pair {
    name: &'static str,
    model: &'static str,
    base: PathBuf,
    tuned: PathBuf,
}

/// Another program that makes and applies deltas.
struct Peer {
    name: &'static str,
    size: u64,
    apply: Cost,
}

/// What Nave makes of a pair.
struct Ours {
    whole: u64,
    different: u64,
    fetched: u64,
    pull: Cost,
    /// One thread, from memory to memory, each chunk compared with its BLAKE3.
    decode: Duration,
    decode_cpu: Duration,
    rebuilt: u64,
    blocks: u64,
}

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let real = stack.tools.fetched("finetune")?;
    let made = stack.folder().join("synthetic");
    say("making a synthetic pair of 1 GB")?;
    synthetic::write_pair(&made.join("base").join(WEIGHTS), &made.join("tuned").join(WEIGHTS))?;
    let pair = |name, model, folder: &Path| Pair {
        name,
        model,
        base: folder.join("base"),
        tuned: folder.join("tuned"),
    };
    let pairs = [
        pair("ViT-S/14, fine-tuned, float32", "tuned-f32", &real.join("f32")),
        pair("ViT-S/14, fine-tuned, bfloat16", "tuned-bf16", &real.join("bf16")),
        pair("synthetic, all weights changed by 1%, bfloat16", "synthetic", &made),
    ];
    let mut sizes =
        Grid::new(&["bytes to fetch", "whole", "chunks that differ", "Nave", "zstd --patch-from", "xdelta3"]);
    let mut costs =
        Grid::new(&["to rebuild it", "how", "MB/s", "of delta, MB/s", "CPU, s", "peak memory, MB"]);
    for pair in &pairs {
        let ours = ours(stack, pair).await.with_context(|| format!("delta of {}", pair.name))?;
        let peers = [zstd(stack, pair)?, xdelta3(stack, pair)?];
        let part = |size: u64| {
            let percent = 100.0 * size as f64 / ours.whole as f64;
            format!("{:.1} MB ({percent:.1}%)", size as f64 / 1e6)
        };
        let size_of =
            |peer: &Option<Peer>| peer.as_ref().map_or("not installed".to_owned(), |p| part(p.size));
        let whole = format!("{:.1} MB", ours.whole as f64 / 1e6);
        sizes.row(vec![
            pair.name.to_owned(),
            whole,
            part(ours.different),
            part(ours.fetched),
            size_of(&peers[0]),
            size_of(&peers[1]),
        ])?;
        let rate = |bytes: u64, took: Duration| format!("{:.0}", bytes as f64 / 1e6 / took.as_secs_f64());
        costs.row(vec![
            pair.name.to_owned(),
            "Nave's decoder, one thread, with BLAKE3".to_owned(),
            rate(ours.rebuilt, ours.decode),
            rate(ours.blocks, ours.decode),
            format!("{:.2}", ours.decode_cpu.as_secs_f64()),
            String::new(),
        ])?;
        let mut run = |how: &str, cost: &Cost, delta: u64| {
            costs.row(vec![
                pair.name.to_owned(),
                how.to_owned(),
                rate(ours.whole, cost.wall),
                rate(delta, cost.wall),
                format!("{:.2}", cost.cpu.as_secs_f64()),
                format!("{:.0}", cost.peak),
            ])
        };
        run("nave-agent pull, on one core, from S3, verified", &ours.pull, ours.fetched)?;
        for peer in peers.iter().flatten() {
            run(peer.name, &peer.apply, peer.size)?;
        }
    }
    table.grid(sizes);
    table.grid(costs);
    Ok(())
}

/// Publishes both with a delta, pulls the second where the first is, and decodes the delta once more by itself.
async fn ours(stack: &Stack, pair: &Pair) -> anyhow::Result<Ours> {
    say(&format!("publishing {}", pair.name))?;
    let base = stack.publish(&pair.base, pair.model, "1").await?;
    let published = stack.publish_with(&pair.tuned, pair.model, "2", &["--delta-from", "1"]).await?;
    let delta = &published["deltas"][0];
    anyhow::ensure!(delta["stored"] == true, "no delta was stored: {delta}");
    let store = stack.folder().join(format!("{}-store", pair.model));
    pull(stack, pair, "1", &store)?;
    let pull = pull(stack, pair, "2", &store)?;
    std::fs::remove_dir_all(&store)?;
    let bucket = stack.s3.bucket(stack.bucket())?;
    let decoded = decode(&*bucket, pair, &base.parse()?).await?;
    Ok(Ours {
        whole: published["sizeBytes"].as_u64().context("sizeBytes")?,
        different: delta["wholeBytes"].as_u64().context("wholeBytes")?,
        fetched: delta["deltaBytes"].as_u64().context("deltaBytes")?,
        pull,
        ..decoded
    })
}

/// On one core, so that what it says of a core is true.
fn pull(stack: &Stack, pair: &Pair, version: &str, store: &Path) -> anyhow::Result<Cost> {
    let to = stack.folder().join(format!("{}-{version}", pair.model));
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(stack.tools.ours("nave-agent")?).envs(stack.s3.environment());
    command.args(["pull", &format!("s3://{}/{}/{version}", stack.bucket(), pair.model)]);
    command.arg("--to").arg(&to).arg("--store").arg(store).args(["-o", "json"]);
    let cost = measured::run(&mut command)?;
    std::fs::remove_dir_all(to)?;
    Ok(cost)
}

async fn decode(bucket: &dyn ObjectStore, pair: &Pair, base: &Digest) -> anyhow::Result<Ours> {
    let get = async |version: &str, path: &str| -> anyhow::Result<_> {
        let path = format!("{}/{version}/{path}", pair.model);
        let got = bucket.get(&Key::parse(&path)?).await.with_context(|| format!("reading {path}"))?;
        Ok(got.bytes().await?)
    };
    let from = Manifest::parse(&get("1", MANIFEST_FILE).await?)?;
    let to = Manifest::parse(&get("2", MANIFEST_FILE).await?)?;
    let object = get("2", delta_path(base).as_str()).await?;
    // The index is at the end; its length stands in the footer, 48 bytes from the end.
    let footer = object.len() - 48;
    let length = object[footer..footer + 8].try_into().map(u64::from_le_bytes)?;
    let tail = &object[footer - usize::try_from(length)?..];
    let index = Index::parse(tail, object.len() as u64, &from, &to)?;
    let base = File::open(pair.base.join(WEIGHTS))?;
    let mut decoder = Decoder::new()?;
    let (mut bytes, mut took, mut rebuilt, mut blocks) = (Vec::new(), Duration::ZERO, 0, 0);
    let before = process::cpu_with_children(std::process::id())?;
    for record in index.records() {
        let Record { offset, stored, length, .. } = *record;
        let offset = usize::try_from(offset)?;
        let block = &object[offset..offset + stored as usize];
        let began = Instant::now();
        bytes.resize(length as usize, 0);
        if let Some(span) = record.base {
            base.read_exact_at(&mut bytes, span.offset)?;
        }
        decoder.decode(record, block, &mut bytes)?;
        let hash = Blake3::of(&bytes);
        took += began.elapsed();
        let expected = to.files()[record.file].chunks.hashes()[record.chunk];
        anyhow::ensure!(hash == expected, "chunk {} came out wrong", record.chunk);
        rebuilt += u64::from(length);
        blocks += u64::from(stored);
    }
    let decode_cpu = process::cpu_with_children(std::process::id())?.saturating_sub(before);
    let (whole, different, fetched, pull) = (0, 0, 0, Cost::default());
    Ok(Ours { whole, different, fetched, pull, decode: took, decode_cpu, rebuilt, blocks })
}

fn zstd(stack: &Stack, pair: &Pair) -> anyhow::Result<Option<Peer>> {
    let make = |base: &Path, tuned: &Path, delta: &Path| {
        let mut command = Command::new("zstd");
        command.arg("--patch-from").arg(base).args(["--long=31", "-q", "-f"]).arg(tuned).arg("-o").arg(delta);
        command
    };
    let apply = |base: &Path, delta: &Path, rebuilt: &Path| {
        let mut command = Command::new("zstd");
        command.args(["-d", "--memory=2048MB", "--long=31", "-q", "-f", "--patch-from"]).arg(base);
        command.arg(delta).arg("-o").arg(rebuilt);
        command
    };
    peer("zstd --patch-from (level 3)", stack, pair, make, apply)
}

fn xdelta3(stack: &Stack, pair: &Pair) -> anyhow::Result<Option<Peer>> {
    // As much of the base as there is may be looked at.
    let window = ["-f", "-B", "1073741824", "-s"];
    let make = |base: &Path, tuned: &Path, delta: &Path| {
        let mut command = Command::new("xdelta3");
        command.arg("-e").args(window).arg(base).arg(tuned).arg(delta);
        command
    };
    let apply = |base: &Path, delta: &Path, rebuilt: &Path| {
        let mut command = Command::new("xdelta3");
        command.arg("-d").args(window).arg(base).arg(delta).arg(rebuilt);
        command
    };
    peer("xdelta3", stack, pair, make, apply)
}

/// Makes a delta, applies it, and compares; `None` where the program is not on PATH.
fn peer(
    name: &'static str,
    stack: &Stack,
    pair: &Pair,
    make: impl Fn(&Path, &Path, &Path) -> Command,
    apply: impl Fn(&Path, &Path, &Path) -> Command,
) -> anyhow::Result<Option<Peer>> {
    let program = name.split(' ').next().unwrap_or(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        say(&format!("{program} is not on PATH (Debian: apt-get install {program}); its cells stay empty"))?;
        return Ok(None);
    }
    say(&format!("{name} of {}", pair.name))?;
    let (base, tuned) = (pair.base.join(WEIGHTS), pair.tuned.join(WEIGHTS));
    let (delta, rebuilt) = (stack.folder().join("peer.delta"), stack.folder().join("peer.rebuilt"));
    measured::run(&mut make(&base, &tuned, &delta))?;
    let apply = measured::run(&mut apply(&base, &delta, &rebuilt))?;
    measured::run(Command::new("cmp").arg(&tuned).arg(&rebuilt)).context("what it rebuilt")?;
    let size = std::fs::metadata(&delta)?.len();
    std::fs::remove_file(&delta)?;
    std::fs::remove_file(&rebuilt)?;
    Ok(Some(Peer { name, size, apply }))
}
