//! One row of the desired set, checked: every name in it may be used as a folder name without another look.

use nave_names::{Digest, ModelName, Namespace, PolicyName, VersionName};
use serde::{Deserialize, Serialize};

/// What identifies a row of the desired set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryKey {
    /// The policy's namespace.
    pub namespace: Namespace,
    /// The policy's name.
    pub policy: PolicyName,
    /// What the runtime knows the model by.
    pub model: ModelName,
    /// The version.
    pub version: VersionName,
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {} {}", self.namespace, self.policy, self.model, self.version)
    }
}

/// What a row asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Have the weights, verified; serve what is served now.
    Prefetch,
    /// Run this version.
    Serve,
    /// Something this agent does not know, from a newer hub. It is refused, and nothing of the model is taken away.
    Unknown(i32),
}

/// One thing that a policy asks of this spoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which row.
    #[serde(flatten)]
    pub key: EntryKey,
    /// The version's identity.
    pub manifest_digest: Digest,
    /// What to do.
    pub action: Action,
    /// By which runtime; never empty.
    pub runtime: String,
    /// How long a new version may take to answer, in seconds.
    pub probe_timeout_seconds: u32,
    /// The site's limits.
    #[serde(default)]
    pub transfer: Transfer,
    /// True = when this row goes, the model stays as it is.
    #[serde(default)]
    pub keep_on_removal: bool,
    /// PEM of the key that has to have signed the weights; empty = none asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature_public_key: String,
    /// Not to be evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<VersionName>,
    /// The ModelVersion's: onnx, safetensors, gguf, files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
}

/// A version, and what has to have signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vouch {
    /// Of the version's manifest.
    pub manifest: Digest,
    /// SHA-256 of the PEM text that its signature is checked with.
    pub trust: Digest,
}

impl Entry {
    /// Whose signature the entry asks for; `None` = nobody's.
    pub fn vouch(&self) -> Option<Vouch> {
        let trust = Digest::of(self.signature_public_key.as_bytes());
        (!self.signature_public_key.is_empty()).then_some(Vouch { manifest: self.manifest_digest, trust })
    }
}

/// Limits of the site for weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// 0 = no limit.
    #[serde(default)]
    pub max_bytes_per_second: u64,
    /// When weights may be pulled; empty = always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// Hours of some days of the week in a time zone, in the wire's words; whoever pulls reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `Mon` to `Sun`; empty = every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// Time of day, `22:00`.
    pub start: String,
    /// Time of day; not after `start` = the next day's.
    pub end: String,
    /// IANA name.
    pub time_zone: String,
}
