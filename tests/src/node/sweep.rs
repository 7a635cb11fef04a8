//! Leaves nothing of a node behind: after a test, and before one when the last was killed. Processes are found by the
//! node's own cgroup and socket, so nothing else is ever ended.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    cgroups,
    command::run,
    kernel,
    layout::{Layout, RUN},
    network,
};

/// A process that got SIGKILL is gone when the kernel has run it once more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends what is left of a node whose kubelet and containerd are gone, and removes everything that it made.
pub(super) fn sweep(layout: &Layout) -> Result<()> {
    end_processes()?;
    unmount(layout)?;
    network::remove()?;
    cgroups::remove()?;
    kernel::restore(layout)?;
    for folder in [layout.data(), Path::new(RUN)] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    Ok(())
}

fn end_processes() -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut left = shims()?;
        left.extend(cgroups::processes()?);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("processes of the node do not end: {left:?}");
        }
        for pid in left {
            // Gone in between is what is wanted.
            if let Some(pid) = Pid::from_raw(pid)
                && let Err(error) = kill_process(pid, Signal::KILL)
                && error != rustix::io::Errno::SRCH
            {
                bail!("end process {pid:?} of the node: {error}");
            }
        }
        sleep(Duration::from_millis(50));
    }
}

/// containerd's shims outlive it; they name its socket.
fn shims() -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_shim = words.first().is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
        if is_shim && words.contains(&Layout::socket().as_bytes()) {
            found.insert(pid);
        }
    }
    Ok(found)
}

fn unmount(layout: &Layout) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let mut ours: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(layout.data()) || Path::new(point).starts_with(RUN))
        .collect();
    // What is mounted inside of another goes first.
    ours.sort_unstable();
    for point in ours.into_iter().rev() {
        run(&["umount", "--lazy", point])?;
    }
    Ok(())
}
