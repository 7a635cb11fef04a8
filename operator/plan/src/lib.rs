//! The hub's planner. One consistent snapshot of the stored objects and the time go in; what shall be written, and a
//! report that says why, come out. No client, no clock, no environment, no random source: the same input gives the same
//! plan, in whatever order it was put together.

mod at_rest;
mod check;
mod conditions;
mod document;
mod entries;
mod events;
mod family;
mod input;
mod members;
mod outcome;
mod placement;
mod plan;
mod planner;
mod ranks;
mod report;
mod rollout;
mod slot;
mod status;
mod tally;
mod world;

pub use check::check;
pub use document::plan_document;
pub use input::quantity::whole_amount;
pub use plan::{Decisions, Plan, PlanEvent, Severity, plan};
pub use planner::Planner;
pub use report::{
    Category, ConditionReport, Excluded, ExclusionReason, Explanation, Failure, Name, PolicyReport, Ranked,
    Report, Wait,
};
pub use world::{PolicyKey, PolicyKeyError, VersionKey, World};
