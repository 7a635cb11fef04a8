//! The agent against a loopback hub (real gRPC, real mutual TLS) and a loopback object server: in process where timing
//! matters, as the real binary where it is killed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.
#![allow(unreachable_pub)]
#![allow(clippy::wildcard_enum_match_arm)]

mod disk;
mod full_disk;
mod hub;
mod joining;
mod killing;
mod objects;
mod process;
mod serving;
mod sharing_blocks;
mod site;
mod storage;
mod telling;
mod tiers;
