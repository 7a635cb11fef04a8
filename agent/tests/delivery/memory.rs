//! A pull by delta takes the memory of the ranges in flight and of a chunk for each, however large the model is.

use std::fs;

use nave_agent::pull::Progress;
use nave_delta::Block;

use crate::{
    deltas::{Files, published_with, spoke_with},
    world::{MIB, noise},
};

/// From one pull to the next: how many ranges were in flight, what the allocator keeps.
const NOISE: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peak_of_a_pull_by_delta_does_not_grow_with_the_model() {
    let (small, _) = grown_by_pull(4 * MIB, |_, block| block).await;
    let (large, progress) = grown_by_pull(64 * MIB, |_, block| block).await;
    assert_eq!(progress.bytes_rebuilt, 64 * MIB as u64);
    assert!(large < small + NOISE, "{small} bytes more at most for 4 MiB, {large} for 64 MiB");
}

/// Each of the first two blocks says that it becomes its chunk, and would become 16 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_in_a_delta_costs_its_chunk_and_no_memory() {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    bomb.extend((MIB as u32).to_le_bytes());
    for _ in 0..131_071 {
        // 128 KiB of zeros, and more to come.
        bomb.extend([0x02, 0x00, 0x10, 0x00]);
    }
    bomb.extend([0x03, 0x00, 0x10, 0x00]);
    let bombs = move |at, block: Block| if at < 2 { Block { bytes: bomb.clone(), ..block } } else { block };
    let (grown, progress) = grown_by_pull(4 * MIB, bombs).await;
    assert_eq!((progress.bytes_rebuilt, progress.delta_refusals), (2 * MIB as u64, 2));
    assert!(grown < 2 * NOISE, "{grown} bytes more at most");
}

/// What is resident at most, beside what was before, while so many bytes are pulled by a delta.
async fn grown_by_pull(size: usize, change: impl Fn(usize, Block) -> Block) -> (u64, Progress) {
    let base = noise(1, size);
    let mut target = base.clone();
    target.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
    let [base, target] = [base, target].map(|bytes| Files::from([("model.bin".to_owned(), bytes)]));
    let (digest, objects, _) = published_with(&base, &target, change);
    let world = spoke_with(base, target, digest, objects).await;
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    let progress = world.pull().await.unwrap();
    let grown = resident("VmHWM:").saturating_sub(before);
    world.assert_held();
    (grown, progress)
}

fn resident(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
