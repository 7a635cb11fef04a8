//! One run of a program: how long it took, how much CPU, and how much memory at most. Children that it waited for count too.

use std::{
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::{process, quantile};

/// How often memory is looked at: the kernel keeps the peak, only what comes in the last moment is missed.
const LOOK: Duration = Duration::from_millis(5);

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Resident, in megabytes.
    pub(crate) peak: f64,
}

/// Runs it to its end.
///
/// # Errors
/// It cannot be started or fails; the error has what it said.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Cost> {
    let named = format!("{:?}", command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let child = command.spawn().with_context(|| format!("starting {named}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")?;
    let mut cost = Cost::default();
    // Left unreaped until its times are read.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), ended).context("waiting for it")?.is_none() {
        cost.peak = process::peak_megabytes(child.id()).unwrap_or(cost.peak);
        sleep(LOOK);
    }
    cost.wall = began.elapsed();
    cost.cpu = process::cpu_with_children(child.id())?;
    let output = child.wait_with_output().context("waiting for it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{named} ended with {}: {}", output.status, said.trim());
    Ok(cost)
}

/// Of each figure the median.
pub(crate) fn median(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> Duration| quantile(&mut costs.iter().map(figure).collect::<Vec<_>>(), 0.5);
    let mut peaks: Vec<_> = costs.iter().map(|cost| cost.peak).collect();
    peaks.sort_by(f64::total_cmp);
    let peak = peaks.get(peaks.len() / 2).copied().unwrap_or_default();
    Cost { wall: of(|cost| cost.wall), cpu: of(|cost| cost.cpu), peak }
}
