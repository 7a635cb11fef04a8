//! Fuzz targets: everything that reads bytes which somebody else wrote. A target takes any bytes, says whether they were
//! accepted, and panics where something that holds for all bytes does not hold. `make fuzz` feeds them by libFuzzer;
//! `tests/smoke.rs` feeds them their seeds and small changes of these in every `make test`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // A panic is what a target reports.

mod bundle;
mod delta;
mod files;
mod journal;
mod manifest;
mod signature;

pub use bundle::bundle;
pub use delta::{delta, delta_block, delta_catalog};
pub use files::{gguf, onnx, safetensors};
pub use journal::journal;
pub use manifest::manifest;
pub use signature::signature;

/// A target and bytes that it accepts, to begin with.
pub struct Target {
    /// As `cargo fuzz` and `make fuzz` call it.
    pub name: &'static str,
    /// Whether the bytes were accepted.
    pub run: fn(&[u8]) -> bool,
    /// Small and good.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "manifest", run: manifest, seeds: manifest::seeds },
    Target { name: "bundle", run: bundle, seeds: bundle::seeds },
    Target { name: "safetensors", run: safetensors, seeds: files::safetensors_seeds },
    Target { name: "gguf", run: gguf, seeds: files::gguf_seeds },
    Target { name: "onnx", run: onnx, seeds: files::onnx_seeds },
    Target { name: "delta", run: delta, seeds: delta::index_seeds },
    Target { name: "delta_block", run: delta_block, seeds: delta::block_seeds },
    Target { name: "delta_catalog", run: delta_catalog, seeds: delta::catalog_seeds },
    Target { name: "journal", run: journal, seeds: journal::seeds },
    Target { name: "signature", run: signature, seeds: signature::seeds },
];

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The program of a target: libFuzzer's where cargo-fuzz builds it, else one that does nothing.
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            nave_fuzz::$target(bytes);
        });

        #[cfg(not(fuzzing))]
        fn main() {}
    };
}

/// Bytes that are the same every time and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}
