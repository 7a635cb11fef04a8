//! What an agent costs that has nothing to do: connected, one version served, heartbeats and no more.

use std::time::Duration;

use anyhow::Context as _;
use nave_tests::Stack;

use crate::{publish_small, table::Table};

const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    publish_small(stack, "idle", "1.0").await?;
    let mut spoke = stack.spoke("idle-0", &[("bench", "idle")]).await?;
    stack.place("idle", "idle", "1.0", &[("bench", "idle")]).await?;
    stack.wait_reported("idle-0", "idle", "to serve", |row| row["phase"] == "Serving").await?;
    tokio::time::sleep(SETTLE).await;
    let pid = spoke.daemon().pid();
    let before = cpu_ticks(pid)?;
    tokio::time::sleep(WATCHED).await;
    // Linux counts in hundredths of a second on every architecture that we build for.
    let milliseconds = (cpu_ticks(pid)? - before) * 10;
    let millicores = milliseconds as f64 / WATCHED.as_secs_f64();
    table.row("idle agent, memory (resident)", format!("{:.1} MB", resident_bytes(pid)? as f64 / 1e6))?;
    table.row("idle agent, CPU over 60 s", format!("{millicores:.1} mCPU"))?;
    stack.kubectl.run(&["delete", "placementpolicy", "idle"]).await?;
    spoke.stop().await
}

/// User and system time.
fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading the agent's CPU time")?;
    // The name, in parentheses, may hold blanks.
    let (_, rest) = text.rsplit_once(") ").context("/proc/PID/stat")?;
    let field =
        |n: usize| rest.split(' ').nth(n).and_then(|f| f.parse::<u64>().ok()).context("/proc/PID/stat");
    Ok(field(11)? + field(12)?)
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading the agent's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
