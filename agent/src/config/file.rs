//! The configuration file, as it is written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::ConfigError;

/// The file, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// `host:port` of the hub.
    pub hub: Option<String>,
    /// Name of this spoke's EdgeCluster; absent = the join token's.
    pub cluster: Option<String>,
    /// `sha256:<hex>` of the hub's CA, as `kubectl nave token create` printed it.
    pub ca_hash: Option<String>,
    /// File with the join token; needed until the spoke has joined.
    pub join_token_file: Option<PathBuf>,
    /// Everything that the agent writes lies below it.
    pub state_dir: Option<PathBuf>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http_listen: Option<String>,
    /// For the EdgeCluster, if joining creates it.
    pub labels: BTreeMap<String, String>,
    /// Free facts for placement, beside those that the agent finds out.
    pub facts: BTreeMap<String, String>,
    /// Most ranged requests at once.
    pub max_concurrent_ranges: Option<u32>,
    /// PEM file of authorities that S3's certificate may come from, beside the system's.
    pub s3_ca_file: Option<PathBuf>,
    /// PEM file of the key, or of the authorities, that bundles have to be signed by; absent = the hub's authority.
    pub bundle_trust_file: Option<PathBuf>,
    /// What serves models here; absent = `files`.
    pub runtimes: Option<RuntimesFile>,
    /// Limits for the store.
    pub storage: StorageFile,
    /// Sharing with the other spokes of the site; absent = none.
    pub peer: Option<PeerFile>,
}

/// Sharing with the other spokes of the site.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerFile {
    /// Where they are served, `0.0.0.0:7445`.
    pub listen: String,
    /// Where they reach this spoke; absent = `listen`, if that is an address of its own.
    pub advertise: Option<String>,
}

/// What serves models here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuntimesFile {
    /// Folders that other programs read.
    pub files: Option<FilesFile>,
    /// A command or an address that is told.
    pub hook: Option<HookFile>,
}

/// The runtime `files`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FilesFile {
    /// Absent = `models` below the state folder. Best on the file system of the store: then nothing is stored twice.
    pub dir: Option<PathBuf>,
}

/// The runtime `hook`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HookFile {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Or: POST JSON there.
    pub url: Option<String>,
    /// Polled after a switch until it answers 2xx; `{model}` and `{version}` are filled in.
    pub health_url: Option<String>,
    /// `30s`; absent = one minute.
    pub timeout: Option<String>,
}

/// Limits for the store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StorageFile {
    /// Bytes, such as `200Gi`.
    pub quota: Option<String>,
    /// In percent of the quota (without one, of the file system): when more is taken, versions that nothing needs go, the
    /// longest unneeded first. 0 = they go at once.
    pub high_watermark: Option<u8>,
    /// Until no more than this is taken.
    pub low_watermark: Option<u8>,
    /// A second tier, for what is kept and not served; absent = none.
    pub cold: Option<ColdFile>,
}

/// The cold tier of the store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ColdFile {
    /// A folder on another disk, for this store alone.
    pub dir: PathBuf,
    /// Bytes, such as `2Ti`; absent = what its disk has.
    pub quota: Option<String>,
    /// In percent of the quota (without one, of its file system): when more is taken, versions that nothing needs go, the
    /// longest unneeded first.
    pub high_watermark: Option<u8>,
    /// Until no more than this is taken.
    pub low_watermark: Option<u8>,
}

impl ConfigFile {
    /// Most bytes that the store may take.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn quota(&self) -> Result<Option<u64>, ConfigError> {
        super::storage::Storage::new(self.storage.clone()).map(|storage| storage.quota)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the place in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
    }
}
