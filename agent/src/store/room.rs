//! Keeping within the room there is: what nothing needs stays between the watermarks, and goes when a pull needs its
//! place. Which versions go is the planner's decision, [`nave_agent_plan::evict()`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{PoisonError, atomic::Ordering},
};

use jiff::Timestamp;
use nave_agent_plan::{Kept, Shelf, Watermarks, evict};
use nave_names::Digest;

use super::{Evictable, Store, StoreError};

impl Store {
    /// Sets between which parts of the quota, in percent, versions that nothing needs are kept: above `high` they go, the
    /// longest unneeded first, until no more than `low` is taken. Without a quota the parts are the file system's. Both 0 =
    /// none is kept.
    pub fn set_watermarks(&self, high: u8, low: u8) {
        self.inner.marks.store(u64::from(high) << 8 | u64::from(low), Ordering::Relaxed);
    }

    /// What the store takes and may take, for the planner.
    ///
    /// # Errors
    /// What the file system says, or [`StoreError::Damaged`].
    pub fn shelf(&self) -> Result<Shelf, StoreError> {
        let Some((high, low)) = self.percent() else { return Ok(Shelf::default()) };
        let (total, taken) = self.taken_of()?;
        let mark = |percent: u64| total / 100 * percent;
        let marks = Watermarks { high: mark(high), low: mark(low) };
        let versions = if taken > marks.high { self.kept()? } else { BTreeMap::new() };
        Ok(Shelf { taken, marks, versions })
    }

    /// Bytes that would be free without what nothing needs.
    pub(super) fn evictable(&self) -> Result<u64, StoreError> {
        let Some(needed) = self.needed()? else { return Ok(0) };
        let held = self.digests()?;
        if held.iter().all(|digest| needed.contains(digest)) {
            return Ok(0);
        }
        let mut last = self.inner.evictable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && (&last.held, &last.needed) == (&held, &needed)
        {
            return Ok(last.bytes);
        }
        let bytes = evict(&self.kept()?, &needed, u64::MAX).bytes;
        *last = Some(Evictable { held, needed, bytes });
        Ok(bytes)
    }

    /// Drops what nothing needs, if that frees so much. False = it would not, and all is as it was.
    pub(super) fn make_room(&self, bytes: u64) -> Result<bool, StoreError> {
        let Some(needed) = self.needed()? else { return Ok(false) };
        let eviction = evict(&self.kept()?, &needed, bytes);
        if eviction.bytes < bytes {
            return Ok(false);
        }
        let report = self.evict(&eviction.versions.into_iter().collect())?;
        tracing::info!(versions = report.versions.len(), bytes = report.bytes, "made room for a pull");
        Ok(true)
    }

    /// Versions that must stay; `None` = nobody ever said, and all must.
    fn needed(&self) -> Result<Option<BTreeSet<Digest>>, StoreError> {
        let Some(roots) = self.roots()? else { return Ok(None) };
        Ok(Some(roots.0.into_keys().chain(self.pins().keys().copied()).collect()))
    }

    fn kept(&self) -> Result<BTreeMap<Digest, Kept>, StoreError> {
        let mut versions = BTreeMap::new();
        for digest in self.digests()? {
            let manifest = match self.manifest(&digest) {
                // Another pull has just made room.
                Err(StoreError::NotHeld(_)) => continue,
                found => found?,
            };
            let files = manifest.files().iter().map(|file| (file.sha256, file.size)).collect();
            versions.insert(digest, Kept { files, last_needed: self.last_needed(&digest) });
        }
        Ok(versions)
    }

    /// When the version was pulled, or ceased to be needed: the time of its manifest's file.
    fn last_needed(&self, digest: &Digest) -> Timestamp {
        let modified = fs::metadata(self.manifest_path(digest)).and_then(|found| found.modified());
        modified.ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::MIN)
    }

    fn percent(&self) -> Option<(u64, u64)> {
        let marks = self.inner.marks.load(Ordering::Relaxed);
        (marks > 0).then_some((marks >> 8, marks & 0xff))
    }
}
