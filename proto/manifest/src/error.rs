//! Why a manifest is refused. Each reason has a name that a status, a log and a test can rely on.

/// Why some bytes are not a manifest, or some files do not make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More bytes than a manifest may have.
    #[error("manifest has {size} bytes, more than {limit}", limit = crate::MAX_MANIFEST_BYTES)]
    TooLarge {
        /// Bytes given.
        size: usize,
    },
    /// Not the JSON of a manifest: syntax, an unknown, missing or repeated field, a number out of its range.
    #[error("manifest is malformed: {0}")]
    Malformed(String),
    /// A format of a future or a foreign version.
    #[error("manifest has format {0:?}; this version of Nave reads {expected:?}", expected = crate::FORMAT_V1)]
    UnknownFormat(String),
    /// The same content, written in another way: its digest would not be the version's identity.
    #[error(
        "manifest is not in canonical form (first difference at byte {at}); write it with `kubectl nave publish`"
    )]
    NotCanonical {
        /// Offset of the first byte that differs from the canonical form.
        at: usize,
    },
    /// A version without files.
    #[error("manifest names no file")]
    NoFiles,
    /// More files than a version may have.
    #[error("manifest names {count} files, more than {limit}", limit = crate::MAX_FILES)]
    TooManyFiles {
        /// Files given.
        count: usize,
    },
    /// A path that is absolute, leaves its folder, or is not one.
    #[error("{0}")]
    BadPath(String),
    /// A path with characters that cannot be seen or that turn the text around.
    #[error("file path {path:?} has the invisible or direction-changing character U+{character:04X}")]
    InvisibleCharacter {
        /// The path.
        path: String,
        /// The first such character.
        character: u32,
    },
    /// A path that Nave keeps for itself.
    #[error(
        "file path {path:?} is reserved: manifest.json, *.sig and .nave/ are not part of a version's content"
    )]
    ReservedPath {
        /// The path.
        path: String,
    },
    /// The same path twice.
    #[error("file {path:?} is listed twice")]
    DuplicatePath {
        /// The path.
        path: String,
    },
    /// Two paths that some file systems take for one.
    #[error("files {first:?} and {second:?} differ only in case or Unicode form")]
    LookAlikePath {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A path that is both a file and the folder of another file.
    #[error("{file:?} is a file, so {below:?} cannot be below it")]
    FileIsFolder {
        /// The file.
        file: String,
        /// The path below it.
        below: String,
    },
    /// A size above what JSON numbers carry exactly.
    #[error("file {path:?} has a size of {size} bytes, more than 2^53 - 1")]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
    },
    /// Sizes that add up to more than can be counted.
    #[error("sizes overflow at file {path:?}")]
    SizeOverflow {
        /// The file where the sum left its range.
        path: String,
    },
    /// A digest that is not one.
    #[error("file {path:?} has a malformed {field}: {expected}")]
    BadDigest {
        /// The file.
        path: String,
        /// Which digest.
        field: &'static str,
        /// What it should look like.
        expected: &'static str,
    },
    /// Digests of one file that cannot all be true.
    #[error("file {path:?} contradicts itself: its {field} cannot belong to its size and its other digests")]
    ContradictoryDigest {
        /// The file.
        path: String,
        /// Which digest.
        field: &'static str,
    },
    /// Lengths and hashes of chunks that do not pair up.
    #[error("file {path:?} lists {lengths} chunk lengths and {hashes} chunk hashes")]
    ChunkCount {
        /// The file.
        path: String,
        /// Chunks by their lengths.
        lengths: u64,
        /// Chunks by their hashes.
        hashes: u64,
    },
    /// A chunk without bytes, or a run of no chunks.
    #[error("file {path:?} has an empty chunk")]
    EmptyChunk {
        /// The file.
        path: String,
    },
    /// A chunk that is longer than allowed.
    #[error("file {path:?} has a chunk of {length} bytes, more than {limit}", limit = crate::MAX_CHUNK)]
    ChunkTooLarge {
        /// The file.
        path: String,
        /// The chunk's length.
        length: u32,
    },
    /// Chunks that leave a gap or reach past the end.
    #[error("chunks of file {path:?} cover {covered} bytes of {size}")]
    ChunksDoNotCover {
        /// The file.
        path: String,
        /// Sum of the chunks' lengths.
        covered: u64,
        /// The file's size.
        size: u64,
    },
}

impl ManifestError {
    /// The reason in one CamelCase word, for statuses, exit codes and tests.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::Malformed(_) => "Malformed",
            Self::UnknownFormat(_) => "UnknownFormat",
            Self::NotCanonical { .. } => "NotCanonical",
            Self::NoFiles => "NoFiles",
            Self::TooManyFiles { .. } => "TooManyFiles",
            Self::BadPath(_) => "BadPath",
            Self::InvisibleCharacter { .. } => "InvisibleCharacter",
            Self::ReservedPath { .. } => "ReservedPath",
            Self::DuplicatePath { .. } => "DuplicatePath",
            Self::LookAlikePath { .. } => "LookAlikePath",
            Self::FileIsFolder { .. } => "FileIsFolder",
            Self::FileTooLarge { .. } => "FileTooLarge",
            Self::SizeOverflow { .. } => "SizeOverflow",
            Self::BadDigest { .. } => "BadDigest",
            Self::ContradictoryDigest { .. } => "ContradictoryDigest",
            Self::ChunkCount { .. } => "ChunkCount",
            Self::EmptyChunk { .. } => "EmptyChunk",
            Self::ChunkTooLarge { .. } => "ChunkTooLarge",
            Self::ChunksDoNotCover { .. } => "ChunksDoNotCover",
        }
    }
}
