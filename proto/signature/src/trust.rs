//! What signatures are checked with: one public key, or authorities whose certificates sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::SignatureVerificationAlgorithm;
use sha2::{Digest as _, Sha256};
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA384};
use x509_parser::{pem::parse_x509_pem, prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use crate::{
    SignatureError, Signed,
    certificates::Authorities,
    statement,
    wire::{self, Unpacked},
};

/// P-256, as certificates spell it.
const P256: &str = "1.2.840.10045.3.1.7";
/// P-384.
const P384: &str = "1.3.132.0.34";

/// Who may have signed.
#[derive(Clone, Debug)]
pub struct Trust(Anchor);

#[derive(Clone, Debug)]
enum Anchor {
    Key(PublicKey),
    Authorities(Authorities),
}

impl Trust {
    /// By this PEM text: a `PUBLIC KEY` (key method), or `CERTIFICATE`s with at least one self-signed authority among
    /// them (certificate method).
    ///
    /// # Errors
    /// [`SignatureError::Key`] says what it is instead.
    pub fn from_pem(text: &[u8]) -> Result<Self, SignatureError> {
        let fail = |why: &str| SignatureError::Key(why.to_owned());
        let not_pem = "not PEM of a P-256 or P-384 public key or of certificates";
        let (_, pem) = parse_x509_pem(text).map_err(|_| fail(not_pem))?;
        match pem.label.as_str() {
            "PUBLIC KEY" => Ok(Self(Anchor::Key(PublicKey::from_der(&pem.contents)?))),
            "CERTIFICATE" => Ok(Self(Anchor::Authorities(Authorities::from_pem(text)?))),
            other => Err(fail(&format!("PEM of a {other}, expected a PUBLIC KEY or CERTIFICATEs"))),
        }
    }

    /// The same, of the certificate method with a stricter rule: a certificate has to say that it is for signing code.
    /// For authorities whose certificates are mostly for something else.
    ///
    /// # Errors
    /// [`SignatureError::Key`] says what it is instead.
    pub fn code_signers_of(authorities: &[u8]) -> Result<Self, SignatureError> {
        Ok(Self(Anchor::Authorities(Authorities::from_pem(authorities)?.only_code_signing())))
    }

    /// What was signed, if this signature is good.
    ///
    /// # Errors
    /// [`SignatureError`] with a name; nothing of a refused signature may be used.
    pub fn verify(&self, signature: &[u8]) -> Result<Signed, SignatureError> {
        let Unpacked { material, payload, signature } = wire::unpack(signature)?;
        let other = |made, trusted| Err(SignatureError::OtherMethod { made, trusted });
        let (key, signer) = match (&self.0, material.public_key, material.x509_certificate_chain) {
            (_, Some(_), Some(_)) | (_, None, None) => {
                let what = "it names neither just a key nor just a chain of certificates";
                return Err(SignatureError::Malformed(what.to_owned()));
            }
            (Anchor::Key(key), Some(identifier), None) => {
                let hint = identifier.hint.unwrap_or_default();
                if !hint.is_empty() && hint != key.hint {
                    return Err(SignatureError::OtherKey { hint, key: key.hint.clone() });
                }
                (key.clone(), format!("key {}", key.hint))
            }
            (Anchor::Authorities(authorities), None, Some(chain)) => authorities.key_of(&chain)?,
            (Anchor::Key(_), None, Some(_)) => return other("a certificate", "a key"),
            (Anchor::Authorities(_), Some(_), None) => return other("a key", "a certificate"),
        };
        key.check(&wire::pre_authentication(&payload), &signature)?;
        Ok(Signed { files: statement::read(&payload)?, signer })
    }
}

/// An elliptic-curve public key.
#[derive(Clone)]
pub(crate) struct PublicKey {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    point: Vec<u8>,
    /// SHA-256 of the key's PEM, by which signatures name it.
    pub(crate) hint: String,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.hint)
    }
}

impl PublicKey {
    /// The key in this SubjectPublicKeyInfo.
    pub(crate) fn from_der(info: &[u8]) -> Result<Self, SignatureError> {
        let fail = |why: &str| SignatureError::Key(why.to_owned());
        let (_, key) = SubjectPublicKeyInfo::from_der(info).map_err(|_| fail("not a public key"))?;
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let algorithm = match curve.as_str() {
            P256 => ECDSA_P256_SHA256,
            P384 => ECDSA_P384_SHA384,
            other => return Err(fail(&format!("curve {other:?} is not supported, P-256 and P-384 are"))),
        };
        let hint = hex::encode(Sha256::digest(pem_of(info)));
        Ok(Self { algorithm, point: key.subject_public_key.data.to_vec(), hint })
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.algorithm.verify_signature(&self.point, message, signature).map_err(|_| SignatureError::Invalid)
    }
}

/// The one PEM form of a public key, which its hint is the hash of.
pub(crate) fn pem_of(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}
