//! Against a real API server: what the charts install and with which rights, what the CRDs admit and refuse, what
//! `kubectl nave` does.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

#[path = "api/assets.rs"]
mod assets;
#[path = "api/charts.rs"]
mod charts;
#[path = "api/cli.rs"]
mod cli;
#[path = "api/crds.rs"]
mod crds;
#[path = "api/flags.rs"]
mod flags;
#[path = "api/helm.rs"]
mod helm;
#[path = "api/hub.rs"]
mod hub;
#[path = "api/live.rs"]
mod live;
#[path = "api/plan.rs"]
mod plan;
#[path = "api/plan_refused.rs"]
mod plan_refused;
#[path = "api/publish.rs"]
mod publish;
#[path = "api/server.rs"]
mod server;
#[path = "api/signatures.rs"]
mod signatures;
#[path = "api/steer.rs"]
mod steer;
#[path = "api/watch.rs"]
mod watch;
