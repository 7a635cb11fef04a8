//! Makes signatures: with a private key alone, or with a certificate that says whose key it is.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nave_names::{Digest, RelativePath};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::SigningKey as TlsKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    SignatureError, statement,
    trust::{PublicKey, pem_of},
    wire::{self, Chain, KeyIdentifier, Material, RawCertificate},
};

/// A private key that signs.
#[derive(Clone)]
pub struct SigningKey {
    key: Arc<dyn TlsKey>,
    /// SubjectPublicKeyInfo, DER.
    public: Vec<u8>,
    /// The signer's own certificate first; empty = key method.
    chain: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The unencrypted P-256 or P-384 private key in this PEM text, PKCS #8 or SEC 1.
    ///
    /// # Errors
    /// [`SignatureError::Key`] says what is wrong with it.
    pub fn from_pem(text: &[u8]) -> Result<Self, SignatureError> {
        let fail = |why: &str| SignatureError::Key(why.to_owned());
        let der = PrivateKeyDer::from_pem_slice(text)
            .map_err(|_| fail("not PEM of an unencrypted private key (PKCS #8 or SEC 1)"))?;
        let key = any_ecdsa_type(&der).map_err(|_| fail("not a P-256 or P-384 private key"))?;
        let public = key.public_key().ok_or_else(|| fail("it does not tell its public key"))?.to_vec();
        Ok(Self { key, public, chain: Vec::new() })
    }

    /// Signs with a certificate from now on: the signer's own first, then those between it and its authority.
    ///
    /// # Errors
    /// [`SignatureError::Key`] where the first certificate is not this key's.
    pub fn with_certificates(mut self, pem: &[u8]) -> Result<Self, SignatureError> {
        let fail = |why: String| SignatureError::Key(why);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|error| fail(format!("signing certificate: {error}")))?;
        let first =
            chain.first().ok_or_else(|| fail("there is no signing certificate in PEM form".to_owned()))?;
        let (_, first) = X509Certificate::from_der(first)
            .map_err(|error| fail(format!("signing certificate: {error}")))?;
        if first.public_key().raw != self.public {
            return Err(fail("the signing certificate is for another key".to_owned()));
        }
        self.chain = chain;
        Ok(self)
    }

    /// PEM of the public key, to check signatures of the key method with.
    pub fn public_pem(&self) -> String {
        pem_of(&self.public)
    }

    /// The signature of these files, as the text of a `model.sig`. `name` is for people. `ignored` are paths beside the
    /// files that a verifier shall not take for content; Nave's own does not believe them.
    ///
    /// # Errors
    /// [`SignatureError::Key`] where the key cannot sign.
    pub fn sign(
        &self,
        name: &str,
        files: &BTreeMap<RelativePath, Digest>,
        ignored: &[&str],
    ) -> Result<Vec<u8>, SignatureError> {
        let fail = |why: String| SignatureError::Key(why);
        let payload = statement::write(name, files, ignored);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ECDSA_NISTP384_SHA384];
        let signer = self.key.choose_scheme(&schemes);
        let signer = signer.ok_or_else(|| fail("not a P-256 or P-384 private key".to_owned()))?;
        let signature =
            signer.sign(&wire::pre_authentication(&payload)).map_err(|error| fail(error.to_string()))?;
        Ok(wire::pack(self.material()?, &payload, &signature))
    }

    fn material(&self) -> Result<Material, SignatureError> {
        if self.chain.is_empty() {
            let hint = PublicKey::from_der(&self.public)?.hint;
            return Ok(Material {
                public_key: Some(KeyIdentifier { hint: Some(hint) }),
                ..Material::default()
            });
        }
        let raw =
            |certificate: &CertificateDer<'_>| RawCertificate { raw_bytes: STANDARD.encode(certificate) };
        let certificates = self.chain.iter().map(raw).collect();
        Ok(Material { x509_certificate_chain: Some(Chain { certificates }), ..Material::default() })
    }
}
