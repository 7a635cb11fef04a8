//! Chunks as they lie in S3: read in ranges of neighbours, several at once, each compared with the manifest.

use std::sync::Arc;

use anyhow::bail;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use nave_manifest::{Blake3, Chunk, FileEntry};

use super::{
    carry::{Carried, Load, Piece},
    parts::Earlier,
};
use crate::publish::reader::Reader;

/// Bytes of a range; a chunk may be longer.
const GROUP: u64 = 8 << 20;
/// Ranges under way at once. Together with their length this bounds the memory.
const AT_ONCE: usize = 4;
/// One wrong answer may come from a cache in between.
const ATTEMPTS: u32 = 3;

/// Chunks of one file that follow one another, and where they go.
struct Group {
    file: FileEntry,
    chunks: Vec<Chunk>,
    /// In the parts.
    offset: u64,
}

impl Carried {
    /// Carries the chunks that the version's contents name.
    pub(super) async fn carry_chunks(&mut self, load: &Load) -> anyhow::Result<()> {
        let earlier = self.writer.earlier();
        let groups = groups(load, self.writer.position());
        let read = |group: Group| {
            let (reader, earlier) = (Arc::clone(&load.reader), earlier.clone());
            async move { group.read(&reader, &earlier).await }
        };
        let mut pieces = futures::stream::iter(groups).map(read).buffered(AT_ONCE);
        while let Some(piece) = pieces.try_next().await? {
            self.put(&piece)?;
        }
        Ok(())
    }
}

fn groups(load: &Load, mut offset: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (path, runs) in &load.version.contents.chunks {
        let Some(file) = load.reader.manifest().file(path) else { continue };
        let all: Vec<Chunk> = file.chunks.iter().collect();
        for (first, last) in runs.iter() {
            let mut rest = &all[first as usize..=last as usize];
            while let Some(begin) = rest.first() {
                let fits = |chunk: &&Chunk| chunk.end() - begin.offset <= GROUP;
                let count = rest.iter().take_while(fits).count().max(1);
                let (chunks, after) = rest.split_at(count);
                let length: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
                groups.push(Group { file: file.clone(), chunks: chunks.to_vec(), offset });
                offset += length;
                rest = after;
            }
        }
    }
    groups
}

impl Group {
    async fn read(&self, reader: &Reader, earlier: &Earlier) -> anyhow::Result<Piece> {
        let (begin, end) = (self.chunks[0].offset, self.chunks[self.chunks.len() - 1].end());
        if let Some(bytes) = earlier.read(self.offset, end - begin).await
            && self.wrong(&bytes).is_none()
        {
            return Ok(Piece { bytes: bytes.into(), is_there: true });
        }
        let mut attempts = 0;
        loop {
            let bytes: Bytes = reader.read(&self.file, begin..end).await?;
            let Some(chunk) = self.wrong(&bytes) else { return Ok(Piece::fetched(bytes)) };
            attempts += 1;
            if attempts >= ATTEMPTS {
                let (begin, end) = (chunk.offset, chunk.end());
                let (path, number) = (&self.file.path, chunk.index);
                bail!(
                    "{path} has wrong bytes in chunk {number} (bytes {begin}..{end}), {ATTEMPTS} times: the version in S3 \
                     is damaged, publish it as a new version"
                );
            }
        }
    }

    /// The first chunk that is not what the manifest says.
    fn wrong(&self, bytes: &[u8]) -> Option<&Chunk> {
        let begin = self.chunks[0].offset;
        self.chunks.iter().find(|chunk| {
            let (from, to) = ((chunk.offset - begin) as usize, (chunk.end() - begin) as usize);
            bytes.get(from..to).is_none_or(|bytes| Blake3::of(bytes) != chunk.blake3)
        })
    }
}
