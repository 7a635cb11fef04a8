//! Exit codes and the last words of the commands that people and scripts call by hand.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use serde::Serialize;

use nave_runtime::error_text::chain;

use crate::{pull::PullError, store::StoreError};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output, for scripts; errors too.
    Json,
}

/// What a command ends with. 2 is clap's, for arguments that are not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something else went wrong.
    Failed = 1,
    /// Arguments that contradict each other; clap's own code.
    Usage = 2,
    /// The bytes are not what they should be: wrong digest, broken version, refused manifest or signature.
    Refused = 3,
    /// Not allowed: S3 or the hub says no.
    Denied = 4,
    /// Nobody answered for too long.
    Unavailable = 5,
    /// The disk: full, read-only, failing, or in use.
    Disk = 6,
    /// Told to stop by SIGINT or SIGTERM; what was verified until then is kept. As shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, in the two forms that it is printed in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    reason: String,
    message: String,
    #[serde(skip)]
    exit: Exit,
}

impl Failure {
    /// A failure of this command itself.
    pub fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), exit }
    }

    /// The same failure with something that the caller knows about it.
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> Self {
        self.message = format!("{}; {hint}", self.message);
        self
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        let exit = match &error {
            PullError::VersionBroken { .. }
            | PullError::Missing { .. }
            | PullError::DigestMismatch { .. }
            | PullError::FileDigestMismatch { .. }
            | PullError::ManifestMismatch { .. }
            | PullError::ManifestRefused { .. }
            | PullError::SignatureMissing { .. }
            | PullError::SignatureRefused(_) => Exit::Refused,
            PullError::UrlsRefused { .. } | PullError::AccessDenied { .. } => Exit::Denied,
            PullError::SourceUnavailable { .. } | PullError::Untrusted { .. } => Exit::Unavailable,
            PullError::Store(_) => Exit::Disk,
            PullError::Cancelled => Exit::Interrupted,
            PullError::Client(_) => Exit::Failed,
        };
        Self::new(exit, error.reason(), chain(&error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Damaged { .. } => Exit::Refused,
            StoreError::InUse { .. }
            | StoreError::DiskFull { .. }
            | StoreError::Full { .. }
            | StoreError::NotHeld(_)
            | StoreError::ColdTierFull { .. }
            | StoreError::ColdTierAway { .. }
            | StoreError::OnColdTier(_)
            | StoreError::Target { .. }
            | StoreError::Io { .. } => Exit::Disk,
            StoreError::Stopped => Exit::Interrupted,
        };
        Self::new(exit, error.reason(), chain(&error))
    }
}

/// Prints what a command has to say, and ends it. Where even that cannot be written there is nobody to tell.
pub(super) fn finish<T: Serialize>(
    output: Output,
    result: &Result<(Exit, T), Failure>,
    text: impl FnOnce(&T) -> String,
) -> ExitCode {
    let (exit, written) = match (result, output) {
        (Ok((exit, value)), Output::Text) => (*exit, writeln!(io::stdout(), "{}", text(value))),
        (Ok((exit, value)), Output::Json) => (*exit, print_json(value)),
        (Err(failure), Output::Text) => {
            (failure.exit, writeln!(io::stderr(), "error: {} ({})", failure.message, failure.reason))
        }
        (Err(failure), Output::Json) => (failure.exit, print_json(&serde_json::json!({ "error": failure }))),
    };
    match written {
        Ok(()) => exit.into(),
        Err(_) => Exit::Failed.into(),
    }
}

fn print_json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout(), "{text}")
}
