//! Telling others which ports were bound: a file, written whole, so that port 0 is usable by scripts and tests.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

/// The address file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the address file {}", path.display())]
pub struct AddressFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes `addresses` as JSON to `path` by rename: a reader sees all of it or no file.
///
/// # Errors
/// [`AddressFileError`] names the path.
pub fn write(path: &Path, addresses: &impl Serialize) -> Result<(), AddressFileError> {
    let fail = |source| AddressFileError { path: path.to_owned(), source };
    let text = serde_json::to_vec(addresses).map_err(|error| fail(error.into()))?;
    let mut staged = OsString::from(path.as_os_str());
    staged.push(".new");
    let mut file = File::create(&staged).map_err(fail)?;
    file.write_all(&text).map_err(fail)?;
    std::fs::rename(&staged, path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = write(Path::new("/nonexistent/addresses.json"), &["127.0.0.1:1"]).unwrap_err();
        assert_eq!(error.to_string(), "cannot write the address file /nonexistent/addresses.json");
    }
}
