//! An agent as a real process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    daemon::{Daemon, tail, without_callers_settings},
    eventually::{Progress, eventually},
    kubectl::Kubectl,
    tools::Tools,
};

const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// What the person who installs the agent was given.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinInstructions {
    /// `<id>.<secret>`.
    pub token: String,
    /// `sha256:<hex>` of the hub's CA.
    pub ca_hash: String,
}

impl JoinInstructions {
    /// `kubectl nave token create`, with more arguments.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn create(kubectl: &Kubectl, hub: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let all = [&["nave", "token", "create", "--hub-address", hub], arguments].concat();
        serde_json::from_value(kubectl.json(&all).await?).context("reading what `nave token create` printed")
    }
}

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct SpokeSettings {
    /// The cluster's name.
    pub cluster: String,
    /// `host:port`.
    pub hub: String,
    /// Token and pin; none for a spoke that has joined.
    pub join: Option<JoinInstructions>,
    /// Labels for the EdgeCluster that joining creates.
    pub labels: Vec<(String, String)>,
    /// Further keys of the configuration, as YAML.
    pub extra: String,
    /// The network namespace that it runs in; `None` = this machine's own.
    pub namespace: Option<String>,
    /// `RUST_LOG`
    pub log: &'static str,
}

impl SpokeSettings {
    /// A spoke that joins.
    pub fn joining(cluster: &str, hub: &str, join: &JoinInstructions) -> Self {
        Self {
            cluster: cluster.to_owned(),
            hub: hub.to_owned(),
            join: Some(join.clone()),
            labels: Vec::new(),
            extra: String::new(),
            namespace: None,
            log: "info",
        }
    }

    /// The same with a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running agent; ended when dropped. Its state folder stays for the next start.
#[derive(Debug)]
pub struct Spoke {
    daemon: Daemon,
    start: Start,
}

#[derive(Debug)]
struct Start {
    program: PathBuf,
    folder: PathBuf,
    cluster: String,
    namespace: Option<String>,
    log: &'static str,
}

#[derive(Deserialize)]
struct Addresses {
    http: SocketAddr,
}

impl Spoke {
    /// Starts an agent with its files in `folder/CLUSTER`. It need not have reached the hub when this returns.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(tools: &Tools, folder: &Path, settings: &SpokeSettings) -> anyhow::Result<Self> {
        let folder = folder.join(&settings.cluster);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        write_configuration(&folder, settings)?;
        let start = Start {
            program: tools.ours("nave-agent")?,
            folder,
            cluster: settings.cluster.clone(),
            namespace: settings.namespace.clone(),
            log: settings.log,
        };
        Ok(Self { daemon: start.run()?, start })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.start.cluster
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The end of its log, for messages.
    pub fn log_tail(&self) -> String {
        format!("the log of {} ends with:\n{}", self.start.cluster, tail(self.daemon.log_path(), 4096))
    }

    /// `--state-dir`.
    pub fn state(&self) -> PathBuf {
        self.start.folder.join("state")
    }

    /// What the runtime `files` serves for a model: the folder that `current` points to, with its links resolved.
    pub fn current(&self, model: &str) -> Option<PathBuf> {
        std::fs::canonicalize(self.state().join("models").join(model).join("current")).ok()
    }

    /// The address of the admin port.
    ///
    /// # Errors
    /// It is not there in time.
    pub async fn http(&mut self) -> anyhow::Result<SocketAddr> {
        let file = self.start.folder.join("addresses.json");
        let daemon = &mut self.daemon;
        let waited = eventually("the agent's address file", START_LIMIT, || {
            let ended = daemon.ensure_running();
            let text = std::fs::read_to_string(&file);
            async move {
                if let Err(error) = ended {
                    return Ok(Progress::Done(Err(error)));
                }
                let Addresses { http } = serde_json::from_str(&text?)?;
                Ok(Progress::Done(Ok(http)))
            }
        });
        waited.await?
    }

    /// Returns when the process has ended, which it should not by itself; the error holds the end of its log.
    pub async fn until_it_ends(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.daemon.ensure_running() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// SIGTERM, and waits until it has drained.
    ///
    /// # Errors
    /// It took too long or ended with an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.daemon.terminate(DRAIN_LIMIT).await?;
        anyhow::ensure!(status.success(), "the agent ended with {status} after SIGTERM");
        Ok(())
    }

    /// Starts it again with the same state.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon.kill();
        self.daemon = self.start.run()?;
        Ok(())
    }
}

impl Start {
    fn run(&self) -> anyhow::Result<Daemon> {
        let addresses = self.folder.join("addresses.json");
        if addresses.exists() {
            std::fs::remove_file(&addresses).context("removing the old address file")?;
        }
        let configure = |command: &mut std::process::Command| {
            without_callers_settings(command);
            if let Some(namespace) = &self.namespace {
                command.arg(format!("--net=/run/netns/{namespace}")).arg(&self.program);
            }
            command.env("RUST_LOG", self.log);
            command.args(["run", "--log-format", "text", "--config"]).arg(self.folder.join("agent.yaml"));
            command.arg("--address-file").arg(&addresses);
        };
        let log = self.folder.join("agent.log");
        let program = if self.namespace.is_some() { Path::new("nsenter") } else { &self.program };
        Daemon::start(&format!("the agent {}", self.cluster), program, configure, &log)
    }
}

/// The site's configuration file, as an installer would write it.
fn write_configuration(folder: &Path, settings: &SpokeSettings) -> anyhow::Result<()> {
    let labels: serde_json::Map<_, _> =
        settings.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let mut content = serde_json::json!({
        "hub": settings.hub,
        "cluster": settings.cluster,
        "stateDir": folder.join("state"),
        "httpListen": "127.0.0.1:0",
        "labels": labels,
    });
    if let Some(join) = &settings.join {
        let token = folder.join("join-token");
        std::fs::write(&token, &join.token).with_context(|| format!("writing {}", token.display()))?;
        content["caHash"] = join.ca_hash.clone().into();
        content["joinTokenFile"] = token.to_string_lossy().into();
    }
    let mut text = serde_yaml::to_string(&content).context("writing the agent's configuration")?;
    text.push_str(&settings.extra);
    let path = folder.join("agent.yaml");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
