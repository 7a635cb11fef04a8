//! What a process costs, as Linux accounts for it.

use std::{ops::Range, time::Duration};

use anyhow::Context as _;

/// CPU and memory of a process over some time in which nothing is to do.
pub(crate) struct Idle {
    /// Resident, at the end.
    pub(crate) megabytes: f64,
    /// Thousandths of a core.
    pub(crate) millicores: f64,
}

/// Watches a process.
pub(crate) async fn idle(pid: u32, during: Duration) -> anyhow::Result<Idle> {
    let before = cpu_ticks(pid)?;
    tokio::time::sleep(during).await;
    // Linux counts in hundredths of a second on every architecture that we build for.
    let milliseconds = (cpu_ticks(pid)? - before) * 10;
    let millicores = milliseconds as f64 / during.as_secs_f64();
    Ok(Idle { megabytes: resident_bytes(pid)? as f64 / 1e6, millicores })
}

/// User and system time.
fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    stat(pid, 11..13)
}

/// CPU time of a process, and of the children that it has waited for.
pub(crate) fn cpu_with_children(pid: u32) -> anyhow::Result<Duration> {
    Ok(Duration::from_millis(stat(pid, 11..15)? * 10))
}

/// The sum of some fields, counted from the state, which is 0.
fn stat(pid: u32, fields: Range<usize>) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a CPU time")?;
    // The name, in parentheses, may hold blanks.
    let (_, rest) = text.rsplit_once(") ").context("/proc/PID/stat")?;
    let values = rest.split(' ').skip(fields.start).take(fields.len());
    values.map(|value| value.parse::<u64>().context("/proc/PID/stat")).sum()
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status(pid, "VmRSS:")
}

/// The most that was resident at any time, in megabytes.
pub(crate) fn peak_megabytes(pid: u32) -> anyhow::Result<f64> {
    Ok(status(pid, "VmHWM:")? as f64 / 1e6)
}

fn status(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process' memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("no {field} in /proc/{pid}/status"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
