//! The delta of a pull: is there one from something that the store holds, what does it rebuild, and how one block becomes
//! a chunk. Without a delta a pull costs one small request more, and nothing at all where the store is empty. A delta that
//! is missing, damaged, or lies is never an error: its chunks are fetched as they are.

use std::{
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use nave_delta::{Catalog, Decoder, Index, Offer, Record, catalog_path, delta_path, tail_limit};
use nave_manifest::Manifest;
use nave_names::{Digest, RelativePath};
use tokio::task::spawn_blocking;

use super::{
    PullError,
    fetch::Part,
    manifest_fetch::fetch_bytes,
    recovery::Recovery,
    trouble::{Failure, Streak, Trouble},
};
use crate::store::Store;

/// How often the list or an index is asked for when the server has trouble; the version's own files have more patience.
const MAX_ATTEMPTS: u32 = 5;
/// After so many blocks that could not be used, the rest of the delta is not fetched: a base that was damaged on the disk,
/// or a delta that lies, would cost the link every block as well as every chunk.
const MAX_REFUSED: u32 = 3;

/// A delta that is smaller than what it rebuilds.
#[derive(Debug)]
pub(super) struct Delta {
    /// Of the object, below the version's prefix.
    pub(super) path: RelativePath,
    /// Of the object, in bytes.
    pub(super) size: u64,
    records: Vec<Record>,
    base: Manifest,
    store: Store,
    scratch: Mutex<Vec<Scratch>>,
    refused: AtomicU32,
    given_up: AtomicBool,
}

/// What one rebuild at a time needs, kept for the next one: a fresh buffer each time costs the page faults of a chunk's length.
#[derive(Debug)]
struct Scratch {
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Delta {
    /// Its blocks, as they lie in the object.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether nothing more is to be taken from it.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Takes nothing more from it.
    pub(super) fn give_up(&self, why: &dyn std::fmt::Display) {
        if !self.given_up.swap(true, Ordering::Relaxed) {
            tracing::warn!(delta = %self.path, reason = %why, "delta is given up; fetching whole chunks");
        }
    }

    /// A block could not be used.
    pub(super) fn note_refused(&self, why: &str) {
        let times = 1 + self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(delta = %self.path, reason = why, times, "block of a delta is refused; fetching the whole chunk");
        if times >= MAX_REFUSED {
            self.give_up(&"too many of its blocks were refused");
        }
    }

    /// Gives the bytes of a chunk to `take`, to be compared with its hash; or says why there are none. Blocks.
    pub(super) fn rebuild<T>(
        &self,
        record: &Record,
        block: &[u8],
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, String> {
        let free = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = free().pop();
        let mut scratch = match earlier {
            Some(scratch) => scratch,
            None => {
                let decoder = Decoder::new().map_err(|error| error.to_string())?;
                Scratch { decoder, bytes: Vec::new() }
            }
        };
        let taken = self.decode(record, block, &mut scratch).map(take);
        free().push(scratch);
        taken
    }

    fn decode<'a>(
        &self,
        record: &Record,
        block: &[u8],
        Scratch { decoder, bytes }: &'a mut Scratch,
    ) -> Result<&'a [u8], String> {
        let length = record.length as usize;
        // Never shorter again: chunks differ in length, and what is added has to be zeroed each time.
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        let bytes = &mut bytes[..length];
        if let Some(span) = record.base {
            let sha256 = self.base.files()[span.file].sha256;
            self.store
                .open_blob(&sha256)
                .and_then(|blob| blob.read_exact_at(bytes, span.offset))
                .map_err(|error| format!("base's blob {sha256} cannot be read: {error}"))?;
        }
        decoder.decode(record, block, bytes).map_err(|error| format!("{error} ({})", error.name()))?;
        Ok(bytes)
    }
}

/// The smallest delta to this version from a version that the store holds. `missing` = bytes that would be fetched
/// without one.
pub(super) async fn find(
    recovery: &Recovery,
    store: &Store,
    target: &Manifest,
    missing: u64,
) -> Result<Option<Delta>, PullError> {
    let held = {
        let store = store.clone();
        spawn_blocking(move || store.digests()).await.map_err(|_| PullError::Cancelled)??
    };
    if held.is_empty() || missing == 0 {
        return Ok(None);
    }
    let limit = Catalog::MAX_BYTES as u64;
    let Some(bytes) = fetch_optional(recovery, &catalog_path(), Part::AtMost(limit), limit).await? else {
        return Ok(None);
    };
    let catalog = match Catalog::parse(&bytes) {
        Ok(catalog) => catalog,
        Err(error) => {
            refuse(recovery, &catalog_path(), &error);
            return Ok(None);
        }
    };
    for offer in useful(catalog.offers(), &held, missing, tail_limit(target)) {
        if let Some(delta) = open(recovery, store, target, offer).await? {
            return Ok(Some(delta));
        }
    }
    Ok(None)
}

/// The deltas from a version that is held (`held` is sorted) whose index alone does not cost more bytes than `missing`, nor
/// `most`; the smallest first.
fn useful<'a>(offers: &'a [Offer], held: &[Digest], missing: u64, most: u64) -> Vec<&'a Offer> {
    let is_useful = |offer: &&Offer| {
        held.binary_search(&offer.base).is_ok() && offer.index_size < missing && offer.index_size <= most
    };
    let mut offers: Vec<_> = offers.iter().filter(is_useful).collect();
    offers.sort_by_key(|offer| offer.size);
    offers
}

/// Fetches the index of a delta and compares it with both versions.
async fn open(
    recovery: &Recovery,
    store: &Store,
    target: &Manifest,
    offer: &Offer,
) -> Result<Option<Delta>, PullError> {
    let path = delta_path(&offer.base);
    let size = offer.size;
    let part = Part::Range { begin: size - offer.index_size, end: size, size };
    let Some(tail) = fetch_optional(recovery, &path, part, offer.index_size).await? else {
        return Ok(None);
    };
    let base = match store.manifest(&offer.base) {
        Ok(base) => base,
        Err(error) => {
            refuse(recovery, &path, &error);
            return Ok(None);
        }
    };
    match Index::parse(&tail, size, &base, target) {
        Ok(index) => {
            tracing::info!(base = %offer.base, blocks = index.records().len(), size, "taking a delta");
            Ok(Some(Delta {
                path,
                size,
                records: index.into_records(),
                base,
                store: store.clone(),
                scratch: Mutex::default(),
                refused: AtomicU32::new(0),
                given_up: AtomicBool::new(false),
            }))
        }
        Err(error) => {
            refuse(recovery, &path, &error);
            Ok(None)
        }
    }
}

fn refuse(recovery: &Recovery, object: &RelativePath, why: &dyn std::error::Error) {
    recovery.meter.change(|progress| progress.delta_refusals += 1);
    tracing::warn!(%object, reason = %why, "delta is refused; fetching whole chunks");
}

/// An object that need not be there; `None` where it is not, or does not come.
async fn fetch_optional(
    recovery: &Recovery,
    path: &RelativePath,
    part: Part,
    limit: u64,
) -> Result<Option<Vec<u8>>, PullError> {
    let mut streak = Streak::default();
    let mut attempts = 0;
    loop {
        recovery.wait_for_window().await;
        let trouble = match fetch_bytes(&recovery.fetcher(), recovery.client(false)?, path, part, limit).await
        {
            Ok(bytes) => return Ok(Some(bytes)),
            // Without the right to list, S3 says 403 of what is not there.
            Err(Failure::Retry(Trouble::Refused { status, .. })) => {
                tracing::debug!(object = %path, status, "no delta");
                return Ok(None);
            }
            Err(Failure::Stop(error)) if is_about_the_object(&error) => {
                tracing::debug!(object = %path, reason = error.reason(), "no delta");
                return Ok(None);
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Retry(trouble)) => trouble,
        };
        attempts += u32::from(trouble != Trouble::WindowClosed);
        if attempts >= MAX_ATTEMPTS {
            tracing::info!(object = %path, %trouble, "does not come; going on without a delta");
            return Ok(None);
        }
        match recovery.recover(path, Failure::Retry(trouble), &mut streak).await {
            Err(error) if is_about_the_object(&error) => return Ok(None),
            recovered => recovered?,
        }
    }
}

/// Whether the error says something of one object, and nothing of the pull.
pub(super) const fn is_about_the_object(error: &PullError) -> bool {
    match error {
        PullError::VersionBroken { .. }
        | PullError::Missing { .. }
        | PullError::AccessDenied { .. }
        | PullError::UrlsRefused { .. } => true,
        PullError::Cancelled
        | PullError::Untrusted { .. }
        | PullError::DigestMismatch { .. }
        | PullError::FileDigestMismatch { .. }
        | PullError::ManifestMismatch { .. }
        | PullError::ManifestRefused { .. }
        | PullError::SignatureMissing { .. }
        | PullError::SignatureRefused(_)
        | PullError::SourceUnavailable { .. }
        | PullError::Store(_)
        | PullError::Client(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use nave_manifest::FileHasher;

    use super::*;

    #[test]
    fn after_some_blocks_that_were_of_no_use_the_rest_is_not_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let empty = FileHasher::new(RelativePath::new("model.bin").unwrap()).finish();
        let delta = Delta {
            path: catalog_path(),
            size: 1,
            records: Vec::new(),
            base: Manifest::new(vec![empty]).unwrap(),
            store: Store::open(folder.path()).unwrap(),
            scratch: Mutex::default(),
            refused: AtomicU32::new(0),
            given_up: AtomicBool::new(false),
        };
        for times in 1..=MAX_REFUSED {
            assert!(!delta.is_given_up());
            delta.note_refused(&format!("refusal {times}"));
        }
        assert!(delta.is_given_up());
    }

    #[test]
    fn the_smallest_delta_from_what_is_held_is_tried_first_and_no_index_costs_more_than_it_saves() {
        let mut held = [Digest::of(b"held"), Digest::of(b"held too"), Digest::of(b"held as well")];
        let offer = |base: Digest, size, index_size| Offer { base, size, index_size };
        let offers = [
            offer(held[0], 900, 100),
            offer(Digest::of(b"gone"), 100, 10),
            offer(held[1], 500, 100),
            offer(held[2], 200, 150),
        ];
        held.sort_unstable();
        let sizes = |missing, most| {
            useful(&offers, &held, missing, most).iter().map(|offer| offer.size).collect::<Vec<_>>()
        };
        assert_eq!(sizes(10_000, 150), [200, 500, 900]);
        assert_eq!(sizes(10_000, 149), [500, 900], "an index that is too large to hold");
        assert_eq!(sizes(101, 150), [500, 900]);
        assert_eq!(sizes(100, 150), [0; 0], "to fetch what is missing costs no more");
    }
}
