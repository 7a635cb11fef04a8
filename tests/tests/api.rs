//! Against a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may unwrap and panic")]

#[path = "api/charts.rs"]
mod charts;
#[path = "api/helm.rs"]
mod helm;
