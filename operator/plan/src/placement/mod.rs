//! Placement: which clusters a policy chooses, in what order of preference, and why not the others.

pub(crate) mod cel;
mod cel_cost;
pub(crate) mod choose;
pub(crate) mod exclusion;
mod rank;
mod score;
mod spread;
mod taints;

pub(crate) use choose::{Choice, Member, Winner, place};
