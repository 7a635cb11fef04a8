//! Pull throughput: `nave-agent pull`, which verifies every byte and leaves it durable on disk, against `s5cmd cp`, which
//! does neither, and against `s5cmd cp` followed by `sync` and `sha256sum`; the same object, one after the other in turns,
//! so that what else the machine does meets all.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use kube::Api;
use nave_crds::ModelVersion;
use nave_tests::{Stack, weights};
use tokio::process::Command;

use crate::{
    quantile,
    table::{Table, say},
};

const SIZES: [(&str, u64, usize); 2] = [("300 MB", 300_000_000, 5), ("1 GB", 1_000_000_000, 3)];

const WEIGHTS: &str = "weights.bin";

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    for (name, size, rounds) in SIZES {
        say(&format!("publishing {name}"))?;
        let folder = stack.folder().join("pull").join(size.to_string());
        weights::write_random(&folder.join(WEIGHTS), size, size)?;
        let version = format!("{size}");
        stack.publish(&folder, "pull", &version).await?;
        std::fs::remove_dir_all(&folder)?;
        let prefix = prefix_of(stack, &version).await?;
        let mut turns = [Vec::new(), Vec::new(), Vec::new()];
        // The first round warms the server's cache for all.
        for round in 0..=rounds {
            let nave = pull(stack, &prefix).await?;
            let (copied, checked) = copy(stack, &prefix).await?;
            if round > 0 {
                turns.iter_mut().zip([nave, copied, checked]).for_each(|(all, took)| all.push(took));
            }
        }
        let [nave, copied, checked] = turns.map(|mut all| quantile(&mut all, 0.5));
        let rate = |took: Duration| size as f64 / 1e6 / took.as_secs_f64();
        for (what, theirs) in [("s5cmd", copied), ("s5cmd, sync and sha256sum", checked)] {
            let result = format!(
                "{:.0} MB/s to {:.0} MB/s: {:.2} times theirs (median of {rounds} turns each)",
                rate(nave),
                rate(theirs),
                theirs.as_secs_f64() / nave.as_secs_f64()
            );
            table.row(&format!("pull of {name}, verified and durable, to {what}"), result)?;
        }
    }
    Ok(())
}

async fn prefix_of(stack: &Stack, version: &str) -> anyhow::Result<String> {
    let versions: Api<ModelVersion> = Api::namespaced(stack.plane.client().await?, "default");
    let all = versions.list(&Default::default()).await?;
    let found = all.items.into_iter().find(|v| v.spec.model == "pull" && v.spec.version == version);
    let s3 = found.context("the published version is not there")?.spec.source.s3;
    Ok(format!("s3://{}/{}", s3.bucket, s3.prefix.trim_matches('/')))
}

async fn pull(stack: &Stack, prefix: &str) -> anyhow::Result<Duration> {
    let target = stack.folder().join("pulled");
    let mut command = Command::new(stack.tools.ours("nave-agent")?);
    command.args(["pull", prefix, "--to"]).arg(&target).args(["-o", "json"]);
    let began = Instant::now();
    run(command.envs(stack.s3.environment())).await?;
    let took = began.elapsed();
    remove(&target)?;
    Ok(took)
}

/// How long the copy took, and how long until it was as safe and as checked as what Nave pulls.
async fn copy(stack: &Stack, prefix: &str) -> anyhow::Result<(Duration, Duration)> {
    let target = stack.folder().join("copied");
    std::fs::create_dir_all(&target)?;
    let file = target.join(WEIGHTS);
    let mut command = Command::new(stack.tools.fetched("s5cmd")?);
    command.env("S3_ENDPOINT_URL", stack.s3.endpoint()).envs(stack.s3.environment());
    command.args(["cp", &format!("{prefix}/{WEIGHTS}")]).arg(&file);
    let began = Instant::now();
    run(&mut command).await?;
    let copied = began.elapsed();
    run(Command::new("sync").arg("--data").arg(&file)).await?;
    run(Command::new("sha256sum").arg(&file)).await?;
    let checked = began.elapsed();
    remove(&target)?;
    Ok((copied, checked))
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().await.with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn remove(target: &Path) -> anyhow::Result<()> {
    let size = std::fs::metadata(target.join(WEIGHTS)).context("what was fetched")?.len();
    anyhow::ensure!(size > 0, "{} is empty", target.display());
    Ok(std::fs::remove_dir_all(target)?)
}
