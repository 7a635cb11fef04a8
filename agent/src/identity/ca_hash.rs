//! The pin of the first contact: the SHA-256 of a CA certificate's public key, as kubeadm prints it.

use std::{fmt, str::FromStr};

use nave_names::Digest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// `sha256:<hex>` of a CA certificate's SubjectPublicKeyInfo, DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaHash(Digest);

/// A text that is no such hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the hash of a CA: expected sha256: and 64 lower-case hex digits, as kubectl nave token create printed them"
)]
pub struct BadCaHash(String);

impl CaHash {
    /// The hash of a certificate's public key; `None` if `der` is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self(Digest::of(certificate.public_key().raw)))
    }
}

impl FromStr for CaHash {
    type Err = BadCaHash;
    fn from_str(text: &str) -> Result<Self, BadCaHash> {
        text.trim().parse().map(Self).map_err(|_| BadCaHash(text.to_owned()))
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
