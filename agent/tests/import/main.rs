//! `nave-agent import` from outside: the real binary, bundles that are right and bundles that are not.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod hostile;
mod imports;
mod kills;
mod maker;
mod memory;
mod refusals;
