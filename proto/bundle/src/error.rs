//! Why a bundle is refused. Each reason has a name that an exit message and a test can rely on.

/// Why some bytes are no `bundle.json`, or one that cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// More bytes than it may have.
    #[error("bundle.json has {size} bytes, more than {limit}", limit = crate::MAX_BUNDLE_BYTES)]
    TooLarge {
        /// Bytes given.
        size: usize,
    },
    /// Not the JSON of a bundle: syntax, an unknown or missing field, a name or a digest that is none.
    #[error("bundle.json is malformed: {0}")]
    Malformed(String),
    /// A format of a future or a foreign version.
    #[error("bundle.json has format {0:?}; this version of Nave reads {expected:?}", expected = crate::FORMAT_V1)]
    UnknownFormat(String),
    /// The same content, written in another way: something may hide in it.
    #[error(
        "bundle.json is not in the form that `kubectl nave bundle export` writes (first difference at byte {at})"
    )]
    NotCanonical {
        /// Offset of the first byte that differs.
        at: usize,
    },
    /// A part by a name that no part has: another folder's, a hidden one's, any.
    #[error("bundle.json names a part {name:?} where {expected:?} has to be")]
    BadPartName {
        /// As written.
        name: String,
        /// The only name that it may have.
        expected: String,
    },
    /// Fields that cannot all be true.
    #[error("bundle.json contradicts itself: {0}")]
    Inconsistent(String),
    /// Parts that hold more or less than the versions need.
    #[error("bundle.json contradicts itself: its parts hold {held} bytes, its versions need {needed}")]
    PartsDoNotFit {
        /// Sum of the parts' sizes.
        held: u64,
        /// Sum of the contents.
        needed: u64,
    },
    /// Chunks that the version's manifest does not have.
    #[error("bundle.json names chunks of {path:?} that {manifest} does not have: {why}")]
    UnknownChunks {
        /// Digest of the manifest.
        manifest: String,
        /// The file.
        path: String,
        /// What is wrong with them.
        why: String,
    },
}

impl BundleError {
    /// The reason in one CamelCase word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "BundleTooLarge",
            Self::Malformed(_) => "BundleMalformed",
            Self::UnknownFormat(_) => "UnknownBundleFormat",
            Self::NotCanonical { .. } => "BundleNotCanonical",
            Self::BadPartName { .. } => "BadPartName",
            Self::Inconsistent(_) | Self::PartsDoNotFit { .. } => "BundleInconsistent",
            Self::UnknownChunks { .. } => "UnknownChunks",
        }
    }
}
