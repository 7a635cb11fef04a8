//! The pull engine and the store against a real HTTP server on loopback that misbehaves on demand.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod bar;
mod collecting;
mod copies;
mod crash;
mod deltas;
mod faults;
mod listed;
mod memory;
mod peers;
mod plain;
mod pulls;
mod server;
mod signatures;
mod stores;
mod tiers;
mod world;
