//! Why a signature does not count. Each reason has a name that conditions, reports, exit messages and tests rely on.

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not what signatures can be checked or made with.
    #[error("key is not usable: {0}")]
    Key(String),
    /// Not a bundle of the expected form.
    #[error("signature is malformed: {0}")]
    Malformed(String),
    /// Signed with another key, by the signature's own words.
    #[error("signature was made with another key (hint {hint}, this one is {key})")]
    OtherKey {
        /// What the signature says.
        hint: String,
        /// What the given key has.
        key: String,
    },
    /// By key where certificates are trusted, or the other way round.
    #[error("signature was made with {made}, and {trusted} is what is trusted here")]
    OtherMethod {
        /// How it was made.
        made: &'static str,
        /// How it should have been.
        trusted: &'static str,
    },
    /// The certificate does not come from a trusted authority, or is not for signing.
    #[error("signing certificate {subject} is refused: {problem}")]
    Certificate {
        /// Its own words.
        subject: String,
        /// The rule that it breaks.
        problem: String,
    },
    /// The mathematics say no.
    #[error("signature does not belong to this key and this content")]
    Invalid,
    /// Rightly signed, but not a statement about files that can be relied on.
    #[error("signed statement is refused: {0}")]
    Statement(String),
    /// Rightly signed, for other files.
    #[error("signed files are not those of the version: {0}")]
    OtherFiles(String),
}

impl SignatureError {
    /// The reason in one CamelCase word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "BadPublicKey",
            Self::Malformed(_) => "SignatureMalformed",
            Self::OtherKey { .. } => "SignedByAnotherKey",
            Self::OtherMethod { .. } => "SignedByAnotherMethod",
            Self::Certificate { .. } => "CertificateRefused",
            Self::Invalid => "SignatureInvalid",
            Self::Statement(_) => "SignedStatementRefused",
            Self::OtherFiles(_) => "SignedFilesDiffer",
        }
    }
}
