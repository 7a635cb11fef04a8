//! The bundle's folder: made beside its place under the name `DIR.unfinished`, and renamed when it is whole, so that
//! nobody carries away what only looks like a bundle. bundle.json comes after the parts, and the signature last.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nave_bundle::{BUNDLE_FILE, Bundle, POLICY_FILE, README_FILE};
use nave_names::{Digest, RelativePath};
use nave_signature::SIGNATURE_FILE;
use rustix::fs::{FlockOperation, flock, statvfs};

use super::{readme, signer::Signing};

/// Left free beyond the parts: bundle.json, README.txt, the signature and the folder itself.
const MARGIN: u64 = 4 << 20;

/// The folder on its way.
pub(super) struct Folder {
    /// Where it shall be.
    to: PathBuf,
    work: PathBuf,
    /// Held, so that no other export writes into it.
    _lock: File,
}

impl Folder {
    /// Looks at the place, and makes the folder beside it or finds the one that an interrupted export left.
    pub(super) fn begin(to: &Path) -> anyhow::Result<Self> {
        let to = std::path::absolute(to).context("--to")?;
        let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
            bail!("--to {}: it has no name of its own, give it one below", to.display());
        };
        fs::create_dir_all(parent).with_context(|| format!("creating folder {}", parent.display()))?;
        check_free(&to, parent)?;
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        let work = parent.join(unfinished);
        match fs::create_dir(&work) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("creating folder {}", work.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let lock = File::open(&work).with_context(|| format!("opening folder {}", work.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another export is writing into {}", work.display());
        }
        // What an earlier attempt wrote last is not true of this one.
        for file in [SIGNATURE_FILE, BUNDLE_FILE, README_FILE, POLICY_FILE] {
            match fs::remove_file(work.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", work.join(file).display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self { to, work, _lock: lock })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.work
    }

    /// Whether the parts will fit, by the numbers of the file system.
    pub(super) fn check_room(&self, bytes: u64) -> anyhow::Result<()> {
        let found = statvfs(&self.work).with_context(|| format!("looking at {}", self.work.display()))?;
        let mut there = 0;
        for entry in fs::read_dir(&self.work).with_context(|| format!("reading {}", self.work.display()))? {
            there += entry?.metadata()?.blocks() * 512;
        }
        let available = found.f_bavail.saturating_mul(found.f_frsize);
        let needed = bytes.saturating_sub(there) + MARGIN;
        if needed > available {
            bail!(
                "disk full: {needed} bytes are needed in {}, {available} are available",
                self.work.display()
            );
        }
        Ok(())
    }

    /// Writes what says what the parts are, signs all of it, and puts the folder in its place.
    pub(super) fn finish(self, bundle: &Bundle, policy: Option<&str>, key: &Signing) -> anyhow::Result<()> {
        self.remove_others(bundle)?;
        let mut signed = BTreeMap::new();
        for part in &bundle.parts {
            signed.insert(RelativePath::new(part.name.as_str())?, part.sha256);
        }
        let mut write = |name: &str, bytes: &[u8]| {
            signed.insert(RelativePath::new(name)?, Digest::of(bytes));
            self.write(name, bytes)
        };
        write(README_FILE, readme::text(bundle).as_bytes())?;
        if let Some(policy) = policy {
            write(POLICY_FILE, policy.as_bytes())?;
        }
        write(BUNDLE_FILE, &bundle.to_bytes())?;
        let signature = key.key.sign(&bundle.source.to_string(), &signed, &[SIGNATURE_FILE]);
        self.write(SIGNATURE_FILE, &signature.context("signing")?)?;
        sync(&self.work)?;
        let placing = || format!("renaming {} to {}", self.work.display(), self.to.display());
        fs::rename(&self.work, &self.to).with_context(placing)?;
        self.to.parent().map_or(Ok(()), sync)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.work.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Parts that another split or another version left.
    fn remove_others(&self, bundle: &Bundle) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.work).with_context(|| format!("reading {}", self.work.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            if bundle.parts.iter().any(|part| *part.name == name) {
                continue;
            }
            let is_part =
                name.to_str().is_some_and(|name| name.starts_with("part-") && name.ends_with(".nave"));
            if !is_part {
                bail!("{} is not of this export: remove it", entry.path().display());
            }
            fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
        Ok(())
    }
}

/// A place where nothing is, or an empty folder that can be replaced.
fn check_free(to: &Path, parent: &Path) -> anyhow::Result<()> {
    let found = match fs::symlink_metadata(to) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", to.display())),
    };
    if !found.is_dir() {
        bail!("--to {}: something is there, and it is no folder", to.display());
    }
    if found.dev() != fs::metadata(parent).with_context(|| format!("looking at {}", parent.display()))?.dev()
    {
        bail!(
            "--to {}: a disk is mounted there; give the bundle a folder on it: {}",
            to.display(),
            to.join("NAME").display()
        );
    }
    if to.join(BUNDLE_FILE).exists() {
        bail!("--to {}: a bundle is there already; remove it, or write this one elsewhere", to.display());
    }
    let is_empty = fs::read_dir(to).with_context(|| format!("reading {}", to.display()))?.next().is_none();
    if is_empty { Ok(()) } else { bail!("--to {}: it is not empty", to.display()) }
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|open| open.sync_all())
        .with_context(|| format!("syncing {}", folder.display()))
}
