//! The header of a GGUF file, read as it streams by: where its tensors start. The format's own description:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Types of tensors are not looked at, since new ones come
//! with every release: a tensor ends where the next one starts. Memory is one entry for each tensor, whatever the
//! vocabulary beside them.

/// The longest header that is followed, in bytes. Vocabularies of 260,000 tokens take about 12 MB.
const MAX_HEADER: u64 = 64 << 20;
/// The most tensors that are followed; the largest models have some thousands.
const MAX_TENSORS: u64 = 1 << 16;
/// The longest key or name, in bytes: what the format allows for keys.
const MAX_NAME: u64 = 65_535;
/// The most dimensions; the format has four today.
const MAX_DIMENSIONS: u32 = 8;
/// Where no key says otherwise, tensors start at multiples of this.
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
const ALIGNMENT_KEY: &[u8] = b"general.alignment";

const STRING: u32 = 8;
const ARRAY: u32 = 9;
const UINT32: u32 = 4;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Where it starts, in bytes after the header.
    pub offset: u64,
}

/// What a whole header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where the data starts in the file, in bytes.
    pub data: u64,
    /// By offset; the first starts at 0.
    pub tensors: Vec<Tensor>,
}

/// How far a header was read.
#[derive(Debug)]
pub enum Progress {
    /// It goes on at least up to this offset in the file.
    Reading(u64),
    /// It is whole.
    Whole(Layout),
    /// It is none.
    Broken,
}

/// Reads a header from pieces in order.
#[derive(Debug, Default)]
pub struct HeaderReader {
    /// Bytes that no whole item was made of yet, after those up to `used`.
    waiting: Vec<u8>,
    used: usize,
    /// Where in the file the next item starts.
    at: u64,
    /// Bytes to pass over first.
    skip: u64,
    stage: Stage,
    version: u32,
    alignment: Option<u64>,
    keys: u64,
    expected: u64,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Start,
    Key,
    Alignment,
    Text,
    List,
    Texts(u64),
    Tensor,
    End,
}

/// Why an item could not be read.
enum Stop {
    /// It has at least so many bytes.
    Needs(u64),
    Broken,
}

impl HeaderReader {
    /// Takes the next bytes of the file and says what is known by then. Ask no further once it is not
    /// [`Progress::Reading`].
    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        self.waiting.extend_from_slice(bytes);
        let progress = self.read_items();
        // Once a call, not once an item: whoever gives a whole file at once must not wait for it to be moved each time.
        self.waiting.drain(..self.used);
        self.used = 0;
        progress
    }

    fn read_items(&mut self) -> Progress {
        loop {
            let passed = self.skip.min((self.waiting.len() - self.used) as u64);
            self.skip -= passed;
            self.pass(usize::try_from(passed).unwrap_or(usize::MAX));
            if self.at + self.skip > MAX_HEADER {
                return Progress::Broken;
            }
            if self.skip > 0 {
                return Progress::Reading(self.at + self.skip);
            }
            if matches!(self.stage, Stage::End) {
                return self.layout();
            }
            match self.item() {
                Ok(length) => self.pass(length),
                Err(Stop::Needs(bytes)) => return Progress::Reading(self.at + bytes),
                Err(Stop::Broken) => return Progress::Broken,
            }
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.used += bytes;
        self.at += bytes as u64;
    }

    /// Reads one item of what is waiting and returns its length.
    fn item(&mut self) -> Result<usize, Stop> {
        let mut cursor = Cursor { bytes: &self.waiting[self.used..], at: 0 };
        match self.stage {
            Stage::Start => {
                let magic = cursor.take(4)?;
                self.version = cursor.u32()?;
                if magic != b"GGUF" || !(2..=3).contains(&self.version) {
                    return Err(Stop::Broken);
                }
                self.expected = cursor.u64()?;
                self.keys = cursor.u64()?;
                if self.expected == 0 || self.expected > MAX_TENSORS {
                    return Err(Stop::Broken);
                }
                self.stage = self.next_stage();
            }
            Stage::Key => {
                let is_alignment = cursor.text()? == ALIGNMENT_KEY;
                let kind = cursor.u32()?;
                self.keys -= 1;
                self.stage = match kind {
                    UINT32 if is_alignment && self.alignment.is_none() => Stage::Alignment,
                    _ if is_alignment => return Err(Stop::Broken),
                    STRING => Stage::Text,
                    ARRAY => Stage::List,
                    _ => {
                        self.skip = size_of_kind(kind)?;
                        self.next_stage()
                    }
                };
            }
            Stage::Alignment => {
                let alignment = u64::from(cursor.u32()?);
                if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
                    return Err(Stop::Broken);
                }
                self.alignment = Some(alignment);
                self.stage = self.next_stage();
            }
            Stage::Text => {
                self.skip = cursor.u64()?;
                bounded(self.skip)?;
                self.stage = self.next_stage();
            }
            Stage::List => {
                let kind = cursor.u32()?;
                let count = cursor.u64()?;
                bounded(count)?;
                self.stage = match kind {
                    STRING if count > 0 => Stage::Texts(count),
                    STRING => self.next_stage(),
                    _ => {
                        self.skip = count * size_of_kind(kind)?;
                        self.next_stage()
                    }
                };
            }
            Stage::Texts(left) => {
                // Each of them has a length at least: fewer, longer steps.
                let Ok(length) = cursor.u64() else { return Err(Stop::Needs(8 * left)) };
                bounded(length)?;
                self.skip = length;
                self.stage = if left > 1 { Stage::Texts(left - 1) } else { self.next_stage() };
            }
            Stage::Tensor => {
                let name = String::from_utf8(cursor.text()?.to_vec()).map_err(|_| Stop::Broken)?;
                let dimensions = cursor.u32()?;
                if dimensions > MAX_DIMENSIONS {
                    return Err(Stop::Broken);
                }
                cursor.take(8 * u64::from(dimensions) + 4)?;
                let offset = cursor.u64()?;
                self.tensors.push(Tensor { name, offset });
                self.stage = self.next_stage();
            }
            Stage::End => {}
        }
        Ok(cursor.at)
    }

    fn next_stage(&self) -> Stage {
        if self.keys > 0 {
            Stage::Key
        } else if (self.tensors.len() as u64) < self.expected {
            Stage::Tensor
        } else {
            Stage::End
        }
    }

    fn layout(&mut self) -> Progress {
        let alignment = self.alignment.unwrap_or(DEFAULT_ALIGNMENT);
        let data = self.at.next_multiple_of(alignment);
        let mut tensors = std::mem::take(&mut self.tensors);
        tensors.sort_by_key(|tensor| tensor.offset);
        let right = |tensor: &Tensor| {
            tensor.offset.is_multiple_of(alignment) && data.checked_add(tensor.offset).is_some()
        };
        if tensors.first().is_none_or(|first| first.offset != 0) || !tensors.iter().all(right) {
            return Progress::Broken;
        }
        // Two at one place: at most one of them has bytes.
        tensors.dedup_by_key(|tensor| tensor.offset);
        Progress::Whole(Layout { data, tensors })
    }
}

/// A count or length that no header could hold makes it none, before anything is multiplied by it.
const fn bounded(count: u64) -> Result<(), Stop> {
    if count > MAX_HEADER { Err(Stop::Broken) } else { Ok(()) }
}

const fn size_of_kind(kind: u32) -> Result<u64, Stop> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        // Strings and arrays inside arrays of arrays, and what a later version may bring.
        _ => Err(Stop::Broken),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let end = self.at as u64 + count;
        let taken = usize::try_from(end).ok().and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(Stop::Needs(end))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| Stop::Broken)
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| Stop::Broken)
    }

    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.u64()?;
        if length > MAX_NAME { Err(Stop::Broken) } else { self.take(length) }
    }
}
