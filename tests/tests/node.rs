//! A real kubelet and containerd: what the charts install runs as pods. Needs root and Debian's containerd, runc and CNI plugins;
//! says so and passes where they are missing, except in CI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may unwrap and panic")]

#[path = "node/bring_up.rs"]
mod bring_up;
#[path = "node/charts.rs"]
mod charts;
#[path = "node/fleet.rs"]
mod fleet;
#[path = "node/site.rs"]
mod site;
