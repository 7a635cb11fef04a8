//! Where URLs come from. The hub presigns them for a spoke's own assignment; a person who pulls by hand signs with
//! their own keys. Either way the engine only sees URLs that are good for a while, and asks again.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use nave_names::RelativePath;
use url::Url;

/// The most paths that a source is asked for at once: what one `UrlRequest` of the wire may hold.
pub const MAX_PATHS: usize = 1_000;

/// A URL that can be read until it expires.
#[derive(Clone)]
pub struct SignedUrl {
    /// Below the version's prefix.
    pub path: RelativePath,
    /// With its signature in the query: a secret, so it is never logged.
    pub url: Url,
    /// How long it is good for, from now. A duration, so that a wrong clock does no harm.
    pub valid_for: Duration,
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedUrl")
            .field("path", &self.path)
            .field("valid_for", &self.valid_for)
            .finish_non_exhaustive()
    }
}

/// Why there are no URLs.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UrlError {
    /// Asking again will not help until something is changed elsewhere: the entry is not assigned, the hub has no key.
    #[error("{message}")]
    Refused {
        /// A CamelCase word, such as the wire's `NotAssigned` or `CredentialsMissing`.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// Nobody to ask right now: the session is away, the hub restarts. Asked again with backoff.
    #[error("no one to sign URLs: {0}")]
    Unavailable(String),
}

/// Presigns URLs for the files of one version. `manifest.json` is one of the paths it is asked for.
pub trait UrlSource: Send + Sync + fmt::Debug {
    /// One URL for each path, in any order; at most [`MAX_PATHS`] paths.
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>>;
}
