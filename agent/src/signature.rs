//! Verifies signatures of the OpenSSF Model Signing specification v1.0, key method, without any network: a Sigstore
//! bundle (`model.sig`) around a DSSE envelope around an in-toto statement that lists every file with its SHA-256.
//! Knows no folder: it says what was signed, and the caller compares.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nave_names::{Digest, RelativePath};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use x509_parser::{pem::parse_x509_pem, prelude::FromDer as _, x509::SubjectPublicKeyInfo};

/// Where a signature lies beside the files.
pub const SIGNATURE_FILE: &str = "model.sig";
/// The most bytes that a signature file may have: 200,000 files at some 200 bytes each fit twice.
pub const MAX_SIGNATURE_BYTES: u64 = 96 << 20;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// Why a signature does not count. Each has a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not an elliptic-curve public key in PEM, or of a curve that is not supported.
    #[error("public key is not usable: {0}; expected PEM of a P-256 or P-384 key")]
    Key(String),
    /// Not a bundle of the expected form.
    #[error("signature is malformed: {0}")]
    Malformed(String),
    /// Signed with another key, by the signature's own words.
    #[error("signature was made with another key (hint {hint}, this one is {key})")]
    OtherKey {
        /// What the signature says.
        hint: String,
        /// What the given key has.
        key: String,
    },
    /// The mathematics say no.
    #[error("signature does not belong to this key and this content")]
    Invalid,
    /// Rightly signed, but not a statement about files that can be relied on.
    #[error("signed statement is refused: {0}")]
    Statement(String),
}

impl SignatureError {
    /// The reason in one CamelCase word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "BadPublicKey",
            Self::Malformed(_) => "SignatureMalformed",
            Self::OtherKey { .. } => "SignedByAnotherKey",
            Self::Invalid => "SignatureInvalid",
            Self::Statement(_) => "SignedStatementRefused",
        }
    }
}

/// A public key that signatures are checked with.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    algorithm: &'static EcdsaVerificationAlgorithm,
    point: Vec<u8>,
    /// SHA-256 of the key's PEM, by which signatures name it.
    hint: String,
}

impl TrustedKey {
    /// The key in this PEM text.
    ///
    /// # Errors
    /// [`SignatureError::Key`] says what it is instead.
    pub fn from_pem(text: &[u8]) -> Result<Self, SignatureError> {
        let fail = |why: &str| SignatureError::Key(why.to_owned());
        let (_, pem) = parse_x509_pem(text).map_err(|_| fail("not PEM"))?;
        if pem.label != "PUBLIC KEY" {
            return Err(fail(&format!("PEM of a {}", pem.label)));
        }
        let (_, info) =
            SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| fail("not a public key"))?;
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let algorithm = match curve.as_str() {
            "1.2.840.10045.3.1.7" => &ECDSA_P256_SHA256_ASN1,
            "1.3.132.0.34" => &ECDSA_P384_SHA384_ASN1,
            other => return Err(fail(&format!("curve {other:?} is not supported"))),
        };
        let hint = hex::encode(Sha256::digest(pem_of(&pem.contents)));
        Ok(Self { algorithm, point: info.subject_public_key.data.to_vec(), hint })
    }

    /// What was signed, if this signature is good: every file with its SHA-256.
    ///
    /// # Errors
    /// [`SignatureError`] with a name; nothing of a refused signature may be used.
    pub fn verify(&self, signature: &[u8]) -> Result<BTreeMap<RelativePath, Digest>, SignatureError> {
        let malformed = |what: &dyn std::fmt::Display| SignatureError::Malformed(what.to_string());
        let bundle: Bundle = serde_json::from_slice(signature).map_err(|error| malformed(&error))?;
        if bundle.media_type != BUNDLE {
            return Err(malformed(&format!("media type {:?} instead of {BUNDLE}", bundle.media_type)));
        }
        let hint = bundle.verification_material.public_key.hint;
        if !hint.is_empty() && hint != self.hint {
            return Err(SignatureError::OtherKey { hint, key: self.hint.clone() });
        }
        let envelope = bundle.dsse_envelope;
        if envelope.payload_type != PAYLOAD {
            return Err(malformed(&format!("payload type {:?} instead of {PAYLOAD}", envelope.payload_type)));
        }
        let [only] = &envelope.signatures[..] else {
            return Err(malformed(&format!("{} signatures instead of one", envelope.signatures.len())));
        };
        let payload = STANDARD.decode(&envelope.payload).map_err(|error| malformed(&error))?;
        let raw = STANDARD.decode(&only.sig).map_err(|error| malformed(&error))?;
        let key = UnparsedPublicKey::new(self.algorithm, &self.point);
        key.verify(&pre_authentication(&payload), &raw).map_err(|_| SignatureError::Invalid)?;
        read_statement(&payload)
    }
}

/// DSSE's pre-authentication encoding: type and content with their lengths, so that neither can pass for the other.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The one PEM form of a key, which its hint is the hash of.
fn pem_of(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn read_statement(payload: &[u8]) -> Result<BTreeMap<RelativePath, Digest>, SignatureError> {
    let refused = |what: String| SignatureError::Statement(what);
    let statement: Statement = serde_json::from_slice(payload).map_err(|error| refused(error.to_string()))?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        let (kind, predicate) = (statement.kind, statement.predicate_type);
        return Err(refused(format!("it is a {kind:?} about {predicate:?}")));
    }
    let predicate = statement.predicate;
    if predicate.serialization.method != "files" || predicate.serialization.hash_type != "sha256" {
        let (method, hash) = (predicate.serialization.method, predicate.serialization.hash_type);
        return Err(refused(format!(
            "files are listed by {method:?} with {hash:?}, expected files with sha256"
        )));
    }
    let [subject] = &statement.subject[..] else {
        return Err(refused(format!("it has {} subjects instead of one", statement.subject.len())));
    };
    let mut files = BTreeMap::new();
    let mut root = Sha256::new();
    for resource in predicate.resources {
        let path = RelativePath::new(resource.name).map_err(|error| refused(error.to_string()))?;
        let sha256: Digest = format!("{}:{}", resource.algorithm, resource.digest)
            .parse()
            .map_err(|error| refused(format!("file {path}: {error}")))?;
        root.update(sha256.as_bytes());
        if files.insert(path.clone(), sha256).is_some() {
            return Err(refused(format!("file {path} is listed twice")));
        }
    }
    if files.is_empty() {
        return Err(refused("it names no file".to_owned()));
    }
    if subject.digest.get("sha256") != Some(&hex::encode(root.finalize())) {
        return Err(refused("its root digest is not that of its files".to_owned()));
    }
    Ok(files)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: KeyIdentifier,
}

#[derive(Deserialize)]
struct KeyIdentifier {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
    };
    use serde_json::{Value, json};

    use super::*;

    /// A rightly signed statement about these resources, changed before it is signed.
    fn signed(resources: &[(&str, &str)], change: impl FnOnce(&mut Value)) -> (TrustedKey, Vec<u8>) {
        let mut root = Sha256::new();
        let listed = resources.iter().map(|(name, content)| {
            let digest = Digest::of(content.as_bytes());
            root.update(digest.as_bytes());
            json!({"name": name, "algorithm": "sha256", "digest": digest.to_hex()})
        });
        let listed: Vec<_> = listed.collect();
        let mut statement = json!({
            "_type": STATEMENT,
            "subject": [{"name": "vit", "digest": {"sha256": hex::encode(root.finalize())}}],
            "predicateType": PREDICATE,
            "predicate": {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": listed},
        });
        change(&mut statement);
        let payload = statement.to_string().into_bytes();
        let pair = rcgen::KeyPair::generate().unwrap();
        let random = SystemRandom::new();
        let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(signing, &pair.serialize_der(), &random).unwrap();
        let signature = key.sign(&random, &pre_authentication(&payload)).unwrap();
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": PAYLOAD,
                "signatures": [{"sig": STANDARD.encode(signature.as_ref())}],
            },
        });
        let trusted = TrustedKey::from_pem(pair.public_key_pem().as_bytes()).unwrap();
        (trusted, bundle.to_string().into_bytes())
    }

    #[test]
    fn a_right_signature_over_a_wrong_statement_is_refused() {
        let refused = |resources: &[(&str, &str)], change: fn(&mut Value)| {
            let (key, bundle) = signed(resources, change);
            assert_eq!(key.verify(&bundle).unwrap_err().name(), "SignedStatementRefused");
        };
        let (key, bundle) = signed(&[("a", "1"), ("b/c", "2")], |_| {});
        assert_eq!(key.verify(&bundle).unwrap().len(), 2);
        refused(&[("../a", "1")], |_| {});
        refused(&[("/etc/passwd", "1")], |_| {});
        refused(&[("a", "1"), ("a", "2")], |_| {});
        refused(&[], |_| {});
        refused(&[("a", "1")], |s| s["_type"] = "https://in-toto.io/Statement/v0.1".into());
        refused(&[("a", "1")], |s| s["predicateType"] = "https://model_signing/Digests/v0.1".into());
        refused(&[("a", "1")], |s| s["predicate"]["serialization"]["method"] = "shards".into());
        refused(&[("a", "1")], |s| s["predicate"]["resources"][0]["algorithm"] = "blake2".into());
        refused(&[("a", "1")], |s| s["subject"][0]["digest"]["sha256"] = "00".into());
        refused(&[("a", "1")], |s| s["subject"] = json!([]));
    }
}
