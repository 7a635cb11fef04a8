//! The codec on whole versions: any pair of versions survives it, and nothing hostile gets through.

#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod frames;
mod hostile;
mod pairs;
mod sizes;
mod world;
