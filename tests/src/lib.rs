//! Skeleton.

pub mod node;
