//! One chunk as a block and back: XOR with the base's bytes, byte planes, zstd. A block decodes on its own, so a killed
//! decode or download goes on at the next one, and what both sides need is a few times the length of a chunk.

use crate::{DeltaError, Method, Record, frame, planes};

/// Of levels 1 to 9 the sizes of planes differ by under 2%, and the time by ten times.
const LEVEL: i32 = 1;

/// A chunk in fewer bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// How it was made.
    pub method: Method,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Makes blocks, one after the other, with the same buffers.
pub struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    planes: Vec<u8>,
}

/// Reads blocks, one after the other, with the same buffers.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    planes: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// [`DeltaError::Setup`] if zstd gets no memory.
    pub fn new() -> Result<Self, DeltaError> {
        let zstd =
            zstd::bulk::Compressor::new(LEVEL).map_err(|error| DeltaError::Setup(error.to_string()))?;
        Ok(Self { zstd, planes: Vec::new() })
    }

    /// The smaller of XOR with `base` (of the chunk's length, if there is one) and the chunk alone; `None` where
    /// neither is smaller than the chunk.
    ///
    /// # Errors
    /// [`DeltaError::Setup`] if zstd gets no memory.
    pub fn encode(
        &mut self,
        chunk: &[u8],
        base: Option<&[u8]>,
        width: u8,
    ) -> Result<Option<Block>, DeltaError> {
        let mut best: Option<Block> = None;
        if let Some(base) = base.filter(|base| base.len() == chunk.len()) {
            best = Some(self.pack(chunk, Some(base), width)?);
        }
        // Half a chunk saved is the base's doing. Less may be less than what the chunk saves without it: a layer that was
        // begun anew, numbers that were rounded.
        if best.as_ref().is_none_or(|block| block.bytes.len() > chunk.len() / 2) {
            let alone = self.pack(chunk, None, width)?;
            if best.as_ref().is_none_or(|block| alone.bytes.len() < block.bytes.len()) {
                best = Some(alone);
            }
        }
        Ok(best.filter(|block| block.bytes.len() + Record::BYTES < chunk.len()))
    }

    fn pack(&mut self, chunk: &[u8], base: Option<&[u8]>, width: u8) -> Result<Block, DeltaError> {
        planes::split(chunk, base, width, &mut self.planes);
        let bytes = self.zstd.compress(&self.planes).map_err(|error| DeltaError::Setup(error.to_string()))?;
        Ok(Block { method: if base.is_some() { Method::Xor } else { Method::Alone }, bytes })
    }
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// [`DeltaError::Setup`] if zstd gets no memory.
    pub fn new() -> Result<Self, DeltaError> {
        let zstd = zstd::bulk::Decompressor::new().map_err(|error| DeltaError::Setup(error.to_string()))?;
        Ok(Self { zstd, planes: Vec::new() })
    }

    /// Turns `bytes`, which holds the base's bytes where the record has a base, into the chunk. What comes out is to be
    /// compared with the chunk's BLAKE3: a base that is not what it should be shows there and nowhere else.
    ///
    /// # Errors
    /// [`DeltaError::BadBlock`] for a block that is not one frame of exactly the chunk's length; no more memory than that is
    /// used.
    pub fn decode(&mut self, record: &Record, block: &[u8], bytes: &mut [u8]) -> Result<(), DeltaError> {
        let expected = bytes.len();
        let bad = |why: String| DeltaError::BadBlock { expected, why };
        frame::check(block, expected).map_err(bad)?;
        if record.base.is_none() {
            bytes.fill(0);
        }
        // Never shorter again: chunks differ in length, and what is added has to be zeroed each time.
        if self.planes.len() < expected {
            self.planes.resize(expected, 0);
        }
        // Their length is the limit: a block that becomes longer than it says is an error of zstd's.
        let planes = &mut self.planes[..expected];
        let length = self.zstd.decompress_to_buffer(block, planes).map_err(|error| bad(error.to_string()))?;
        if length != expected {
            return Err(bad(format!("it has {length}")));
        }
        planes::join_into(&self.planes[..expected], record.width, bytes);
        Ok(())
    }
}
