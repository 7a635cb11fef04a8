//! The JSON form and back. It is indented, for people look at it; and canonical, so that nothing can hide in it.

use nave_names::Generation;
use serde::{Deserialize, Serialize};

use crate::{Bundle, BundleError, FORMAT_V1, MAX_BUNDLE_BYTES, Part, Source, Version};

/// Read alone and first, so that a newer format is called that and not malformed.
#[derive(Deserialize)]
struct Probe {
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireBundle {
    format: String,
    source: Source,
    generation: Generation,
    created_at: String,
    created_by: String,
    versions: Vec<Version>,
    parts: Vec<Part>,
}

impl Bundle {
    /// Reads a `bundle.json` that may be hostile.
    ///
    /// # Errors
    /// [`BundleError`] names the rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge { size: bytes.len() });
        }
        let malformed = |error: serde_json::Error| BundleError::Malformed(error.to_string());
        let probe: Probe = serde_json::from_slice(bytes).map_err(malformed)?;
        if probe.format != FORMAT_V1 {
            return Err(BundleError::UnknownFormat(probe.format));
        }
        let wire: WireBundle = serde_json::from_slice(bytes).map_err(malformed)?;
        let WireBundle { format: _, source, generation, created_at, created_by, versions, parts } = wire;
        let bundle = Self { source, generation, created_at, created_by, parts, versions };
        bundle.check()?;
        let canonical = bundle.to_bytes();
        if canonical != bytes {
            let at = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            return Err(BundleError::NotCanonical { at });
        }
        Ok(bundle)
    }

    /// The bytes of `bundle.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = WireBundle {
            format: FORMAT_V1.to_owned(),
            source: self.source.clone(),
            generation: self.generation,
            created_at: self.created_at.clone(),
            created_by: self.created_by.clone(),
            versions: self.versions.clone(),
            parts: self.parts.clone(),
        };
        // Strings and integers into memory: serde_json has no error to give for these.
        let mut bytes = serde_json::to_vec_pretty(&wire).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
