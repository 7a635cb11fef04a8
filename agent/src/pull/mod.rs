//! Pulls a version into the store: parallel ranges of presigned URLs, every chunk verified as it arrives, every file
//! before anyone sees it; resumable after any death; within what the site allows.

mod adaptive;
mod backoff;
mod blocks;
mod client;
mod delta;
mod error;
mod fetch;
mod in_order;
mod large;
mod limiter;
mod limits;
mod manifest_fetch;
mod meter;
mod plain;
mod progress;
mod puller;
mod queue;
mod recovery;
mod run;
mod sharing;
mod signature;
mod source;
mod trouble;
mod urls;
mod workers;

pub use error::PullError;
pub use limiter::Limiter;
pub use limits::{Gate, Limits, Window, WindowError};
pub use plain::{Listed, list_digest};
pub use progress::{Progress, Stage};
pub use puller::{PullRequest, Puller};
pub use source::{MAX_PATHS, SignedUrl, UrlError, UrlSource};

/// Which of several pulls goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// To be served.
    Serve,
    /// To be had in time.
    Prefetch,
}
