//! A pull by delta takes the memory of the ranges in flight and of a chunk for each, however large the model is.

use std::fs;

use crate::{
    deltas::{Files, published, spoke_with},
    world::{MIB, noise},
};

/// From one pull to the next: how many ranges were in flight, what the allocator keeps.
const NOISE: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peak_of_a_pull_by_delta_does_not_grow_with_the_model() {
    let small = grown_by_pull(4 * MIB).await;
    let large = grown_by_pull(64 * MIB).await;
    assert!(large < small + NOISE, "{small} bytes more at most for 4 MiB, {large} for 64 MiB");
}

/// What is resident at most, beside what was before, while so many bytes are rebuilt.
async fn grown_by_pull(size: usize) -> u64 {
    let base = noise(1, size);
    let mut target = base.clone();
    target.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
    let [base, target] = [base, target].map(|bytes| Files::from([("model.bin".to_owned(), bytes)]));
    let (digest, objects, _) = published(&base, &target);
    let world = spoke_with(base, target, digest, objects).await;
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    let progress = world.pull().await.unwrap();
    let grown = resident("VmHWM:").saturating_sub(before);
    assert_eq!(progress.bytes_rebuilt, size as u64);
    grown
}

fn resident(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
