//! Writes ustar archives: what an image and its layer are. The same entries give the same bytes (no times, no owners but root).

use std::io::{self, Read, Write};

const BLOCK: usize = 512;

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct Tar<W: Write> {
    out: W,
}

impl<W: Write> Tar<W> {
    /// Starts an archive.
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds a folder; `path` ends with `/`.
    ///
    /// # Errors
    /// When the path is too long for ustar, or writing fails.
    pub(super) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.out.write_all(&header(path, mode, 0, b'5')?)
    }

    /// Adds a file of exactly `size` bytes.
    ///
    /// # Errors
    /// When the path is too long for ustar, when the content is shorter than `size`, or writing fails.
    pub(super) fn file(&mut self, path: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        self.out.write_all(&header(path, mode, size, b'0')?)?;
        let copied = io::copy(&mut content.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{path} is shorter than {size} bytes"),
            ));
        }
        let beyond = usize::try_from(size % BLOCK as u64).map_err(io::Error::other)?;
        self.out.write_all(&[0; BLOCK][..(BLOCK - beyond) % BLOCK])
    }

    /// Adds a file that is in memory.
    ///
    /// # Errors
    /// As `file`.
    pub(super) fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.file(path, mode, content.len() as u64, content)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When writing fails.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(path: &str, mode: u32, size: u64, kind: u8) -> io::Result<[u8; BLOCK]> {
    if path.len() > 100 {
        return Err(io::Error::other(format!("{path} does not fit into a ustar header")));
    }
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The checksum is taken with its own field as spaces.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}
