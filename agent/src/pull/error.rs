//! Why a pull failed. Whatever could be waited out has been; the next attempt goes on where this one stopped.

use nave_manifest::ManifestError;
use nave_names::Digest;
use nave_signature::SignatureError;

use crate::store::StoreError;

/// Why a version is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The pull was told to stop.
    #[error("the pull was cancelled")]
    Cancelled,
    /// The source of URLs says no.
    #[error("no URLs for the version's files: {message} ({reason})")]
    UrlsRefused {
        /// The source's own reason, such as `NotAssigned`.
        reason: String,
        /// The source's sentence.
        message: String,
    },
    /// An object of the version is gone, or is not what the manifest says; fetching it again would not help.
    #[error("version is broken: object {object} {what}")]
    VersionBroken {
        /// Path of the object below the version's prefix.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// An object of the version is not there.
    #[error("version is broken: object {object} is not there (status {status} {message})")]
    Missing {
        /// Path of the object below the version's prefix.
        object: String,
        /// S3's status: 404, or 410.
        status: u16,
        /// S3's own words, its code first: `NoSuchKey`, or `NoSuchBucket`.
        message: String,
    },
    /// Whoever answered could not prove to be S3.
    #[error(
        "cannot trust the server that {object} is to come from: {message}; if it has a certificate authority of its own, \
         name that one's file"
    )]
    Untrusted {
        /// Path of the object below the version's prefix.
        object: String,
        /// What is wrong with its certificate.
        message: String,
    },
    /// New URLs were refused as well.
    #[error("S3 refuses to give object {object} even with a new URL: {message}")]
    AccessDenied {
        /// Path of the object below the version's prefix.
        object: String,
        /// S3's own words.
        message: String,
    },
    /// Fetched several times over new connections, wrong each time.
    #[error(
        "object {object} has wrong bytes in chunk {chunk} (bytes {begin}..{end}), {attempts} times over new connections: \
         expected BLAKE3 {expected}, the last one had {found}"
    )]
    DigestMismatch {
        /// Path of the object below the version's prefix.
        object: String,
        /// The chunk's number, from 0.
        chunk: usize,
        /// Its first byte.
        begin: u64,
        /// The byte after its last.
        end: u64,
        /// How often it was fetched.
        attempts: u32,
        /// By the manifest.
        expected: String,
        /// By the bytes.
        found: String,
    },
    /// Every chunk is right and the file is not: the manifest contradicts itself.
    #[error(
        "manifest contradicts itself: all chunks of {object} match, its SHA-256 is {found} and not {expected}"
    )]
    FileDigestMismatch {
        /// Path of the object below the version's prefix.
        object: String,
        /// By the manifest.
        expected: Digest,
        /// By the bytes.
        found: Digest,
    },
    /// The manifest that S3 has is not the one that was assigned.
    #[error(
        "manifest.json has the digest {found}, the assigned version has {expected}: the object was changed"
    )]
    ManifestMismatch {
        /// What was assigned.
        expected: Digest,
        /// What S3 has.
        found: Digest,
    },
    /// The manifest is not one, or a hostile one.
    #[error("manifest {digest} is refused")]
    ManifestRefused {
        /// Its digest.
        digest: Digest,
        /// The rule that it breaks.
        source: ManifestError,
    },
    /// The version has to be signed and is not.
    #[error("the version has to be signed, and its model.sig {what}")]
    SignatureMissing {
        /// What is there instead.
        what: String,
    },
    /// The version has to be signed, and its signature does not count.
    #[error("the version's signature is refused")]
    SignatureRefused(#[from] SignatureError),
    /// Nothing came for as long as the caller was willing to wait.
    #[error("no verified byte for {waited_seconds} s, last trouble: {trouble}")]
    SourceUnavailable {
        /// How long nothing came.
        waited_seconds: u64,
        /// What went wrong last.
        trouble: String,
    },
    /// The disk: full, read-only, failing, or in use by someone else.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

impl PullError {
    /// The reason in one CamelCase word, for reports and exit codes.
    pub fn reason(&self) -> &str {
        match self {
            Self::Cancelled => "Cancelled",
            Self::UrlsRefused { reason, .. } => reason,
            Self::VersionBroken { .. } | Self::Missing { .. } => "VersionBroken",
            Self::Untrusted { .. } => "CertificateNotTrusted",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::DigestMismatch { .. } | Self::FileDigestMismatch { .. } => "DigestMismatch",
            Self::ManifestMismatch { .. } => "ManifestMismatch",
            Self::ManifestRefused { source, .. } => source.name(),
            Self::SignatureMissing { .. } => "SignatureMissing",
            Self::SignatureRefused(error) => error.name(),
            Self::SourceUnavailable { .. } => "SourceUnavailable",
            Self::Store(error) => error.reason(),
            Self::Client(_) => "ClientSetup",
        }
    }

    /// True where another attempt without a change elsewhere cannot succeed.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::VersionBroken { .. }
            | Self::Missing { .. }
            | Self::DigestMismatch { .. }
            | Self::FileDigestMismatch { .. }
            | Self::ManifestMismatch { .. }
            | Self::ManifestRefused { .. }
            | Self::SignatureMissing { .. }
            | Self::SignatureRefused(_)
            | Self::UrlsRefused { .. } => true,
            Self::Cancelled
            | Self::AccessDenied { .. }
            | Self::Untrusted { .. }
            | Self::SourceUnavailable { .. }
            | Self::Store(_)
            | Self::Client(_) => false,
        }
    }
}
