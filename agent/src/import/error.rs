//! Why a bundle was not imported. Each reason has a name, and names the file.

use std::{io, path::PathBuf};

use nave_agent_plan::ImportRefusal;
use nave_bundle::BundleError;
use nave_delta::DeltaError;
use nave_manifest::ManifestError;
use nave_names::Digest;
use nave_signature::SignatureError;
use serde::{Deserialize, Serialize};

use crate::{state::StateError, store::StoreError};

/// Why a bundle was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Told to stop.
    #[error("the import was interrupted; run again, it goes on where it stopped")]
    Cancelled,
    /// Nothing says whose bundles count.
    #[error(
        "nothing says whose bundles this spoke trusts: it has not joined a hub and has no key for bundles; give one with \
         --key or --certificate-chain"
    )]
    TrustMissing,
    /// The folder is not a bundle's.
    #[error("{} is no bundle: there is no {file}{hint}", dir.display())]
    NoBundle {
        /// Where it was looked for.
        dir: PathBuf,
        /// bundle.json or model.sig.
        file: &'static str,
        /// What may be the cause.
        hint: &'static str,
    },
    /// The folder has no signature.
    #[error("the bundle in {} is not signed: there is no model.sig", dir.display())]
    Unsigned {
        /// The folder.
        dir: PathBuf,
    },
    /// Signed, and not to be relied on.
    #[error("the bundle's signature is refused")]
    Signature(#[from] SignatureError),
    /// A file that the bundle needs is not there.
    #[error("{file} is missing: copy it again")]
    FileMissing {
        /// Its name.
        file: String,
    },
    /// A link, a folder, a device in a file's place.
    #[error("{file} is not a file but something else, a link perhaps")]
    NotAFile {
        /// Its name.
        file: String,
    },
    /// A part with another length.
    #[error("{file} has {found} bytes instead of {expected}: it was not copied to its end, copy it again")]
    Torn {
        /// Its name.
        file: String,
        /// By bundle.json.
        expected: u64,
        /// On this disk.
        found: u64,
    },
    /// A file with other bytes.
    #[error("{file} is damaged: it has the digest {found} instead of {expected}; copy it again")]
    Damaged {
        /// Its name.
        file: String,
        /// By the signature.
        expected: Digest,
        /// On this disk.
        found: Digest,
    },
    /// bundle.json is rightly signed, and cannot be.
    #[error("the bundle is refused")]
    Bundle(#[from] BundleError),
    /// A manifest in it cannot be.
    #[error("manifest {digest} is refused")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// The rule that it breaks.
        source: ManifestError,
    },
    /// A delta in it cannot be.
    #[error("the delta to {version} is refused")]
    Delta {
        /// What it makes.
        version: String,
        /// The rule that it breaks.
        source: DeltaError,
    },
    /// A block of a delta in it cannot be.
    #[error("the block for {what} is refused")]
    Block {
        /// Which chunk of which file.
        what: String,
        /// The rule that it breaks.
        source: DeltaError,
    },
    /// Its parts are right, and what lies in them is not what its manifests say.
    #[error("the bundle contradicts itself: {0}")]
    Contradiction(String),
    /// Older than what was imported, or the same number twice.
    #[error(transparent)]
    Generation(#[from] ImportRefusal),
    /// The version that it builds upon is not here.
    #[error(
        "{version} builds upon {base} ({digest}), which this spoke does not hold: import that first, or export without \
         --delta-from"
    )]
    BaseMissing {
        /// What was to be imported.
        version: String,
        /// What it builds upon.
        base: String,
        /// Of the base's manifest.
        digest: Digest,
    },
    /// The version that it builds upon is here, and not as it was.
    #[error(
        "{what} cannot be had from the versions in the store: one is damaged, run `nave-agent store verify --repair`"
    )]
    BaseDamaged {
        /// Which chunk of which file.
        what: String,
    },
    /// A file of the bundle cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spoke's own disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spoke's own files.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record of what was imported.
    #[error("what was imported before cannot be told: {0}; it lies aside now, run again to go on without it")]
    ImportsCorrupt(String),
    /// The running agent cannot go on.
    #[error("the agent did not take it: {0}")]
    Agent(String),
}

/// What kind of trouble it is, for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// The bundle is not what it should be, or not for this spoke.
    Refused,
    /// The spoke's own disk.
    Disk,
    /// Told to stop.
    Interrupted,
    /// Anything else.
    Failed,
}

impl ImportError {
    /// What kind of trouble it is.
    pub const fn class(&self) -> Class {
        match self {
            Self::Cancelled => Class::Interrupted,
            Self::Store(_) | Self::State(_) | Self::ImportsCorrupt(_) | Self::Read { .. } => Class::Disk,
            Self::Agent(_) => Class::Failed,
            Self::TrustMissing
            | Self::NoBundle { .. }
            | Self::Unsigned { .. }
            | Self::Signature(_)
            | Self::FileMissing { .. }
            | Self::NotAFile { .. }
            | Self::Torn { .. }
            | Self::Damaged { .. }
            | Self::Bundle(_)
            | Self::Manifest { .. }
            | Self::Delta { .. }
            | Self::Block { .. }
            | Self::Contradiction(_)
            | Self::Generation(_)
            | Self::BaseMissing { .. }
            | Self::BaseDamaged { .. } => Class::Refused,
        }
    }

    /// The reason in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => "Cancelled",
            Self::TrustMissing => "TrustMissing",
            Self::NoBundle { .. } => "BundleMissing",
            Self::Unsigned { .. } => "SignatureMissing",
            Self::Signature(error) => error.name(),
            Self::FileMissing { .. } => "PartMissing",
            Self::NotAFile { .. } => "PartNotAFile",
            Self::Torn { .. } => "PartTorn",
            Self::Damaged { .. } => "PartDamaged",
            Self::Bundle(error) => error.name(),
            Self::Manifest { source, .. } => source.name(),
            Self::Delta { source, .. } | Self::Block { source, .. } => source.name(),
            Self::Contradiction(_) => "BundleContradictsItself",
            Self::Generation(refusal) => refusal.name(),
            Self::BaseMissing { .. } => "BaseMissing",
            Self::BaseDamaged { .. } => "BaseDamaged",
            Self::Read { .. } => "BundleUnreadable",
            Self::Store(error) => error.reason(),
            Self::State(_) => "DiskError",
            Self::ImportsCorrupt(_) => "ImportsCorrupt",
            Self::Agent(_) => "AgentFailed",
        }
    }
}
