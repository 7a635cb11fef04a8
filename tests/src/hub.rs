//! The hub as a real process, running with exactly the permissions that its chart gives it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    control_plane::ControlPlane,
    daemon::{Daemon, without_callers_settings},
    eventually::{Progress, eventually},
    kubectl::{Kubectl, text_of},
    ports::free_port,
    tools::{Tools, checkout},
};

/// Where the hub and its Secrets live.
pub const SYSTEM_NAMESPACE: &str = "nave-system";
/// The chart's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "nave-operator";
const READY_LIMIT: Duration = Duration::from_secs(90);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How it is started. Shorter periods than a real hub's, so that tests of absence do not take minutes.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Name of the replica.
    pub name: String,
    /// `--heartbeat`
    pub heartbeat: &'static str,
    /// `--grace-period`
    pub grace_period: &'static str,
    /// `--lease-duration`
    pub lease_duration: &'static str,
    /// `--certificate-ttl`
    pub certificate_ttl: &'static str,
    /// `--url-ttl`
    pub url_ttl: &'static str,
    /// A name of its certificate beside 127.0.0.1.
    pub server_name: Option<&'static str>,
    /// `RUST_LOG`
    pub log: &'static str,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            name: "hub-0".to_owned(),
            heartbeat: "2s",
            grace_period: "8s",
            lease_duration: "5s",
            certificate_ttl: "720h",
            url_ttl: "15m",
            server_name: None,
            log: "info",
        }
    }
}

/// A replica of the hub; ended when dropped.
#[derive(Debug)]
pub struct Hub {
    daemon: Daemon,
    start: Start,
    http: SocketAddr,
}

#[derive(Debug)]
struct Start {
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
    grpc_port: u16,
    settings: HubSettings,
}

#[derive(Deserialize)]
struct Addresses {
    http: SocketAddr,
}

impl Hub {
    /// Installs what the chart holds beside pods: CRDs, ServiceAccount, permissions. Once per control plane. With one model
    /// namespace, which has to exist, the hub may read the Secrets of that one alone.
    ///
    /// # Errors
    /// Helm failed; the error holds what it said.
    pub async fn install_permissions(
        tools: &Tools,
        plane: &ControlPlane,
        model_namespace: Option<&str>,
    ) -> anyhow::Result<()> {
        let namespaces = match model_namespace {
            None => "rbac.allModelNamespaces=true".to_owned(),
            Some(namespace) => format!("rbac.modelNamespaces={{{namespace}}}"),
        };
        let chart = checkout().join("charts/nave-operator");
        let chart = chart.to_string_lossy();
        let arguments = [
            "upgrade",
            "--install",
            SERVICE_ACCOUNT,
            &chart,
            "--namespace",
            SYSTEM_NAMESPACE,
            "--create-namespace",
            // No pods: the hub runs as a process here.
            "--set",
            "replicas=0",
            "--set",
            &namespaces,
        ];
        let mut helm = std::process::Command::new(tools.fetched("helm")?);
        without_callers_settings(&mut helm);
        helm.args(arguments).env("KUBECONFIG", plane.kubeconfig());
        // Helm's own caches and settings stay out of the home folder.
        let home = tempfile::tempdir().context("making a folder for helm")?;
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, home.path());
        }
        let output = tokio::process::Command::from(helm).output().await.context("running helm")?;
        text_of(&arguments, output).map(drop)
    }

    /// Starts a replica with its files in `folder` and waits until it is ready.
    ///
    /// # Errors
    /// It did not become ready; the error holds the end of its log.
    pub async fn start(
        tools: &Tools,
        plane: &ControlPlane,
        folder: &Path,
        settings: HubSettings,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(&settings.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let kubeconfig = folder.join("kubeconfig");
        service_account_kubeconfig(tools, plane, &kubeconfig).await?;
        let program = tools.ours("nave-operator")?;
        // Always the same port, so that spokes find a restarted hub where it was.
        let start = Start { program, kubeconfig, folder, grpc_port: free_port()?, settings };
        let (daemon, http) = start.run().await?;
        Ok(Self { daemon, start, http })
    }

    /// `127.0.0.1:port`, for spokes.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.start.grpc_port)
    }

    /// The admin port: `/livez`, `/readyz`, `/metrics`.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
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
        anyhow::ensure!(status.success(), "the hub ended with {status} after SIGTERM");
        Ok(())
    }

    /// Starts it again, at the same address.
    ///
    /// # Errors
    /// It did not become ready.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon.kill();
        (self.daemon, self.http) = self.start.run().await?;
        Ok(())
    }
}

impl Start {
    async fn run(&self) -> anyhow::Result<(Daemon, SocketAddr)> {
        let addresses = self.folder.join("addresses.json");
        if addresses.exists() {
            std::fs::remove_file(&addresses).context("removing the old address file")?;
        }
        let configure = |command: &mut std::process::Command| {
            let settings = &self.settings;
            without_callers_settings(command);
            command.env("KUBECONFIG", &self.kubeconfig).env("RUST_LOG", settings.log);
            command.args(["run", "--log-format", "text", "--namespace", SYSTEM_NAMESPACE]);
            command.args(["--name", &settings.name, "--http-listen", "127.0.0.1:0"]);
            command.args(["--grpc-listen", &format!("127.0.0.1:{}", self.grpc_port)]);
            command.args(["--heartbeat", settings.heartbeat, "--grace-period", settings.grace_period]);
            command.args(["--lease-duration", settings.lease_duration, "--url-ttl", settings.url_ttl]);
            command.args(["--certificate-ttl", settings.certificate_ttl]);
            if let Some(name) = settings.server_name {
                command.args(["--server-name", "127.0.0.1", "--server-name", name]);
            }
            command.arg("--address-file").arg(&addresses);
        };
        let log = self.folder.join("operator.log");
        let mut daemon =
            Daemon::start(&format!("the hub {}", self.settings.name), &self.program, configure, &log)?;
        let http = wait_until_ready("the hub", &mut daemon, &addresses, |text| {
            let Addresses { http } = serde_json::from_str(text)?;
            Ok(http)
        })
        .await?;
        Ok((daemon, http))
    }
}

/// Waits for the address file and then for `/readyz`.
pub(crate) async fn wait_until_ready(
    who: &str,
    daemon: &mut Daemon,
    addresses: &Path,
    parse: impl Fn(&str) -> anyhow::Result<SocketAddr>,
) -> anyhow::Result<SocketAddr> {
    let what = format!("{who} to be ready");
    let waited = eventually(&what, READY_LIMIT, || {
        let ended = daemon.ensure_running();
        let address = std::fs::read_to_string(addresses);
        let address = address.context("no address file yet").and_then(|text| parse(&text));
        async move {
            if let Err(error) = ended {
                return Ok(Progress::Done(Err(error)));
            }
            let http = address?;
            let answer = reqwest::get(format!("http://{http}/readyz")).await?;
            let ready = answer.status().is_success();
            let pending = answer.text().await?;
            Ok(Progress::when(ready, Ok(http), pending))
        }
    });
    let result = waited.await;
    result.with_context(|| format!("its log ends with:\n{}", crate::daemon::tail(daemon.log_path(), 4096)))?
}

/// A kubeconfig with a token of the chart's ServiceAccount instead of the administrator's certificate.
async fn service_account_kubeconfig(
    tools: &Tools,
    plane: &ControlPlane,
    target: &Path,
) -> anyhow::Result<()> {
    let kubectl = Kubectl::new(tools, plane.kubeconfig())?;
    let token = kubectl
        .run(&["-n", SYSTEM_NAMESPACE, "create", "token", SERVICE_ACCOUNT, "--duration", "24h"])
        .await?;
    let admin =
        std::fs::read_to_string(plane.kubeconfig()).context("reading the administrator's kubeconfig")?;
    let mut content: serde_json::Value = serde_yaml::from_str(&admin).context("parsing the kubeconfig")?;
    let user = serde_json::json!({"token": token.trim()});
    for entry in content["users"].as_array_mut().into_iter().flatten() {
        entry["user"] = user.clone();
    }
    std::fs::write(target, content.to_string()).with_context(|| format!("writing {}", target.display()))
}
