//! Everything real: API server, S3 server, the built binaries, kubectl. Each test starts what it needs and ends it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

#[path = "e2e/away.rs"]
mod away;
#[path = "e2e/bundles.rs"]
mod bundles;
#[path = "e2e/by_hand.rs"]
mod by_hand;
#[path = "e2e/conflict.rs"]
mod conflict;
#[path = "e2e/deltas.rs"]
mod deltas;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/fleet_identity.rs"]
mod fleet_identity;
#[path = "e2e/fleet_scale.rs"]
mod fleet_scale;
#[path = "e2e/fleet_sessions.rs"]
mod fleet_sessions;
#[path = "e2e/fleet_wire.rs"]
mod fleet_wire;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/identity.rs"]
mod identity;
#[path = "e2e/kills.rs"]
mod kills;
#[path = "e2e/lifecycle.rs"]
mod lifecycle;
#[path = "e2e/pull_faults.rs"]
mod pull_faults;
#[path = "e2e/rollouts.rs"]
mod rollouts;
#[path = "e2e/signed.rs"]
mod signed;
#[path = "e2e/site.rs"]
mod site;
#[path = "e2e/six.rs"]
mod six;
#[path = "e2e/storage.rs"]
mod storage;
