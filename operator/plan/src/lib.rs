//! The hub's planner. One consistent snapshot of the stored objects and the time go in; what shall be written, and a
//! report that says why, come out. No client, no clock, no environment, no random source: the same input gives the same
//! plan, in whatever order it was put together.

mod document;
mod plan;
mod report;
mod world;

pub use document::plan_document;
pub use plan::{Plan, PlanEvent, Severity, plan};
pub use report::{
    Category, ConditionReport, Excluded, ExclusionReason, Explanation, Name, PolicyReport, Ranked, Report,
    Wait,
};
pub use world::{PolicyKey, VersionKey, World};
