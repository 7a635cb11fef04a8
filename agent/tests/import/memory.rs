//! Rebuilding from a delta takes the memory of a few chunks, however large the model is.

use std::{process::Stdio, thread::sleep, time::Duration};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;

use crate::{
    hostile::delta,
    maker::{MIB, Maker, Model, Site, noise},
};

/// The kernel keeps the peak: what comes in the last moment alone is missed.
const LOOK: Duration = Duration::from_millis(1);
/// Of one process to the next: how many threads allocate at once.
const NOISE: u64 = 8 << 20;

#[test]
fn the_peak_of_an_import_by_delta_does_not_grow_with_the_model() {
    let small = peak_of_import(4 * MIB);
    let large = peak_of_import(64 * MIB);
    assert!(large < small + NOISE, "{small} bytes at most for 4 MiB, {large} for 64 MiB");
    assert!(large < 64 << 20, "{large} bytes");
}

/// The most that `nave-agent import` ever has resident while it rebuilds so many bytes.
fn peak_of_import(size: usize) -> u64 {
    let site = Site::new();
    let mut weights = noise(1, size);
    let base = Model::new("1.0.0", &[("model.bin", weights.clone())]);
    let bundle = Maker::new(1).carry(&base, None).write(&site.path("base"), &site.key, |_| {});
    site.import_here(&bundle).unwrap();
    weights.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
    let target = Model::new("2.0.0", &[("model.bin", weights)]);
    let bundle = Maker::new(2).load(delta::load(&base, &target));
    let bundle = bundle.write(&site.path("upon"), &site.key, |_| {});

    let mut command = site.command(&bundle);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // Left unreaped until its peak was read.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let mut peak = 0;
    while waitid(WaitId::Pid(pid), ended).unwrap().is_none() {
        peak = resident_at_most(pid).unwrap_or(peak);
        sleep(LOOK);
    }
    let said: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said["versions"][0]["bytesRebuilt"], size, "{said}");
    peak
}

fn resident_at_most(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}
