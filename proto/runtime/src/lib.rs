//! What both binaries need to run: telemetry, drain, readiness, build info, and the HTTP port that shows them. It knows
//! nothing of hubs and spokes.

pub mod address;
pub mod admin;
pub mod build;
pub mod drain;
pub mod error_text;
pub mod readiness;
pub mod telemetry;
