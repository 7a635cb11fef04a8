//! Pulls a version into the store: parallel ranges of presigned URLs, every chunk verified as it arrives, every file
//! before anyone sees it; resumable after any death; within what the site allows.

mod error;
mod limits;
mod progress;
mod source;

pub use error::PullError;
pub use limits::{Gate, Limits, Window, WindowError};
pub use progress::{Progress, Stage};
pub use source::{MAX_PATHS, SignedUrl, UrlError, UrlSource};

use std::{sync::Arc, time::Duration};

use nave_names::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which of several pulls goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// To be served.
    Serve,
    /// To be had in time.
    Prefetch,
}

/// One version to be had.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// What identifies the version.
    pub manifest_digest: Digest,
    /// Who presigns the URLs of its files.
    pub source: Arc<dyn UrlSource>,
    /// The site's limits as they are now; they apply to all pulls.
    pub limits: Limits,
    /// Against other pulls.
    pub priority: Priority,
    /// How long to go on without a single verified byte before giving up.
    pub patience: Duration,
    /// Told what happens.
    pub progress: watch::Sender<Progress>,
    /// Stops the pull; what was fetched stays for the next attempt.
    pub cancel: CancellationToken,
}
