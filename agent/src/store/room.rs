//! Keeping within the room there is: what nothing needs stays between the watermarks, and goes when a pull needs its
//! place. Which versions go is the planner's decision, [`nave_agent_plan::evict()`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{PoisonError, atomic::Ordering},
};

use jiff::Timestamp;
use nave_agent_plan::{ColdShelf, Kept, Shelf, Tiering, Watermarks, evict, plan_tiers};
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
        let cold = self.cold_shelf()?;
        let tiered = self.cold_dir().is_some();
        let Some((high, low)) = self.percent() else {
            let versions = if tiered { self.kept()? } else { BTreeMap::new() };
            return Ok(Shelf { versions, cold, ..Shelf::default() });
        };
        let (total, taken) = self.taken_of()?;
        let marks = marks_of(total, high, low);
        let versions = if tiered || taken > marks.high { self.kept()? } else { BTreeMap::new() };
        Ok(Shelf { taken, marks, versions, cold })
    }

    /// What the cold tier takes and may take; `None` where there is none that takes anything.
    pub(super) fn cold_shelf(&self) -> Result<Option<ColdShelf>, StoreError> {
        let Some((usage, limits)) = self.cold_usage()? else { return Ok(None) };
        let (total, taken) = usage.taken_of();
        let most = taken.saturating_add(usage.left_beside_margin());
        let marks = marks_of(total, limits.high.into(), limits.low.into());
        Ok(Some(ColdShelf { taken, most, marks }))
    }

    /// What would move and go if there were no more room; `None` without a cold tier that takes anything.
    fn tiering(&self, needed: &BTreeSet<Digest>) -> Result<Option<Tiering>, StoreError> {
        let Some(cold) = self.cold_shelf()? else { return Ok(None) };
        let Some(hot) = self.kept_hot() else { return Ok(Some(Tiering::default())) };
        let hot = hot.into_iter().chain(self.pins().keys().copied()).collect();
        let shelf = Shelf { versions: self.kept()?, cold: Some(cold), ..Shelf::default() };
        Ok(Some(plan_tiers(&shelf, needed, &hot)))
    }

    /// Bytes that would be free without what nothing needs.
    pub(super) fn evictable(&self) -> Result<u64, StoreError> {
        let Some(needed) = self.needed()? else { return Ok(0) };
        if let Some(tiering) = self.tiering(&needed)? {
            return Ok(tiering.frees);
        }
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
        let bytes = evict(&self.kept_on_hot()?, &needed, u64::MAX).bytes;
        *last = Some(Evictable { held, needed, bytes });
        Ok(bytes)
    }

    /// What does not belong on the hot tier leaves it now.
    fn move_out_of_the_way(&self, tiering: &Tiering) -> Result<bool, StoreError> {
        if !tiering.evict.is_empty() {
            self.evict(&tiering.evict)?;
        }
        for digest in &tiering.demote {
            match self.demote(digest, &|| false) {
                Ok(moved) => {
                    tracing::info!(%digest, bytes = moved.bytes, "moved to the cold tier, to make room for a pull");
                }
                // What is missing on the hot tier is what the pull is to say.
                Err(error) => {
                    tracing::warn!(%digest, %error, "cannot move to the cold tier");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Drops what nothing needs, or moves it to the cold tier, if that frees so much. False = it would not, and all is as it was.
    pub(super) fn make_room(&self, bytes: u64) -> Result<bool, StoreError> {
        let Some(needed) = self.needed()? else { return Ok(false) };
        if let Some(tiering) = self.tiering(&needed)? {
            return Ok(tiering.frees >= bytes && self.move_out_of_the_way(&tiering)?);
        }
        let eviction = evict(&self.kept_on_hot()?, &needed, bytes);
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

    /// Every version with what it takes.
    pub(super) fn kept(&self) -> Result<BTreeMap<Digest, Kept>, StoreError> {
        let cold_only = self.cold_only()?;
        let mut versions = BTreeMap::new();
        for digest in self.digests()? {
            let files = match self.contents(&digest) {
                // Another pull has just made room.
                Err(StoreError::NotHeld(_)) => continue,
                found => found?,
            };
            let cold = files.keys().filter(|file| cold_only.contains(*file)).copied().collect();
            versions.insert(digest, Kept { files, cold, last_needed: self.last_needed(&digest) });
        }
        let mut known = self.inner.contents.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|digest, _| versions.contains_key(digest));
        Ok(versions)
    }

    /// The same with only those files that are on the hot tier.
    fn kept_on_hot(&self) -> Result<BTreeMap<Digest, Kept>, StoreError> {
        let mut versions = self.kept()?;
        for kept in versions.values_mut() {
            kept.files.retain(|file, _| !kept.cold.contains(file));
        }
        Ok(versions)
    }

    fn contents(&self, digest: &Digest) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let known = || self.inner.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = known().get(digest) {
            return Ok(files.clone());
        }
        let manifest = self.manifest(digest)?;
        let files: BTreeMap<_, _> = manifest.files().iter().map(|file| (file.sha256, file.size)).collect();
        known().insert(*digest, files.clone());
        Ok(files)
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

fn marks_of(total: u64, high: u64, low: u64) -> Watermarks {
    let mark = |percent: u64| total / 100 * percent;
    Watermarks { high: mark(high), low: mark(low) }
}
