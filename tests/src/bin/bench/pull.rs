//! Pull throughput: `nave-agent pull`, which verifies every byte, against `s5cmd cp`, which verifies none; the same object,
//! one after the other in turns, so that what else the machine does meets both.

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

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    for (name, size, rounds) in SIZES {
        say(&format!("publishing {name}"))?;
        let folder = stack.folder().join("pull").join(size.to_string());
        weights::write_random(&folder.join("weights.bin"), size, size)?;
        let version = format!("{size}");
        stack.publish(&folder, "pull", &version).await?;
        std::fs::remove_dir_all(&folder)?;
        let prefix = prefix_of(stack, &version).await?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first round warms the server's cache for both.
        for round in 0..=rounds {
            let (nave, s5cmd) = (pull(stack, &prefix).await?, copy(stack, &prefix).await?);
            if round > 0 {
                ours.push(nave);
                theirs.push(s5cmd);
            }
        }
        let (nave, s5cmd) = (quantile(&mut ours, 0.5), quantile(&mut theirs, 0.5));
        let rate = |took: Duration| size as f64 / 1e6 / took.as_secs_f64();
        let result = format!(
            "{:.0} MB/s to {:.0} MB/s: {:.2} times s5cmd (median of {rounds} turns each)",
            rate(nave),
            rate(s5cmd),
            s5cmd.as_secs_f64() / nave.as_secs_f64()
        );
        table.row(&format!("pull of {name}, verified, to s5cmd"), result)?;
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
    timed(stack, command, &target).await
}

async fn copy(stack: &Stack, prefix: &str) -> anyhow::Result<Duration> {
    let target = stack.folder().join("copied");
    std::fs::create_dir_all(&target)?;
    let mut command = Command::new(stack.tools.fetched("s5cmd")?);
    command.env("S3_ENDPOINT_URL", stack.s3.endpoint());
    command.args(["cp", &format!("{prefix}/weights.bin")]).arg(target.join("weights.bin"));
    timed(stack, command, &target).await
}

async fn timed(stack: &Stack, mut command: Command, target: &Path) -> anyhow::Result<Duration> {
    command.envs(stack.s3.environment()).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output().await.context("starting it")?;
    let took = began.elapsed();
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let size = std::fs::metadata(target.join("weights.bin")).context("what it fetched")?.len();
    anyhow::ensure!(size > 0, "{command:?} fetched nothing");
    std::fs::remove_dir_all(target)?;
    Ok(took)
}
