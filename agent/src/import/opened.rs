//! A bundle whose signature was checked, with everything that can be known of it without reading its parts.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nave_bundle::{BUNDLE_FILE, Bundle, MAX_BUNDLE_BYTES, POLICY_FILE, README_FILE};
use nave_names::{Digest, RelativePath};
use nave_signature::{MAX_SIGNATURE_BYTES, SIGNATURE_FILE, SignatureError};
use rustix::fs::OFlags;

use super::{ImportError, Trusted, parts::Parts};

/// The most bytes of README.txt and policy.yaml.
const MAX_BESIDE: u64 = 4 << 20;

/// A bundle.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) bundle: Bundle,
    /// Of `bundle.json`.
    pub(super) digest: Digest,
    /// For people.
    pub(super) signer: String,
    pub(super) parts: Parts,
}

impl Opened {
    pub(super) fn open(dir: &Path, trusted: &Trusted) -> Result<Self, ImportError> {
        let text = small(dir, BUNDLE_FILE, MAX_BUNDLE_BYTES as u64)?;
        let Some(text) = text else {
            let unfinished = dir.extension().is_some_and(|ending| ending == "unfinished");
            let hint = if unfinished { ": the export has not ended yet" } else { "" };
            return Err(ImportError::NoBundle { dir: dir.to_owned(), file: BUNDLE_FILE, hint });
        };
        let signature = small(dir, SIGNATURE_FILE, MAX_SIGNATURE_BYTES)?;
        let signature = signature.ok_or_else(|| ImportError::Unsigned { dir: dir.to_owned() })?;
        let signed = trusted.trust.verify(&signature)?;
        let mut files = signed.files;
        let digest = Digest::of(&text);
        take(&mut files, BUNDLE_FILE, digest)?;
        let bundle = Bundle::parse(&text)?;
        for part in &bundle.parts {
            // Each by its own name; only the bytes are left to be compared.
            take(&mut files, &part.name, part.sha256)?;
        }
        let parts = Parts::open(dir, &bundle)?;
        for (path, expected) in &files {
            check_beside(dir, path, expected)?;
        }
        Ok(Self { bundle, digest, signer: signed.signer, parts })
    }
}

/// Takes a file off the list of signed ones. What was signed otherwise is damaged, what was not signed is foreign.
fn take(files: &mut BTreeMap<RelativePath, Digest>, name: &str, found: Digest) -> Result<(), ImportError> {
    let differ = |what: String| ImportError::from(SignatureError::OtherFiles(what));
    let path = RelativePath::new(name).map_err(|error| differ(error.to_string()))?;
    match files.remove(&path) {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(ImportError::Damaged { file: name.to_owned(), expected, found }),
        None => Err(differ(format!("{name} was not signed"))),
    }
}

/// A file that people read: it was signed, so it has to be there and as it was. There are two by name; another one, however
/// it is spelled, is none that `bundle export` signs.
fn check_beside(dir: &Path, path: &RelativePath, expected: &Digest) -> Result<(), ImportError> {
    let name = path.as_str();
    if ![README_FILE, POLICY_FILE].contains(&name) {
        return Err(SignatureError::OtherFiles(format!("{name} is no file of a bundle")).into());
    }
    let bytes = small(dir, name, MAX_BESIDE)?;
    let bytes = bytes.ok_or_else(|| ImportError::FileMissing { file: name.to_owned() })?;
    let found = Digest::of(&bytes);
    if found == *expected {
        return Ok(());
    }
    Err(ImportError::Damaged { file: name.to_owned(), expected: *expected, found })
}

/// A small file as a whole; `None` = it is not there.
fn small(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImportError> {
    let Some((file, size)) = open_file(dir, name)? else { return Ok(None) };
    if size > limit {
        return Err(ImportError::Contradiction(format!("{name} has {size} bytes, more than {limit}")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| unreadable(dir.join(name), source))?;
    Ok(Some(bytes))
}

/// A regular file of the folder, and its size. Links are not followed: they lead to what nobody signed.
pub(super) fn open_file(dir: &Path, name: &str) -> Result<Option<(File, u64)>, ImportError> {
    let path = dir.join(name);
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    if !found.is_file() {
        return Err(ImportError::NotAFile { file: name.to_owned() });
    }
    // And not what has come into its place since.
    let unfollowed = OFlags::NOFOLLOW.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(unfollowed).open(&path);
    let file = opened.map_err(|error| unreadable(path, error))?;
    Ok(Some((file, found.len())))
}

pub(super) const fn unreadable(path: PathBuf, source: io::Error) -> ImportError {
    ImportError::Read { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_signed_is_foreign_and_what_was_signed_otherwise_is_damaged() {
        let [signed, other] = [&b"signed"[..], b"other"].map(Digest::of);
        let mut files = BTreeMap::from([(RelativePath::new(BUNDLE_FILE).unwrap(), signed)]);
        let reason = |taken: Result<(), ImportError>| taken.unwrap_err().reason().to_owned();
        assert_eq!(reason(take(&mut files, "part-00001.nave", signed)), "SignedFilesDiffer");
        assert!(take(&mut files, BUNDLE_FILE, signed).is_ok() && files.is_empty());
        // A good signature of something else is none of this bundle.
        assert_eq!(reason(take(&mut files, BUNDLE_FILE, signed)), "SignedFilesDiffer");
        files.insert(RelativePath::new(BUNDLE_FILE).unwrap(), signed);
        assert_eq!(reason(take(&mut files, BUNDLE_FILE, other)), "PartDamaged");
    }
}
