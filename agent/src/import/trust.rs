//! Whose bundles count at this spoke: whoever is named on the command line, else in the configuration, else whoever the
//! hub that it joined has made a code signer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nave_signature::Trust;

use super::ImportError;
use crate::identity::IdentityStore;

/// Where the trust comes from, for people who wonder why a bundle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The command line.
    Given,
    /// The configuration.
    Configured,
    /// The hub's certificate authority.
    Hub,
}

/// What bundles' signatures are checked with.
#[derive(Clone, Debug)]
pub struct Trusted {
    pub(super) trust: Trust,
    /// Where it comes from.
    pub anchor: Anchor,
}

impl Trusted {
    /// The first of these that there is.
    ///
    /// # Errors
    /// [`ImportError::TrustMissing`], or what is wrong with the one that is there.
    pub fn find(
        given: Option<&str>,
        configured: Option<&Path>,
        state_dir: &Path,
    ) -> Result<Self, ImportError> {
        if let Some(pem) = given {
            return Ok(Self { trust: Trust::from_pem(pem.as_bytes())?, anchor: Anchor::Given });
        }
        if let Some(path) = configured {
            let pem = fs::read(path).map_err(|error| read(path, error))?;
            return Ok(Self { trust: Trust::from_pem(&pem)?, anchor: Anchor::Configured });
        }
        let path = IdentityStore::authorities_path(state_dir);
        match fs::read(&path) {
            // Spokes have certificates of this authority too: only one for signing code may sign bundles.
            Ok(pem) => Ok(Self { trust: Trust::code_signers_of(&pem)?, anchor: Anchor::Hub }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ImportError::TrustMissing),
            Err(error) => Err(read(&path, error)),
        }
    }
}

fn read(path: &Path, source: io::Error) -> ImportError {
    ImportError::Read { path: PathBuf::from(path), source }
}
