//! What a good signature says.

use std::collections::BTreeMap;

use nave_names::{Digest, RelativePath};

use crate::{SignatureError, statement, wire};

/// What was signed, and by whom. Only a good signature makes a value of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Every file with its SHA-256.
    pub files: BTreeMap<RelativePath, Digest>,
    /// The key's hash, or the certificate's subject; for people.
    pub signer: String,
}

impl Signed {
    /// The signed files are exactly these: none more, none less, none other.
    ///
    /// # Errors
    /// [`SignatureError::OtherFiles`] names the first difference.
    pub fn check_covers<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a RelativePath, &'a Digest)>,
    ) -> Result<(), SignatureError> {
        check_covers(&self.files, files)
    }
}

/// What a signature lists, by its own words: nobody has checked who made it.
///
/// # Errors
/// [`SignatureError`] where it lists nothing.
pub fn listed_files(signature: &[u8]) -> Result<BTreeMap<RelativePath, Digest>, SignatureError> {
    statement::read(&wire::unpack(signature)?.payload)
}

/// The listed files are exactly these: none more, none less, none other.
///
/// # Errors
/// [`SignatureError::OtherFiles`] names the first difference.
pub fn check_covers<'a>(
    listed: &BTreeMap<RelativePath, Digest>,
    files: impl IntoIterator<Item = (&'a RelativePath, &'a Digest)>,
) -> Result<(), SignatureError> {
    let differ = |what: String| Err(SignatureError::OtherFiles(what));
    let mut left = listed.clone();
    for (path, sha256) in files {
        match left.remove(path) {
            Some(signed) if signed == *sha256 => {}
            Some(signed) => return differ(format!("{path} was signed as {signed}, and is {sha256}")),
            None => return differ(format!("{path} was not signed")),
        }
    }
    match left.keys().next() {
        Some(path) => differ(format!("{path} was signed, and is not there")),
        None => Ok(()),
    }
}
