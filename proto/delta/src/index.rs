//! The index at the end of a delta object: which chunk each block rebuilds, from which bytes of the base. It is at the
//! end because it is known last, and read first, with one ranged request whose length the version's list of deltas says.
//! A value of [`Index`] has been compared with both manifests: every record names a chunk that there is and bytes of the
//! base that there are.

use nave_manifest::{Chunk, FileEntry, Manifest};
use nave_names::Digest;

use crate::{DeltaError, Recipe, error::BadRecord};

/// First bytes of every delta object; the digit is the format's version.
pub const MAGIC: &[u8; 8] = b"NAVEDLT1";
const END_MAGIC: &[u8; 8] = b"NAVEDLTE";
/// Base, target, and the number of records.
const HEAD: usize = 32 + 32 + 4;
/// Length of the index, its BLAKE3, and the last magic.
const FOOTER: usize = 8 + 32 + 8;
/// In the place of a base's file where there is none.
const NO_BASE: u32 = u32::MAX;

/// The most bytes that index and footer may have: a block for each of the 1.4 million chunks of the largest manifest.
pub const MAX_TAIL: u64 = 64 << 20;

/// What turns a block into its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// zstd, byte planes.
    Alone,
    /// zstd, byte planes, XOR with bytes of the base.
    Xor,
}

/// Bytes of the base; as many as the chunk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of the file in the base's manifest.
    pub file: usize,
    /// First byte in that file.
    pub offset: u64,
}

/// One block: where it lies, and which chunk it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position of the file in the target's manifest.
    pub file: usize,
    /// Position of the chunk in that file.
    pub chunk: usize,
    /// The chunk's length in bytes.
    pub length: u32,
    /// What it is XORed with.
    pub base: Option<Span>,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub width: u8,
    /// First byte of the block in the delta object.
    pub offset: u64,
    /// Length of the block in bytes, less than the chunk's.
    pub stored: u32,
}

impl Record {
    /// Bytes of a record in the index.
    pub const BYTES: usize = 28;

    /// The byte after the block's last.
    pub const fn end(&self) -> u64 {
        self.offset + self.stored as u64
    }

    /// What turns the block into the chunk.
    pub const fn method(&self) -> Method {
        if self.base.is_some() { Method::Xor } else { Method::Alone }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (file, offset) = self.base.map_or((NO_BASE, 0), |span| (number(span.file), span.offset));
        out.extend(number(self.file).to_le_bytes());
        out.extend(number(self.chunk).to_le_bytes());
        out.extend(file.to_le_bytes());
        out.extend([if self.base.is_some() { 2 } else { 1 }, self.width, 0, 0]);
        out.extend(offset.to_le_bytes());
        out.extend(self.stored.to_le_bytes());
    }
}

/// Files and chunks are numbered with 32 bits; a manifest of 64 MiB cannot have more.
fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The most bytes that index and footer of a delta to this version can have.
pub fn tail_limit(target: &Manifest) -> u64 {
    let chunks: usize = target.files().iter().map(|file| file.chunks.len()).sum();
    ((HEAD + FOOTER + chunks * Record::BYTES) as u64).min(MAX_TAIL)
}

/// Collects the records of a delta while its blocks are written.
#[derive(Debug)]
pub struct IndexWriter {
    base: Digest,
    target: Digest,
    records: Vec<Record>,
    offset: u64,
}

impl IndexWriter {
    /// For a delta of which [`MAGIC`] is written.
    pub const fn new(base: Digest, target: Digest) -> Self {
        Self { base, target, records: Vec::new(), offset: MAGIC.len() as u64 }
    }

    /// Notes a block that is written next. Blocks come in the order of the plan.
    pub fn push(&mut self, recipe: &Recipe, block: &crate::Block) {
        let record = Record {
            file: recipe.file,
            chunk: recipe.chunk,
            length: recipe.length,
            base: recipe.base.filter(|_| block.method == Method::Xor),
            width: recipe.width,
            offset: self.offset,
            stored: u32::try_from(block.bytes.len()).unwrap_or(u32::MAX),
        };
        self.offset = record.end();
        self.records.push(record);
    }

    /// What was noted so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Bytes of the whole object if it ended now.
    pub const fn size(&self) -> u64 {
        self.offset + (HEAD + FOOTER + self.records.len() * Record::BYTES) as u64
    }

    /// Index and footer, the object's last bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(HEAD + FOOTER + self.records.len() * Record::BYTES);
        tail.extend(self.base.as_bytes());
        tail.extend(self.target.as_bytes());
        tail.extend(number(self.records.len()).to_le_bytes());
        self.records.iter().for_each(|record| record.write(&mut tail));
        let length = tail.len() as u64;
        let hash = blake3::hash(&tail);
        tail.extend(length.to_le_bytes());
        tail.extend(hash.as_bytes());
        tail.extend(END_MAGIC);
        tail
    }
}

/// What a delta holds, compared with both manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    records: Vec<Record>,
}

impl Index {
    /// Reads the last bytes of a delta object of `size` bytes, which may be hostile.
    ///
    /// # Errors
    /// [`DeltaError`] names the record and the rule that it breaks.
    pub fn parse(tail: &[u8], size: u64, base: &Manifest, target: &Manifest) -> Result<Self, DeltaError> {
        let index = checked_index(tail, tail_limit(target))?;
        let cut_off = || DeltaError::CutOff { found: index.len() as u64, expected: HEAD as u64 };
        let (from, rest) = index.split_first_chunk::<32>().ok_or_else(cut_off)?;
        let (to, rest) = rest.split_first_chunk::<32>().ok_or_else(cut_off)?;
        let (count, records) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let (expected, found) = (base.digest(), Digest::from_bytes(*from));
        if expected != found {
            return Err(DeltaError::WrongBase { expected, found });
        }
        let (expected, found) = (target.digest(), Digest::from_bytes(*to));
        if expected != found {
            return Err(DeltaError::WrongTarget { expected, found });
        }
        let (records, surplus) = records.as_chunks::<{ Record::BYTES }>();
        let count = u32::from_le_bytes(*count);
        if number(records.len()) != count || !surplus.is_empty() {
            let expected = HEAD as u64 + u64::from(count) * Record::BYTES as u64;
            return Err(DeltaError::CutOff { found: index.len() as u64, expected });
        }
        let mut reading = Reading::new(base.files(), target.files());
        let records = records
            .iter()
            .enumerate()
            .map(|(number, record)| {
                reading.record(record).map_err(|reason| DeltaError::BadRecord { number, reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let expected = size.saturating_sub((index.len() + FOOTER) as u64);
        if reading.offset != expected {
            let magic = MAGIC.len() as u64;
            let (found, expected) = (reading.offset - magic, expected.saturating_sub(magic));
            return Err(DeltaError::BlocksDoNotFit { found, expected });
        }
        Ok(Self { records })
    }

    /// The blocks in the order in which they lie in the object: by file and chunk, without a gap.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The same, to keep.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }
}

/// The index without its footer, whose length and hash are right.
fn checked_index(tail: &[u8], limit: u64) -> Result<&[u8], DeltaError> {
    let found = tail.len() as u64;
    if found > limit {
        return Err(DeltaError::IndexTooLarge { found, limit });
    }
    let Some((index, footer)) = tail.split_last_chunk::<FOOTER>() else {
        return Err(DeltaError::CutOff { found, expected: FOOTER as u64 });
    };
    let (length, rest) = footer.split_at(8);
    let (hash, magic) = rest.split_at(32);
    if magic != END_MAGIC {
        return Err(DeltaError::BadMagic { expected: "NAVEDLTE", at: "end" });
    }
    if length != (index.len() as u64).to_le_bytes() {
        let said = length.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let expected = said.saturating_add(FOOTER as u64);
        return Err(DeltaError::CutOff { found, expected });
    }
    if hash != blake3::hash(index).as_bytes() { Err(DeltaError::IndexDamaged) } else { Ok(index) }
}

/// Walks the records and the target's chunks side by side, so that each is looked at once.
struct Reading<'a> {
    base: &'a [FileEntry],
    target: &'a [FileEntry],
    /// The file that the last record named, and its chunks after that one.
    file: usize,
    chunks: Box<dyn Iterator<Item = Chunk> + 'a>,
    /// Where the next block begins.
    offset: u64,
}

impl<'a> Reading<'a> {
    fn new(base: &'a [FileEntry], target: &'a [FileEntry]) -> Self {
        let mut reading =
            Self { base, target, file: 0, chunks: Box::new(std::iter::empty()), offset: MAGIC.len() as u64 };
        reading.open(0);
        reading
    }

    fn open(&mut self, file: usize) {
        if let Some(entry) = self.target.get(file) {
            self.file = file;
            self.chunks = Box::new(entry.chunks.iter());
        }
    }

    /// The length of a chunk that comes after the last one.
    fn length(&mut self, file: usize, chunk: usize) -> Result<u32, BadRecord> {
        let chunks = self.target.get(file).ok_or(BadRecord::UnknownChunk)?.chunks.len();
        if chunk >= chunks {
            return Err(BadRecord::UnknownChunk);
        }
        if file < self.file {
            return Err(BadRecord::Order);
        }
        if file > self.file {
            self.open(file);
        }
        // A chunk that was passed already is not found again.
        self.chunks
            .by_ref()
            .find(|found| found.index >= chunk)
            .filter(|found| found.index == chunk)
            .map(|found| found.length)
            .ok_or(BadRecord::Order)
    }

    fn record(&mut self, bytes: &[u8; Record::BYTES]) -> Result<Record, BadRecord> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (file, chunk) = (word(0) as usize, word(4) as usize);
        let length = self.length(file, chunk)?;
        let base = match (bytes[12], word(8)) {
            (1, NO_BASE) => None,
            (2, base) if base != NO_BASE => {
                Some(Span { file: base as usize, offset: u64::from(word(16)) | u64::from(word(20)) << 32 })
            }
            _ => return Err(BadRecord::Method),
        };
        if let Some(Span { file, offset }) = base {
            let size = self.base.get(file).ok_or(BadRecord::UnknownBase)?.size;
            offset.checked_add(u64::from(length)).filter(|end| *end <= size).ok_or(BadRecord::PastBase)?;
        }
        let width = bytes[13];
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(BadRecord::Width);
        }
        let (offset, stored) = (self.offset, word(24));
        if stored == 0 || stored >= length {
            return Err(BadRecord::Length);
        }
        let record = Record { file, chunk, length, base, width, offset, stored };
        self.offset = record.end();
        Ok(record)
    }
}
