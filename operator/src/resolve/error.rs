//! Why a ModelVersion is not resolved: each reason has a name that conditions and metrics carry.

use nave_manifest::ManifestError;
use nave_names::Digest;

use super::source::SourceError;

/// Why a version has no usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// S3, or the way to it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing is there.
    #[error("there is no object below {place}")]
    EmptyPrefix {
        /// `s3://bucket/prefix`.
        place: String,
    },
    /// A key that cannot become a file on a spoke.
    #[error("object {key} cannot become a file: {problem}")]
    BadObjectKey {
        /// The object's key.
        key: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// What is in `manifest.json` is not a manifest, or the objects do not make one.
    #[error("{place}: {source}")]
    ManifestMalformed {
        /// `s3://bucket/prefix/manifest.json`.
        place: String,
        /// Which rule it breaks.
        #[source]
        source: ManifestError,
    },
    /// The spec pins another digest.
    #[error("the manifest has the digest {found}, but spec.manifestDigest pins {pinned}")]
    DigestMismatch {
        /// What the spec says.
        pinned: String,
        /// What is there.
        found: Digest,
    },
    /// The manifest is another than when the version was resolved.
    #[error("manifest.json was changed after the version was resolved: it was {resolved}, now it is {found}")]
    ManifestChanged {
        /// What status.manifestDigest says.
        resolved: String,
        /// What is there.
        found: Digest,
    },
    /// An object is another than when its manifest was made.
    #[error("object {key} {problem}")]
    ObjectChanged {
        /// The object's key.
        key: String,
        /// In what way.
        problem: String,
    },
    /// An object that the manifest names is gone.
    #[error("object {key} is named by the manifest but does not exist")]
    ObjectMissing {
        /// The object's key.
        key: String,
    },
    /// Another ModelVersion stands for the same version of the same model.
    #[error("ModelVersion {winner} was there first for version {version} of model {model}")]
    DuplicateVersion {
        /// The model.
        model: String,
        /// The version.
        version: String,
        /// The object that counts.
        winner: String,
    },
    /// The process is ending.
    #[error("hashing of {key} was interrupted")]
    Interrupted {
        /// The object's key.
        key: String,
    },
}

impl ResolveError {
    /// One CamelCase word, for conditions.
    pub fn reason(&self) -> &str {
        match self {
            Self::Source(error) => error.reason(),
            Self::EmptyPrefix { .. } => "EmptyPrefix",
            Self::BadObjectKey { .. } => "BadObjectKey",
            Self::ManifestMalformed { .. } => "ManifestMalformed",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::ManifestChanged { .. } => "ManifestChanged",
            Self::ObjectChanged { .. } => "ObjectChanged",
            Self::ObjectMissing { .. } => "ObjectMissing",
            Self::DuplicateVersion { .. } => "DuplicateVersion",
            Self::Interrupted { .. } => "Interrupted",
        }
    }

    /// Whether time alone is likely to mend it: then a version that was resolved before stays Ready meanwhile.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Interrupted { .. } => true,
            Self::EmptyPrefix { .. }
            | Self::BadObjectKey { .. }
            | Self::ManifestMalformed { .. }
            | Self::DigestMismatch { .. }
            | Self::ManifestChanged { .. }
            | Self::ObjectChanged { .. }
            | Self::ObjectMissing { .. }
            | Self::DuplicateVersion { .. } => false,
        }
    }
}
