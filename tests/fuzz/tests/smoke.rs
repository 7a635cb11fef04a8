//! Every fuzz target with its seeds, and with some thousand small changes of them that are the same in every run.

#![allow(clippy::print_stderr)] // What was accepted is for those who look.

use std::time::Instant;

use nave_fuzz::{TARGETS, Target};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};

/// For each target: a smoke, no search.
const CHANGES: usize = 1_000;

#[test]
fn seeds_are_accepted_and_no_change_of_them_does_harm() {
    for target in TARGETS {
        smoke(target);
    }
}

fn smoke(target: &Target) {
    let began = Instant::now();
    let seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        assert!((target.run)(seed), "{}: seed {number} is not accepted any more", target.name);
    }
    let mut random = SmallRng::seed_from_u64(7);
    let mut accepted = 0;
    for number in 0..CHANGES {
        let bytes = change(&seeds[number % seeds.len()], &mut random);
        accepted += usize::from((target.run)(&bytes));
    }
    eprintln!("{}: {accepted} of {CHANGES} accepted in {:?}", target.name, began.elapsed());
    assert!(accepted < CHANGES, "{}: it accepts anything", target.name);
}

/// One to four of: a bit flipped, a byte set to what numbers break at, bytes left out, bytes twice, the end cut off.
fn change(seed: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=4) {
        // The beginning matters more than what follows.
        let length = if random.random() { bytes.len() } else { bytes.len().min(300) };
        if length == 0 {
            break;
        }
        let at = random.random_range(0..length);
        let until = (at + random.random_range(1..=8)).min(bytes.len());
        match random.next_u32() % 8 {
            0 | 1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'}', b'/'][random.random_range(0..8)],
            3 => bytes[at] = random.random(),
            4 => drop(bytes.drain(at..until)),
            5 => {
                let twice = bytes[at..until].to_vec();
                drop(bytes.splice(at..at, twice));
            }
            6 => bytes[at..until].fill(0xff),
            _ => bytes.truncate(at),
        }
    }
    bytes
}
