//! What can go wrong with the store, with the numbers and names that a person needs.

use std::{
    io,
    path::{Path, PathBuf},
};

use nave_names::Digest;

use super::Space;

/// The reason of every failure that more room would cure.
pub const DISK_FULL: &str = "DiskFull";

/// The reason of a move to a cold tier that has no room for it.
pub const COLD_TIER_FULL: &str = "ColdTierFull";

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open for writing.
    #[error(
        "store {path} is in use by process {holder}; an agent that runs collects by itself, and `store ls` and `store \
         verify` work beside it", path = path.display()
    )]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// Its process id, or `unknown`.
        holder: String,
    },
    /// Not enough room, known before the first byte was written.
    #[error(
        "disk full: {needed} bytes are needed in {path}, {available} are available and {reserved} of those are \
         promised to other pulls", path = path.display()
    )]
    DiskFull {
        /// The store's folder.
        path: PathBuf,
        /// Bytes that the version still needs, with a margin.
        needed: u64,
        /// Bytes that the file system has left for us.
        available: u64,
        /// Bytes of those that running pulls will write.
        reserved: u64,
    },
    /// No room left in the middle of something: another program took what was set aside for nobody.
    #[error(
        "cannot {action} {path}: the disk is full, {available} of {total} bytes are available", path = path.display()
    )]
    Full {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Bytes that the file system has left for us.
        available: u64,
        /// Its size in bytes.
        total: u64,
    },
    /// A version that is not in the store, or not completely.
    #[error("version {0} is not in the store")]
    NotHeld(Digest),
    /// A file of the store that is not what its name says.
    #[error("{what} in the store is damaged; run `nave-agent store verify --repair`")]
    Damaged {
        /// Which blob or manifest.
        what: String,
    },
    /// No room on the cold tier for what should go there.
    #[error(
        "cold tier full: {needed} bytes should move to {path}, which has {} left: {taken} of {most} bytes are taken; {tiers}",
        most.saturating_sub(*taken), path = path.display()
    )]
    ColdTierFull {
        /// The cold tier's folder.
        path: PathBuf,
        /// Bytes that should move.
        needed: u64,
        /// Bytes that are taken of it.
        taken: u64,
        /// Bytes that may be.
        most: u64,
        /// What is free on both tiers.
        tiers: String,
    },
    /// The cold tier is not where it should be.
    #[error("the cold tier {} is not there: {why}", path.display())]
    ColdTierAway {
        /// Its folder.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// A version that has to be brought to the hot tier first.
    #[error("version {0} is on the cold tier")]
    OnColdTier(Digest),
    /// Told to stop; what was done until then stays done.
    #[error("stopped")]
    Stopped,
    /// A folder to materialise into that cannot be replaced.
    #[error("cannot put files into {path}: {why}", path = path.display())]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl StoreError {
    /// The reason in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "StoreInUse",
            Self::DiskFull { .. } | Self::Full { .. } => DISK_FULL,
            Self::NotHeld(_) => "NotHeld",
            Self::Damaged { .. } => "StoreDamaged",
            Self::ColdTierFull { .. } => COLD_TIER_FULL,
            Self::ColdTierAway { .. } => "ColdTierAway",
            Self::OnColdTier(_) => "OnColdTier",
            Self::Stopped => "Stopped",
            Self::Target { .. } => "TargetNotUsable",
            Self::Io { source, .. } => io_reason(source.kind()),
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::full(action, &path, &source).unwrap_or(Self::Io { action, path, source })
    }

    /// The error that says how full the disk is, if that is what went wrong.
    pub(crate) fn full(action: &'static str, path: &Path, source: &io::Error) -> Option<Self> {
        if !matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return None;
        }
        let Space { total, available } = Space::around(path);
        Some(Self::Full { action, path: path.to_owned(), available, total })
    }
}

fn io_reason(kind: io::ErrorKind) -> &'static str {
    let named = [
        (io::ErrorKind::ReadOnlyFilesystem, "DiskReadOnly"),
        (io::ErrorKind::PermissionDenied, "DiskPermissionDenied"),
    ];
    named.iter().find(|(known, _)| *known == kind).map_or("DiskError", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_up_in_the_middle_says_how_full_it_is() {
        let no_space = io::Error::from_raw_os_error(28);
        let error = StoreError::io("write", std::env::temp_dir().join("not/there/yet"))(no_space);
        assert_eq!(error.reason(), DISK_FULL);
        let Space { total, .. } = Space::around(&std::env::temp_dir());
        assert!(
            total > 0 && error.to_string().contains(&format!("of {total} bytes are available")),
            "{error}"
        );
    }
}
