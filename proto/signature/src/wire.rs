//! The Sigstore bundle v0.3 with its DSSE envelope, field by field.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::SignatureError;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.in-toto+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    media_type: String,
    pub(crate) verification_material: Material,
    dsse_envelope: Envelope,
}

/// Who signed, in the signature's own words. One of the two is there.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Material {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<KeyIdentifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) x509_certificate_chain: Option<Chain>,
    /// Transparency log entries, which neither method has. Readers want the field.
    #[serde(default, skip_deserializing)]
    pub(crate) tlog_entries: [u8; 0],
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KeyIdentifier {
    #[serde(default)]
    pub(crate) hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Chain {
    pub(crate) certificates: Vec<RawCertificate>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawCertificate {
    /// base64 of the DER
    pub(crate) raw_bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default, skip_deserializing)]
    keyid: String,
}

/// The parts of a bundle that are checked: who, what, and the signature over it.
pub(crate) struct Unpacked {
    pub(crate) material: Material,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// Takes a bundle apart. Nothing of it may be believed yet.
pub(crate) fn unpack(bundle: &[u8]) -> Result<Unpacked, SignatureError> {
    let malformed = |what: &dyn std::fmt::Display| SignatureError::Malformed(what.to_string());
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| malformed(&error))?;
    if bundle.media_type != BUNDLE {
        return Err(malformed(&format!("media type {:?} instead of {BUNDLE}", bundle.media_type)));
    }
    let envelope = bundle.dsse_envelope;
    if envelope.payload_type != PAYLOAD {
        return Err(malformed(&format!("payload type {:?} instead of {PAYLOAD}", envelope.payload_type)));
    }
    let [only] = &envelope.signatures[..] else {
        return Err(malformed(&format!("{} signatures instead of one", envelope.signatures.len())));
    };
    Ok(Unpacked {
        material: bundle.verification_material,
        payload: STANDARD.decode(&envelope.payload).map_err(|error| malformed(&error))?,
        signature: STANDARD.decode(&only.sig).map_err(|error| malformed(&error))?,
    })
}

/// The bundle's text.
pub(crate) fn pack(material: Material, payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let bundle = Bundle {
        media_type: BUNDLE.to_owned(),
        verification_material: material,
        dsse_envelope: Envelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: vec![EnvelopeSignature { sig: STANDARD.encode(signature), keyid: String::new() }],
        },
    };
    // Strings into memory: serde_json has no error to give for these.
    serde_json::to_vec(&bundle).unwrap_or_default()
}

/// DSSE's pre-authentication encoding: type and content with their lengths, so that neither can pass for the other.
pub(crate) fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
