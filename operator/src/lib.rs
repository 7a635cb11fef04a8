//! The hub: watches, plans, applies, and serves the spokes' sessions. `app` wires it; everything else is one concern.

pub mod app;
pub mod args;
pub mod gateway;
pub mod http;
pub mod json_patch;
pub mod leader;
pub mod metrics;
pub mod pki;
pub mod planner;
pub mod precedence;
pub mod progress;
pub mod resolve;
pub mod watch;
