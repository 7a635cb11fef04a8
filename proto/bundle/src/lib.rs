//! The bundle: model versions in a folder that is carried to a site without a network. `docs/offline.md` describes the
//! format. This crate reads `bundle.json` strictly, writes it canonically, and says where in the parts each byte of a
//! version lies; it opens no file and knows no signature: the CLI that writes bundles and the agent that imports them
//! bring the bytes.

mod bundle;
mod choose;
mod error;
mod places;
mod runs;
mod wire;

pub use bundle::{Base, Bundle, Contents, MAX_BUNDLE_BYTES, MAX_PARTS, MAX_VERSIONS, Part, Source, Version};
pub use choose::Had;
pub use error::BundleError;
pub use places::{Place, Section, Sections};
pub use runs::Runs;

/// What a bundle holds, and where.
pub const BUNDLE_FILE: &str = "bundle.json";
/// For the person at the site.
pub const README_FILE: &str = "README.txt";
/// The policy of a bundle that was made for one, as it was.
pub const POLICY_FILE: &str = "policy.yaml";
/// The format that this crate reads and writes.
pub const FORMAT_V1: &str = "nave.dev/bundle/v1";

/// The name of the part with this number, counted from 1. No other name is read.
pub fn part_name(number: usize) -> String {
    format!("part-{number:05}.nave")
}
