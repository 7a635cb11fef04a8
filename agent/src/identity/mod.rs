//! Who this spoke is: a key that never leaves its disk, the certificate that the hub made for it, and the CAs it trusts.
//! Written so that a power cut leaves either the old identity or the new one.

mod ca_hash;
mod pin;
mod tls;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use nave_names::ClusterName;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use x509_parser::pem::Pem;

pub use ca_hash::{BadCaHash, CaHash};
pub use tls::{TlsSetupError, joining, session};

use crate::store::durable;

/// Renewal begins at two thirds of a certificate's life: a spoke that is offline for a third of it does not have to join
/// anew.
const RENEW_AFTER: (i32, i32) = (2, 3);

/// The identity's files below the state folder.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    dir: PathBuf,
}

/// What the hub made of this spoke.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name in the certificate.
    pub cluster: ClusterName,
    /// PKCS #8, PEM.
    pub key: String,
    /// Leaf first, PEM.
    pub chain: String,
    /// CAs, PEM.
    pub ca_bundle: String,
    /// From when the certificate is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// What went wrong with the identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file could not be replaced durably.
    #[error(transparent)]
    Write(#[from] crate::store::StoreError),
    /// A file does not hold what it should.
    #[error("{what} is not right: {problem}")]
    Broken {
        /// Which file or answer.
        what: String,
        /// What was expected.
        problem: String,
    },
    /// The key or the request could not be made.
    #[error("cannot make a {what}")]
    Crypto {
        /// Key or certificate request.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

impl IdentityStore {
    /// The identity below `state_dir`; the folder is made if absent, readable by this user only.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn open(state_dir: &Path) -> Result<Self, IdentityError> {
        let dir = state_dir.join("identity");
        let fail = |source| IdentityError::Io { action: "create the folder", path: dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(fail)?;
        Ok(Self { dir })
    }

    /// Where the CAs lie that the hub gave to the spoke with this state folder.
    pub fn authorities_path(state_dir: &Path) -> PathBuf {
        state_dir.join("identity").join("ca.pem")
    }

    /// The key; made now if there is none.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn key(&self) -> Result<String, IdentityError> {
        if let Some(key) = self.read("key.pem")? {
            return Ok(key);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|source| IdentityError::Crypto { what: "key", source })?;
        let pem = key.serialize_pem();
        durable::replace(&self.dir.join("key.pem"), pem.as_bytes(), 0o600)?;
        Ok(pem)
    }

    /// The identity, or `None` before the spoke has joined.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let (Some(key), Some(chain), Some(ca_bundle)) =
            (self.read("key.pem")?, self.read("cert.pem")?, self.read("ca.pem")?)
        else {
            return Ok(None);
        };
        Identity::new(key, chain, ca_bundle).map(Some)
    }

    /// Keeps what the hub made. The CAs go first: a certificate without the CA that it needs would be of no use.
    ///
    /// # Errors
    /// The answer is not one for this key, or the files could not be written.
    pub fn keep(&self, chain: &str, ca_bundle: &str) -> Result<Identity, IdentityError> {
        let identity = Identity::new(self.key()?, chain.to_owned(), ca_bundle.to_owned())?;
        durable::replace(&self.dir.join("ca.pem"), ca_bundle.as_bytes(), 0o644)?;
        durable::replace(&self.dir.join("cert.pem"), chain.as_bytes(), 0o644)?;
        Ok(identity)
    }

    /// The CA that was pinned when the spoke joined.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn pinned(&self) -> Result<Option<CaHash>, IdentityError> {
        let Some(text) = self.read("ca-hash")? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|error: BadCaHash| IdentityError::Broken {
            what: self.dir.join("ca-hash").display().to_string(),
            problem: error.to_string(),
        })
    }

    /// Remembers the pinned CA.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn pin(&self, hash: &CaHash) -> Result<(), IdentityError> {
        if self.pinned()?.as_ref() == Some(hash) {
            return Ok(());
        }
        Ok(durable::replace(&self.dir.join("ca-hash"), hash.to_string().as_bytes(), 0o644)?)
    }

    fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                if name == "key.pem" {
                    check_private(&path)?;
                }
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Io { action: "read", path, source }),
        }
    }
}

/// A key that others can read is no identity.
fn check_private(path: &Path) -> Result<(), IdentityError> {
    let fail = |source| IdentityError::Io { action: "look at", path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(fail)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let problem = format!("mode {:o} lets others read it; set it to 600", mode & 0o777);
    Err(IdentityError::Broken { what: path.display().to_string(), problem })
}

/// A certificate request with the spoke's key, DER. The hub puts its own name into the certificate.
///
/// # Errors
/// [`IdentityError::Crypto`].
pub fn request(key: &str, cluster: Option<&ClusterName>) -> Result<Vec<u8>, IdentityError> {
    let fail = |source| IdentityError::Crypto { what: "certificate request", source };
    let key = KeyPair::from_pem(key).map_err(fail)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(cluster) = cluster {
        params.distinguished_name.push(DnType::CommonName, cluster.as_str());
    }
    Ok(params.serialize_request(&key).map_err(fail)?.der().to_vec())
}

impl Identity {
    fn new(key: String, chain: String, ca_bundle: String) -> Result<Self, IdentityError> {
        let broken = |problem: &str| IdentityError::Broken {
            what: "the certificate for this spoke".to_owned(),
            problem: problem.to_owned(),
        };
        let pem = Pem::iter_from_buffer(chain.as_bytes()).next();
        let pem = pem.and_then(Result::ok).ok_or_else(|| broken("no PEM certificate"))?;
        let leaf = pem.parse_x509().map_err(|_| broken("not an X.509 certificate"))?;
        let key_pair = KeyPair::from_pem(&key).map_err(|_| broken("the key beside it cannot be read"))?;
        if leaf.public_key().subject_public_key.data.as_ref() != key_pair.public_key_raw() {
            return Err(broken("it is for another key than this spoke's"));
        }
        let name = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.ok_or_else(|| broken("it names no cluster"))?;
        let cluster = ClusterName::new(name).map_err(|error| broken(&error.to_string()))?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| broken("its times make no sense"));
        let not_before = time(leaf.validity().not_before.timestamp())?;
        let not_after = time(leaf.validity().not_after.timestamp())?;
        Ok(Self { cluster, key, chain, ca_bundle, not_before, not_after })
    }

    /// When to ask for the next certificate.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let after = life / RENEW_AFTER.1 * RENEW_AFTER.0;
        self.not_before.checked_add(after).unwrap_or(self.not_after)
    }

    /// Whether the certificate is past its time, or will be within the time that a connection takes.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.checked_add(SignedDuration::from_secs(2)).map_or(true, |soon| soon >= self.not_after)
    }
}

#[cfg(test)]
impl Identity {
    /// Of a spoke whose hub issued nothing to anybody else.
    pub(crate) fn alone(cluster: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let uri = format!("{}{cluster}", nave_names::CLUSTER_URI);
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        let chain = params.self_signed(&key).unwrap().pem();
        let (cluster, key, now) = (ClusterName::new(cluster).unwrap(), key.serialize_pem(), Timestamp::now());
        Self { cluster, key, ca_bundle: chain.clone(), chain, not_before: now, not_after: now }
    }
}
