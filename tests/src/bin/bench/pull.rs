//! Delivery by hand: `nave-agent pull`, which verifies every byte and leaves it durable on disk, against the tools that people
//! copy from S3 with, each with its own defaults, and against one of them followed by `sync` and `sha256sum`; the same objects, one after the other in turns, so that what else the machine does meets all of them.

use std::{
    hint::black_box,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nave_manifest::FileHasher;
use nave_names::RelativePath;
use nave_tests::{Stack, weights};
use sha2::{Digest as _, Sha256};

use crate::{
    measured::{self, Cost, median},
    table::{Grid, Table, say},
};

const GIB: u64 = 1 << 30;
/// What is to stay free on the disk.
const ROOM: u64 = 8 * GIB;
/// Small files: what a tokenizer, a configuration and many small adapters are like.
const SMALL_FILES: u64 = 100_000;
const SMALL_SIZE: u64 = 2_000;

/// `sh -c` with s5cmd, what to copy, and where to.
const COPY_AND_CHECK: &str = r#""$1" --log error cp "$2" "$3/"
find "$3" -type f -exec sync --data {} +
find "$3" -type f -exec sha256sum {} +"#;

/// Who fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Nave,
    S5cmd,
    S5cmdChecked,
    Aws,
    Rclone,
}

const TOOLS: [Tool; 5] = [Tool::Nave, Tool::S5cmd, Tool::S5cmdChecked, Tool::Aws, Tool::Rclone];

/// Files of 300 MB and of 1 GiB, and how fast they could be hashed.
pub(crate) async fn one_file(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let folder = stack.folder().join("pull-300");
    weights::write_random(&folder.join("weights.bin"), 300_000_000, 1)?;
    race(stack, table, &folder, "300 MB in one file", 5).await?;
    let folder = stack.folder().join("pull");
    weights::write_random(&folder.join("weights.bin"), GIB, 2)?;
    hashing(&folder.join("weights.bin"), table)?;
    race(stack, table, &folder, "1 GiB in one file", 3).await
}

/// One file of 8 GiB, or of what the disk holds twice, with some room for others.
pub(crate) async fn large_file(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let disk = rustix::fs::statvfs(stack.folder()).context("asking for the disk's free space")?;
    let room = (disk.f_bavail * disk.f_frsize).saturating_sub(ROOM) / 2 / GIB;
    let size = room.clamp(1, 8);
    let folder = stack.folder().join("pull-large");
    weights::write_random(&folder.join("weights.bin"), size * GIB, 3)?;
    race(stack, table, &folder, &format!("{size} GiB in one file"), 1).await
}

/// 100,000 small files.
pub(crate) async fn small_files(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let folder = stack.folder().join("pull-small");
    for number in 0..SMALL_FILES {
        let path = folder.join(format!("{:03}", number % 1_000)).join(format!("{number}.bin"));
        weights::write_random(&path, SMALL_SIZE, number)?;
    }
    race(stack, table, &folder, "100,000 files of 2 kB", 1).await
}

/// Publishes the folder and removes it, then has everyone fetch it.
async fn race(
    stack: &Stack,
    table: &mut Table,
    folder: &Path,
    what: &str,
    rounds: usize,
) -> anyhow::Result<()> {
    say(&format!("publishing {what}"))?;
    let model = folder.file_name().context("a folder with a name")?.to_string_lossy().into_owned();
    let published = stack.publish_with(folder, &model, "1", &[]).await?;
    let size = published["sizeBytes"].as_u64().context("sizeBytes")?;
    let files = published["fileCount"].as_u64().context("fileCount")?;
    std::fs::remove_dir_all(folder)?;
    let mut costs = TOOLS.map(|tool| (tool, Vec::new()));
    // The first round warms the server's cache for all, where there are more.
    for round in 0..=rounds {
        for (tool, costs) in &mut costs {
            let target = stack.folder().join("pulled");
            let Some(mut command) = tool.command(stack, &model, &target)? else { continue };
            let cost = measured::run(&mut command)?;
            let found = count(&target)?;
            anyhow::ensure!(found >= files, "{tool:?} brought {found} of {files} files");
            std::fs::remove_dir_all(&target)?;
            if round > 0 || rounds == 1 {
                costs.push(cost);
            }
        }
        if rounds == 1 {
            break;
        }
    }
    let mut grid =
        Grid::new(&[what, "wall, s", "MB/s", "files/s", "CPU, s", "peak memory, MB", "Nave's wall to its"]);
    let nave = median(&costs[0].1).wall.as_secs_f64();
    for (tool, costs) in &costs {
        if costs.is_empty() {
            grid.row(vec![tool.name().to_owned(), "not installed".to_owned()])?;
            continue;
        }
        let Cost { wall, cpu, peak } = median(costs);
        let wall = wall.as_secs_f64();
        grid.row(vec![
            tool.name().to_owned(),
            format!("{wall:.2}"),
            format!("{:.0}", size as f64 / 1e6 / wall),
            format!("{:.0}", files as f64 / wall),
            format!("{:.2}", cpu.as_secs_f64()),
            format!("{peak:.0}"),
            format!("{:.2}", nave / wall),
        ])?;
    }
    table.grid(grid);
    Ok(())
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Nave => "nave-agent pull (verified, durable)",
            Self::S5cmd => "s5cmd cp",
            Self::S5cmdChecked => "s5cmd cp, sync and sha256sum",
            Self::Aws => "aws s3 cp (CRT)",
            Self::Rclone => "rclone copy",
        }
    }

    /// `None` where it is not in the cache.
    fn command(self, stack: &Stack, model: &str, target: &Path) -> anyhow::Result<Option<Command>> {
        let prefix = format!("s3://{}/{model}/1", stack.bucket());
        let fetched = |name: &str| stack.tools.fetched(name).ok();
        let program = match self {
            Self::Nave => Some(stack.tools.ours("nave-agent")?),
            Self::S5cmd => fetched("s5cmd"),
            Self::S5cmdChecked => fetched("s5cmd").map(|_| "sh".into()),
            Self::Aws => fetched("awscli").map(|_| "python3".into()),
            Self::Rclone => fetched("rclone"),
        };
        let Some(program) = program else { return Ok(None) };
        let mut command = Command::new(program);
        command.envs(stack.s3.environment());
        match self {
            Self::Nave => {
                command.args(["pull", &prefix, "--to"]).arg(target).args(["-o", "json"]);
            }
            Self::S5cmd => {
                command.env("S3_ENDPOINT_URL", stack.s3.endpoint());
                command
                    .args(["--log", "error", "cp", &format!("{prefix}/*")])
                    .arg(format!("{}/", target.display()));
            }
            Self::S5cmdChecked => {
                command.env("S3_ENDPOINT_URL", stack.s3.endpoint());
                command.args(["-ec", COPY_AND_CHECK, "sh"]).arg(stack.tools.fetched("s5cmd")?);
                command.arg(format!("{prefix}/*")).arg(target);
            }
            Self::Aws => {
                let config = stack.folder().join("aws.config");
                std::fs::write(&config, "[default]\ns3 =\n  preferred_transfer_client = crt\n")?;
                command.env("AWS_CONFIG_FILE", config).env("PYTHONPATH", stack.tools.fetched("awscli")?);
                command.args(["-m", "awscli", "s3", "cp", "--recursive", "--only-show-errors"]);
                command.args(["--endpoint-url", stack.s3.endpoint(), &prefix]).arg(target);
            }
            Self::Rclone => {
                command.args(["--config", "", "copy", "--s3-provider", "Other", "--s3-env-auth"]);
                command.args(["--s3-endpoint", stack.s3.endpoint(), "--s3-force-path-style"]);
                command.arg(format!(":s3:{}/{model}/1", stack.bucket())).arg(target);
            }
        }
        Ok(Some(command))
    }
}

fn count(folder: &Path) -> anyhow::Result<u64> {
    let mut files = 0;
    for entry in walkdir::WalkDir::new(folder).follow_links(true) {
        files += u64::from(entry?.file_type().is_file());
    }
    Ok(files)
}

/// What the manifest's hashes cost, and each of them alone; one thread, from memory.
fn hashing(file: &Path, table: &mut Table) -> anyhow::Result<()> {
    let bytes = std::fs::read(file)?;
    let rate = |hash: &dyn Fn()| {
        let began = Instant::now();
        hash();
        let took: Duration = began.elapsed();
        format!("{:.2} GiB/s", bytes.len() as f64 / GIB as f64 / took.as_secs_f64())
    };
    let path = RelativePath::new("weights.bin")?;
    let both = rate(&|| {
        let mut hasher = FileHasher::new(path.clone());
        bytes.chunks(1 << 20).for_each(|piece| hasher.update(piece));
        drop(hasher.finish());
    });
    let sha256 = rate(&|| _ = black_box(Sha256::digest(&bytes)));
    let blake3 =
        rate(&|| bytes.chunks(1 << 20).for_each(|piece| _ = black_box(nave_manifest::Blake3::of(piece))));
    table.row("hashing for a manifest (SHA-256, and BLAKE3 of each chunk), one thread", both)?;
    table.row("SHA-256 alone", sha256)?;
    table.row("BLAKE3 of each chunk alone", blake3)
}
