//! What the site wants: a YAML file, flags and environment over it. Read once, checked whole, so that a mistake ends the
//! process with a sentence instead of showing up at the first assignment.

mod address;
mod file;
mod peer;
mod storage;

use std::{collections::BTreeMap, fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use nave_names::ClusterName;

use crate::{identity::CaHash, store::ColdTier};

pub use address::HubAddress;
pub use file::{ColdFile, ConfigFile, FilesFile, HookFile, PeerFile, RuntimesFile, StorageFile};
pub use peer::PeerConfig;
pub use storage::Percent;

/// Where state lies unless said, for every command.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/nave";
/// Reachable from the spoke itself only, unless said.
const DEFAULT_HTTP: &str = "127.0.0.1:9090";
/// A hook that takes longer than this for its own part has hung.
const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands over the file: flags and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--hub`
    pub hub: Option<String>,
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--join-token-file`
    pub join_token_file: Option<PathBuf>,
    /// `NAVE_JOIN_TOKEN`
    pub join_token: Option<String>,
    /// `--ca-hash`
    pub ca_hash: Option<String>,
    /// `--http-listen`
    pub http_listen: Option<String>,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the hub is.
    pub hub: HubAddress,
    /// The wanted name.
    pub cluster: Option<ClusterName>,
    /// The pinned CA.
    pub ca_hash: Option<CaHash>,
    /// Where the join token comes from.
    pub join_token: JoinToken,
    /// Everything that the agent writes lies below it.
    pub state_dir: PathBuf,
    /// Where the admin port listens.
    pub http_listen: SocketAddr,
    /// For the EdgeCluster.
    pub labels: BTreeMap<String, String>,
    /// For placement.
    pub facts: BTreeMap<String, String>,
    /// Most ranged requests at once; `None` = the puller decides.
    pub max_concurrent_ranges: Option<u32>,
    /// More authorities for S3.
    pub s3_ca_file: Option<PathBuf>,
    /// Whose bundles count; `None` = those of the hub's authority.
    pub bundle_trust_file: Option<PathBuf>,
    /// Most bytes that the store may take.
    pub quota: Option<u64>,
    /// How much of that versions that nothing needs may take.
    pub watermarks: Percent,
    /// The second tier of the store.
    pub cold: Option<ColdTier>,
    /// Whether `files` is served.
    pub files: bool,
    /// Where models are laid out.
    pub models_dir: PathBuf,
    /// The hook, if configured.
    pub hook: Option<HookConfig>,
    /// Sharing with the other spokes of the site, if configured.
    pub peer: Option<PeerConfig>,
}

/// Where the join token comes from. Read when it is needed, since a mounted Secret may come later than the process.
#[derive(Clone)]
pub enum JoinToken {
    /// None was configured: fine once the spoke has joined.
    Absent,
    /// The text itself.
    Text(String),
    /// A file with it.
    File(PathBuf),
}

/// How a hook is called.
#[derive(Clone, Debug)]
pub struct HookConfig {
    /// What is called.
    pub target: HookTarget,
    /// Polled after a switch.
    pub health_url: Option<String>,
    /// How long a call may take.
    pub timeout: Duration,
}

/// What is called.
#[derive(Clone, Debug)]
pub enum HookTarget {
    /// Program and arguments; never empty.
    Command(Vec<String>),
    /// POST.
    Url(url::Url),
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {} is not right", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: serde_yaml::Error,
    },
    /// A value is missing or wrong.
    #[error("configuration: {field}: {problem}")]
    Value {
        /// Its name in the file.
        field: &'static str,
        /// What was expected.
        problem: String,
    },
}

impl Config {
    /// The file with `over` laid over it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the field.
    pub fn new(file: ConfigFile, over: Overrides) -> Result<Self, ConfigError> {
        let value = |field, problem: String| ConfigError::Value { field, problem };
        let Some(hub) = over.hub.or(file.hub) else {
            return Err(value("hub", "missing: give it here or with --hub host:port".to_owned()));
        };
        let hub = hub.parse().map_err(|problem| value("hub", problem))?;
        let cluster = over.cluster.or(file.cluster).filter(|name| !name.is_empty());
        let cluster =
            cluster.map(ClusterName::new).transpose().map_err(|e| value("cluster", e.to_string()))?;
        let ca_hash = over.ca_hash.or(file.ca_hash).filter(|hash| !hash.is_empty());
        let ca_hash = ca_hash
            .map(|hash| hash.parse())
            .transpose()
            .map_err(|e: crate::identity::BadCaHash| value("caHash", e.to_string()))?;
        let http_listen = over.http_listen.or(file.http_listen).unwrap_or_else(|| DEFAULT_HTTP.to_owned());
        let http_listen = http_listen.parse().map_err(|_| {
            value("httpListen", format!("{http_listen:?} is not an address such as 127.0.0.1:9090"))
        })?;
        let state_dir = over.state_dir.or(file.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let join_token = match (over.join_token, over.join_token_file.or(file.join_token_file)) {
            (Some(text), _) if !text.trim().is_empty() => JoinToken::Text(text.trim().to_owned()),
            (_, Some(path)) => JoinToken::File(path),
            (_, None) => JoinToken::Absent,
        };
        let storage::Storage { quota, watermarks, cold } = storage::Storage::new(file.storage)?;
        let runtimes =
            file.runtimes.unwrap_or(RuntimesFile { files: Some(FilesFile::default()), hook: None });
        let hook = runtimes.hook.map(HookConfig::new).transpose()?;
        let (files, dir) = runtimes
            .files
            .map_or((false, None), |files| (true, files.dir.filter(|dir| !dir.as_os_str().is_empty())));
        Ok(Self {
            hub,
            cluster,
            ca_hash,
            join_token,
            models_dir: dir.unwrap_or_else(|| state_dir.join("models")),
            state_dir,
            http_listen,
            labels: file.labels,
            facts: file.facts,
            max_concurrent_ranges: file.max_concurrent_ranges,
            s3_ca_file: file.s3_ca_file,
            bundle_trust_file: file.bundle_trust_file,
            quota,
            watermarks,
            cold,
            files,
            hook,
            peer: file.peer.map(PeerConfig::new).transpose()?,
        })
    }
}

impl HookConfig {
    fn new(file: HookFile) -> Result<Self, ConfigError> {
        let value = |field, problem: &str| ConfigError::Value { field, problem: problem.to_owned() };
        let target = match (file.command.is_empty(), file.url) {
            (false, None) => HookTarget::Command(file.command),
            (true, Some(url)) => {
                let url = url.parse().map_err(|_| value("runtimes.hook.url", "not a URL"))?;
                HookTarget::Url(url)
            }
            (false, Some(_)) => return Err(value("runtimes.hook", "either command or url, not both")),
            (true, None) => return Err(value("runtimes.hook", "needs a command or a url")),
        };
        let timeout = file.timeout.map_or(Ok(DEFAULT_HOOK_TIMEOUT), |text| {
            let span: jiff::SignedDuration =
                text.parse().map_err(|_| value("runtimes.hook.timeout", "not a duration such as 30s"))?;
            Duration::try_from(span).map_err(|_| value("runtimes.hook.timeout", "negative"))
        })?;
        if let Some(url) = &file.health_url {
            let probe = url.replace("{model}", "m").replace("{version}", "1");
            probe.parse::<url::Url>().map_err(|_| value("runtimes.hook.healthUrl", "not a URL"))?;
        }
        Ok(Self { target, health_url: file.health_url, timeout })
    }
}

impl JoinToken {
    /// The token's text; `None` = none was configured.
    ///
    /// # Errors
    /// The file could not be read, or is empty.
    pub fn read(&self) -> Result<Option<String>, ConfigError> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text.clone())),
            Self::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                let text = text.trim();
                if text.is_empty() {
                    let problem = format!("{} is empty", path.display());
                    return Err(ConfigError::Value { field: "joinTokenFile", problem });
                }
                Ok(Some(text.to_owned()))
            }
        }
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_in_result)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Result<Config, ConfigError> {
        Config::new(serde_yaml::from_str(yaml).unwrap(), Overrides::default())
    }

    #[test]
    fn a_small_file_is_enough() {
        let config =
            config("hub: h\nstateDir: /s\nstorage: {quota: 2Gi}\nruntimes: {files: {dir: \"\"}}").unwrap();
        assert_eq!((config.models_dir, config.quota), (PathBuf::from("/s/models"), Some(2 << 30)));
        assert!(config.files && config.hook.is_none());
    }

    #[test]
    fn what_nothing_needs_is_kept_within_a_quota_only_unless_the_site_says_so() {
        for (yaml, high, low) in [
            ("{}", 0, 0),
            ("{quota: 1Gi}", 85, 70),
            ("{quota: 1Gi, highWatermark: 60}", 60, 60),
            ("{highWatermark: 90}", 90, 70),
            ("{quota: 1Gi, highWatermark: 0}", 0, 0),
        ] {
            let config = config(&format!("hub: h\nstorage: {yaml}")).unwrap();
            assert_eq!(config.watermarks, Percent { high, low }, "{yaml}");
        }
    }

    #[test]
    fn a_cold_tier_keeps_between_watermarks_unless_the_site_says_otherwise() {
        let cold = |yaml: &str| config(&format!("hub: h\nstorage: {{cold: {yaml}}}")).unwrap().cold.unwrap();
        let plain = cold("{dir: /mnt/disk/nave}");
        assert_eq!((plain.quota, plain.high, plain.low), (None, 85, 70));
        let other = cold("{dir: /mnt/disk/nave, quota: 2Gi, highWatermark: 60}");
        assert_eq!((other.quota, other.high, other.low), (Some(2 << 30), 60, 60));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, field) in [
            ("stateDir: /s", "hub"),
            ("hub: h\ncluster: Bad_Name", "cluster"),
            ("hub: h\ncaHash: sha256:12", "caHash"),
            ("hub: h\nhttpListen: nowhere", "httpListen"),
            ("hub: h\nstorage: {quota: much}", "storage.quota"),
            ("hub: h\nstorage: {highWatermark: 101}", "storage.highWatermark"),
            ("hub: h\nstorage: {highWatermark: 50, lowWatermark: 60}", "storage.lowWatermark"),
            ("hub: h\nstorage: {cold: {}}", "storage.cold.dir"),
            ("hub: h\nstorage: {cold: {dir: cold}}", "storage.cold.dir"),
            ("hub: h\nstorage: {cold: {dir: /c, quota: much}}", "storage.cold.quota"),
            ("hub: h\nstorage: {cold: {dir: /c, lowWatermark: 101}}", "storage.cold.lowWatermark"),
            ("hub: h\nruntimes: {hook: {}}", "runtimes.hook"),
            ("hub: h\nruntimes: {hook: {command: [x], timeout: soon}}", "runtimes.hook.timeout"),
        ] {
            let error = config(yaml).unwrap_err().to_string();
            assert!(error.starts_with(&format!("configuration: {field}: ")), "{error}");
        }
        assert!(serde_yaml::from_str::<ConfigFile>("hubb: h").unwrap_err().to_string().contains("hubb"));
    }

    #[test]
    fn a_token_is_not_shown_by_debug() {
        assert!(!format!("{:?}", JoinToken::Text("secret".into())).contains("secret"));
    }
}
