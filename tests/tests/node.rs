//! A real kubelet and containerd: what the charts install runs as pods. Needs root and Debian's containerd, runc and CNI plugins;
//! says so and passes where they are missing, except in CI.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

#[path = "node/bring_up.rs"]
mod bring_up;
#[path = "node/charts.rs"]
mod charts;
#[path = "node/fleet.rs"]
mod fleet;
#[path = "node/site.rs"]
mod site;
