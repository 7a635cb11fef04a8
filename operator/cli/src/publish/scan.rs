//! Which files of a folder are published. What cannot be is refused by name before a byte is read: hidden files (as
//! often secrets or a tool's own), links (they may lead anywhere), names that Nave keeps for itself, and special files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nave_manifest::is_reserved;
use nave_names::RelativePath;
use walkdir::{DirEntry, WalkDir};

/// Refused names that are told at once.
const MOST_TOLD: usize = 10;

/// One file to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: RelativePath,
    pub(super) on_disk: PathBuf,
    /// Bytes, as the file system says.
    pub(super) size: u64,
}

/// Every file below the folder, sorted by path.
pub(super) fn scan(folder: &Path, skip_hidden: bool) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut refused = Vec::new();
    let mut walk = WalkDir::new(folder).follow_root_links(true).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.with_context(|| format!("reading folder {}", folder.display()))?;
        if is_hidden(&entry) {
            if !skip_hidden {
                refused.push(format!("{} is hidden (--skip-hidden leaves such out)", shown(folder, &entry)));
            }
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        match look(folder, &entry) {
            Ok(Some(file)) => found.push(file),
            Ok(None) => {}
            Err(why) => refused.push(format!("{} {why}", shown(folder, &entry))),
        }
    }
    if !refused.is_empty() {
        let more = refused.len().saturating_sub(MOST_TOLD);
        refused.truncate(MOST_TOLD);
        let and_more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        bail!("{} cannot be published:\n  {}{and_more}", folder.display(), refused.join("\n  "));
    }
    if found.is_empty() {
        bail!("{} holds no file to publish", folder.display());
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().first() == Some(&b'.')
}

fn shown(folder: &Path, entry: &DirEntry) -> String {
    format!("{:?}", entry.path().strip_prefix(folder).unwrap_or(entry.path()))
}

/// The file, None for a folder, or why it is refused.
fn look(folder: &Path, entry: &DirEntry) -> Result<Option<Found>, String> {
    let kind = entry.file_type();
    if kind.is_dir() {
        return Ok(None);
    }
    if kind.is_symlink() {
        return Err("is a symbolic link".to_owned());
    }
    if !kind.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
    let text = below.to_str().ok_or("has a name that is not UTF-8")?;
    let path = RelativePath::new(text).map_err(|error| format!("has a name that is refused: {error}"))?;
    if is_reserved(&path) {
        return Err("has a name that Nave keeps for itself: take it away or rename it".to_owned());
    }
    let size = entry.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    Ok(Some(Found { path, on_disk: entry.path().to_owned(), size }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn files_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokenizer")).unwrap();
        fs::write(folder.path().join("tokenizer/vocab.txt"), "abc").unwrap();
        fs::write(folder.path().join("model.onnx"), "weights").unwrap();
        let found = scan(folder.path(), false).unwrap();
        let paths: Vec<_> = found.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!(paths, [("model.onnx", 7), ("tokenizer/vocab.txt", 3)]);
    }

    #[test]
    fn what_is_refused_is_refused_by_name_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("model.onnx"), "weights").unwrap();
        fs::write(at(".env"), "secret").unwrap();
        fs::create_dir(at(".git")).unwrap();
        fs::write(at(".git/config"), "").unwrap();
        fs::write(at("manifest.json"), "{}").unwrap();
        fs::write(at("model.sig"), "").unwrap();
        fs::write(at("a\\b"), "").unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        let error = scan(folder.path(), false).unwrap_err().to_string();
        for name in [".env", ".git", "manifest.json", "model.sig", "a\\\\b", "link"] {
            assert!(error.contains(&format!("\"{name}\"")), "{name}: {error}");
        }
        assert!(!error.contains("config"), "{error}");
    }

    #[test]
    fn hidden_files_are_left_out_where_asked() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.onnx"), "weights").unwrap();
        fs::write(folder.path().join(".gitattributes"), "").unwrap();
        assert_eq!(scan(folder.path(), true).unwrap().len(), 1);
    }

    #[test]
    fn an_empty_folder_is_no_version() {
        let folder = tempfile::tempdir().unwrap();
        assert!(scan(folder.path(), false).unwrap_err().to_string().contains("holds no file"));
    }
}
