//! Input: raw objects, parsed once into what the planner works with. Nothing behind this module looks at text that a user
//! wrote; what is malformed is named here and freezes the policy that it belongs to.

pub(crate) mod annotations;
pub(crate) mod assignment;
pub(crate) mod cluster;
pub(crate) mod duration;
mod fingerprint;
pub(crate) mod policy;
pub(crate) mod quantity;
pub(crate) mod selector;
pub(crate) mod share;
pub(crate) mod version;
pub(crate) mod window;

pub(crate) use assignment::{Assignment, Held, Rows, Told};
pub(crate) use cluster::{Cluster, Spoke};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use policy::{Policy, StepSpec};
pub(crate) use share::Share;
pub(crate) use version::{Catalogue, Version};
