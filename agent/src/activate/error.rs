//! Why a version could not be given to its runtime, or does not work there.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::store::StoreError;

/// Why a step on a model failed. [`ActivateError::reason`] is the word on the wire.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What was switched to is not what its manifest says.
    #[error("{} does not hold what its manifest says", .0.display())]
    NotIntact(PathBuf),
    /// The runtime `hook` was configured when the version was given to it, and is not now.
    #[error("no hook is configured on this spoke any more")]
    NoHook,
    /// The hook's program could not be started.
    #[error("cannot start the hook {program:?}: {source}")]
    HookStart {
        /// Its path.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// The hook said no.
    #[error("the hook failed to {action}: {problem}")]
    HookFailed {
        /// activate or deactivate
        action: &'static str,
        /// Exit code or status, and the end of what it said.
        problem: String,
    },
    /// The hook did not end.
    #[error("the hook did not {action} within {} s and was stopped", after.as_secs())]
    HookTimeout {
        /// activate or deactivate
        action: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The new version did not say that it works.
    #[error("no healthy answer from {url} within {} s; the last one: {last}", after.as_secs())]
    ProbeFailed {
        /// What was asked.
        url: String,
        /// How long it was given.
        after: Duration,
        /// What came instead.
        last: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// The agent is ending.
    #[error("stopped, because the agent is ending")]
    Aborted,
}

impl ActivateError {
    /// The reason in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::Io { .. } => "DiskError",
            Self::NotIntact(_) => "NotIntact",
            Self::NoHook => "RuntimeUnknown",
            Self::HookStart { .. } | Self::HookFailed { .. } => "HookFailed",
            Self::HookTimeout { .. } => "HookTimeout",
            Self::ProbeFailed { .. } => "ProbeFailed",
            Self::Client(_) => "ClientSetup",
            Self::Aborted => "Aborted",
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match StoreError::full(action, path, &source) {
            Some(full) => Self::Store(full),
            None => Self::Io { action, path: path.to_owned(), source },
        }
    }
}
