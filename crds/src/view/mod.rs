//! The pure read model: what the hub and the CLI both ask of the objects. No client, no clock: time is an argument.

mod annotations;
mod assignment;
pub mod conditions;

pub use annotations::{Approval, approval, resumed_generation};
pub use assignment::short_digest;
