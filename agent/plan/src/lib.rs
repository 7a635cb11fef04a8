//! The spoke's decisions: from what the hub asked ([`Ledger`]), what is on disk and under way ([`Inventory`]) and the
//! time, [`plan`] makes the steps to take next and the rows to report. Pure: no clock, no disk, no network. The shell
//! (nave-agent) takes a step, writes down what came of it, and plans again; nothing is remembered in between, so a
//! process that was killed goes on with the next plan.

pub mod attempts;
pub mod check;
pub mod entry;
pub mod evict;
mod imports;
pub mod inventory;
pub mod ledger;
mod plan;
mod refuse;
mod rows;
mod step;
pub mod tiers;

pub use attempts::{Attempts, Class, Failed, Failure, Subject};
pub use entry::{Action, Entry, EntryKey, Transfer, Vouch, Window};
pub use evict::{Eviction, Kept, Shelf, Watermarks, evict};
pub use imports::{Brought, ImportRefusal, Imports};
pub use inventory::{Active, Folder, Inventory, Job, ModelInventory, Record};
pub use ledger::{Desired, Ledger, Refusal};
pub use plan::{Plan, plan};
pub use refuse::{EntryRefusal, refusals};
pub use rows::{Phase, Row};
pub use step::Step;
pub use tiers::{Blocked, ColdShelf, Tiering, movable, plan_tiers};
