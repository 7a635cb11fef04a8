//! Skeleton.

pub mod fleet;
pub mod node;
