//! Paths of files inside a model version: relative, and never out of their folder.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest path in bytes. S3 keys end at 1,024; a prefix must fit too.
const MAX_PATH: usize = 768;
/// Longest part in bytes: what ext4, xfs and btrfs allow for one name.
const MAX_PART: usize = 255;

/// A file's path below a model version's folder: parts joined by `/`, none of them empty, `.` or `..`, no control
/// characters, no backslash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

/// Why a text is not such a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid file path {path:?}: {reason}")]
pub struct PathError {
    path: String,
    reason: &'static str,
}

impl RelativePath {
    /// Checks the text.
    ///
    /// # Errors
    /// [`PathError`] names the path and the rule it breaks.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        match check(&path) {
            Ok(()) => Ok(Self(path)),
            Err(reason) => Err(PathError { path, reason }),
        }
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("empty");
    }
    if path.len() > MAX_PATH {
        return Err("longer than 768 bytes");
    }
    if path.starts_with('/') {
        return Err("absolute");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("has an empty part"),
            "." | ".." => return Err("leaves its folder or names it"),
            _ if part.len() > MAX_PART => return Err("has a part longer than 255 bytes"),
            _ if part.chars().any(char::is_control) => return Err("has a control character"),
            _ if part.contains('\\') => return Err("has a backslash"),
            _ => {}
        }
    }
    Ok(())
}

impl TryFrom<String> for RelativePath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl FromStr for RelativePath {
    type Err = PathError;
    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for RelativePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_pass() {
        for good in ["model.onnx", "1/model.onnx", "tokenizer/vocab.txt", ".hidden", "a b.txt", "größe.bin"]
        {
            assert!(RelativePath::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_escapes_is_refused_by_name() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b"] {
            let error = RelativePath::new(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        let why = |bad: &str| RelativePath::new(bad).unwrap_err().reason;
        assert_eq!(
            (why("/etc"), why("a//b"), why("a/..")),
            ("absolute", "has an empty part", "leaves its folder or names it")
        );
    }
}
