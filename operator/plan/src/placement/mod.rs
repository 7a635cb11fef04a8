//! Placement: which clusters a policy chooses, in what order of preference, and why not the others.

mod bands;
mod beside;
pub(crate) mod cel;
mod cel_cost;
pub(crate) mod choose;
mod contest;
mod domains;
pub(crate) mod exclusion;
mod field;
mod member;
mod queue;
mod rank;
mod score;
mod spread;
mod standings;
mod taints;

pub(crate) use beside::{Beside, Stored};
pub(crate) use choose::{Choice, Winner, as_dropped, place, place_alone, places_alike, places_one_by_one};
pub(crate) use contest::Others;
pub(crate) use domains::Signature;
pub(crate) use field::{Field, Placed, Placing};
pub(crate) use member::{Asked, Kind, Member, Moved, Place, Reported, Rest};
pub(crate) use rank::Key;
