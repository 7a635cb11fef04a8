//! The bundle as a value that was checked: its parts have the names that they must have, its sizes add up, and each
//! version is there once.

use std::{collections::BTreeMap, fmt};

use nave_manifest::MAX_MANIFEST_BYTES;
use nave_names::{Digest, Generation, ModelName, Namespace, PolicyName, RelativePath, VersionName};
use serde::{Deserialize, Serialize};

use crate::{BundleError, Runs, part_name, places::Sections};

/// The most bytes that `bundle.json` may have: what the largest manifest has.
pub const MAX_BUNDLE_BYTES: usize = 64 << 20;
/// The most parts. At 4 GB each they hold 40 TB.
pub const MAX_PARTS: usize = 10_000;
/// The most versions. A policy has two.
pub const MAX_VERSIONS: usize = 64;
/// Integers above 2^53 - 1 change when a JSON reader takes them for doubles.
const MAX_NUMBER: u64 = (1 << 53) - 1;
/// The most characters of the texts that are for people.
const MAX_TEXT: usize = 128;

/// What the generations of a bundle are counted by: of one source, none that is older than the last is imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Source {
    /// Versions of one model.
    Model {
        /// Of its ModelVersions.
        namespace: Namespace,
        /// What the runtime knows it by.
        name: ModelName,
    },
    /// What one policy asks for.
    PlacementPolicy {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: PolicyName,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { namespace, name } => write!(f, "model {namespace}/{name}"),
            Self::PlacementPolicy { namespace, name } => write!(f, "policy {namespace}/{name}"),
        }
    }
}

/// One file of the folder. All of them one after the other are what the versions' contents lie in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// `part-00001.nave`, `part-00002.nave` and so on.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes, as the signature has it too.
    pub sha256: Digest,
}

/// A version that the site has to hold already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// For people.
    pub version: VersionName,
    /// Its identity.
    pub manifest_digest: Digest,
}

/// What the parts hold of one version, in this order and without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// Of its manifest.
    pub manifest_bytes: u64,
    /// Of its `model.sig`; 0 = it has none.
    pub signature_bytes: u64,
    /// SHA-256 of its `model.sig`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_digest: Option<Digest>,
    /// Of the delta from the base; 0 = none.
    pub delta_bytes: u64,
    /// Bytes at the delta's end that hold its index.
    pub delta_index_bytes: u64,
    /// Of the chunks below.
    pub chunk_bytes: u64,
    /// Which chunks of which files follow, in the manifest's order. What is not among them is in the base, in an earlier
    /// version of this bundle, or rebuilt by the delta.
    pub chunks: BTreeMap<RelativePath, Runs>,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// Of its ModelVersion.
    pub namespace: Namespace,
    /// What the runtime knows the model by.
    pub model: ModelName,
    /// The version.
    pub version: VersionName,
    /// Its identity.
    pub manifest_digest: Digest,
    /// Sum of its files' sizes.
    pub size_bytes: u64,
    /// What it builds upon, if it is not whole by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What is here of it.
    pub contents: Contents,
}

/// A bundle that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What it is a generation of.
    pub source: Source,
    /// Which one.
    pub generation: Generation,
    /// When it was made, for people.
    pub created_at: String,
    /// By what, for people.
    pub created_by: String,
    /// In order.
    pub parts: Vec<Part>,
    /// In the order in which they are imported: a later one may build upon an earlier one.
    pub versions: Vec<Version>,
}

impl Contents {
    /// All bytes.
    pub(crate) fn total(&self) -> Option<u64> {
        [self.manifest_bytes, self.signature_bytes, self.delta_bytes, self.chunk_bytes]
            .into_iter()
            .try_fold(0_u64, u64::checked_add)
    }

    fn check(&self, has_base: bool) -> Result<(), &'static str> {
        if self.manifest_bytes == 0 || self.manifest_bytes > MAX_MANIFEST_BYTES as u64 {
            return Err("manifestBytes is no manifest's size");
        }
        if (self.signature_bytes > 0) != self.signature_digest.is_some() {
            return Err("signatureBytes does not fit signatureDigest");
        }
        if self.delta_bytes > 0 && !has_base {
            return Err("a delta without a base");
        }
        if self.delta_index_bytes > self.delta_bytes
            || (self.delta_index_bytes == 0) != (self.delta_bytes == 0)
        {
            return Err("deltaIndexBytes does not fit deltaBytes");
        }
        if (self.chunk_bytes == 0) != self.chunks.is_empty() {
            return Err("chunkBytes does not fit chunks");
        }
        Ok(())
    }
}

impl Bundle {
    /// Whether everything in it fits together.
    ///
    /// # Errors
    /// [`BundleError`] names what does not.
    pub fn check(&self) -> Result<(), BundleError> {
        let bad = |what: String| Err(BundleError::Inconsistent(what));
        if self.generation.0 == 0 || self.generation.0 > MAX_NUMBER {
            return bad(format!("generation {} is none", self.generation));
        }
        for text in [&self.created_at, &self.created_by] {
            if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                return bad(format!("{text:?} is no text for people"));
            }
        }
        let held = self.check_parts()?;
        if self.versions.is_empty() || self.versions.len() > MAX_VERSIONS {
            return bad(format!("it has {} versions", self.versions.len()));
        }
        let mut needed = 0_u64;
        for (at, version) in self.versions.iter().enumerate() {
            let name = format!("{} {}", version.model, version.version);
            if self.versions[..at].iter().any(|other| other.manifest_digest == version.manifest_digest) {
                return bad(format!("{name} is listed twice"));
            }
            if version.base.as_ref().is_some_and(|base| base.manifest_digest == version.manifest_digest) {
                return bad(format!("{name} builds upon itself"));
            }
            if let Err(why) = version.contents.check(version.base.is_some()) {
                return bad(format!("{name}: {why}"));
            }
            let total = version.contents.total().and_then(|total| needed.checked_add(total));
            needed = total.ok_or_else(|| BundleError::Inconsistent(format!("{name}: sizes overflow")))?;
        }
        if needed == held { Ok(()) } else { Err(BundleError::PartsDoNotFit { held, needed }) }
    }

    /// The sum of the parts' sizes.
    fn check_parts(&self) -> Result<u64, BundleError> {
        if self.parts.is_empty() || self.parts.len() > MAX_PARTS {
            return Err(BundleError::Inconsistent(format!("it has {} parts", self.parts.len())));
        }
        let mut held = 0_u64;
        for (at, part) in self.parts.iter().enumerate() {
            let expected = part_name(at + 1);
            if part.name != expected {
                return Err(BundleError::BadPartName { name: part.name.clone(), expected });
            }
            let sum = held.checked_add(part.size).filter(|sum| part.size > 0 && *sum <= MAX_NUMBER);
            held = sum.ok_or_else(|| {
                BundleError::Inconsistent(format!("{expected} cannot have {} bytes", part.size))
            })?;
        }
        Ok(held)
    }

    /// The sum of the parts' sizes, in bytes.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// Where each version's contents lie, in the versions' order.
    pub fn sections(&self) -> Vec<Sections> {
        let mut offset = 0;
        let mut sections = Vec::with_capacity(self.versions.len());
        for version in &self.versions {
            let next = Sections::at(offset, &version.contents);
            offset = next.end();
            sections.push(next);
        }
        sections
    }
}
