//! Why a delta is refused. Each reason has a name that a log, a counter and a test can rely on.

use nave_names::Digest;

/// Why some bytes are not a delta of these two versions, or a block is not one of this chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// Not the bytes of a delta, or of a format of a future version.
    #[error("not a delta of this version: no {expected:?} at {at}")]
    BadMagic {
        /// What should stand there.
        expected: &'static str,
        /// Where: `start` or `end`.
        at: &'static str,
    },
    /// Fewer bytes than the parts that have to be there.
    #[error("delta is cut off: {found} bytes, expected {expected}")]
    CutOff {
        /// Bytes there are.
        found: u64,
        /// Bytes there have to be.
        expected: u64,
    },
    /// An index that is longer than one block for each chunk of the version.
    #[error("index of the delta has {found} bytes, more than {limit}")]
    IndexTooLarge {
        /// Bytes that it says it has.
        found: u64,
        /// The most that the target's chunks can need.
        limit: u64,
    },
    /// An index whose hash is not the one that was written beside it.
    #[error("index of the delta is damaged: its BLAKE3 is another one")]
    IndexDamaged,
    /// A delta from another base.
    #[error("delta is from base {found}, expected {expected}")]
    WrongBase {
        /// Of the base that is held.
        expected: Digest,
        /// Of the base that the delta names.
        found: Digest,
    },
    /// A delta to another version.
    #[error("delta is to version {found}, expected {expected}")]
    WrongTarget {
        /// Of the version that is wanted.
        expected: Digest,
        /// Of the version that the delta names.
        found: Digest,
    },
    /// A record that says something impossible.
    #[error("record {number} of the delta is refused: {reason}")]
    BadRecord {
        /// Its number, from 0.
        number: usize,
        /// The rule that it breaks.
        reason: BadRecord,
    },
    /// Blocks that do not fill the room between start and index.
    #[error("blocks of the delta have {found} bytes, there is room for {expected}")]
    BlocksDoNotFit {
        /// Sum of the blocks' lengths.
        found: u64,
        /// Bytes between the start and the index.
        expected: u64,
    },
    /// A block that does not decompress to the chunk's length.
    #[error("block does not decompress to the {expected} bytes of its chunk: {why}")]
    BadBlock {
        /// The chunk's length.
        expected: usize,
        /// What the decompressor says.
        why: String,
    },
    /// The list of deltas of a version is not one.
    #[error("list of deltas is refused: {0}")]
    BadCatalog(String),
    /// zstd could not be set up.
    #[error("cannot set up zstd: {0}")]
    Setup(String),
}

/// Which rule a record breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRecord {
    /// Records come by file and chunk, each once.
    #[error("it does not come after the one before it")]
    Order,
    /// A file or chunk that the target does not have.
    #[error("the version has no such chunk")]
    UnknownChunk,
    /// A file that the base does not have.
    #[error("the base has no such file")]
    UnknownBase,
    /// Bytes past the end of the base's file.
    #[error("it reaches past the end of the base's file")]
    PastBase,
    /// A method that this version does not know, or one that does not go with its base.
    #[error("its method is unknown or does not go with its base")]
    Method,
    /// Elements of a width that no type has.
    #[error("its element width is none of 1, 2, 4, 8")]
    Width,
    /// A block without bytes, or one that is not smaller than its chunk.
    #[error("its block is empty or not smaller than its chunk")]
    Length,
}

impl DeltaError {
    /// The reason in one CamelCase word, for logs, counters and tests.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadMagic { .. } => "BadMagic",
            Self::CutOff { .. } => "CutOff",
            Self::IndexTooLarge { .. } => "IndexTooLarge",
            Self::IndexDamaged => "IndexDamaged",
            Self::WrongBase { .. } => "WrongBase",
            Self::WrongTarget { .. } => "WrongTarget",
            Self::BadRecord { reason, .. } => match reason {
                BadRecord::Order => "RecordOrder",
                BadRecord::UnknownChunk => "UnknownChunk",
                BadRecord::UnknownBase => "UnknownBaseFile",
                BadRecord::PastBase => "PastBaseFile",
                BadRecord::Method => "UnknownMethod",
                BadRecord::Width => "BadWidth",
                BadRecord::Length => "BlockLength",
            },
            Self::BlocksDoNotFit { .. } => "BlocksDoNotFit",
            Self::BadBlock { .. } => "BadBlock",
            Self::BadCatalog(_) => "BadCatalog",
            Self::Setup(_) => "Setup",
        }
    }
}
