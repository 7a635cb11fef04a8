//! A real Kubernetes node on this machine: kubelet, kube-proxy, scheduler and containerd, in a network namespace and a cgroup
//! of their own, with a control plane of their own. One at a time; what a killed one left is swept before the next.

mod cgroups;
mod command;
mod image;
mod kernel;
mod kubelet;
mod layout;
mod network;
mod relay;
mod requirements;
mod runtime;
mod sweep;
mod tar;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use self::layout::Layout;
use crate::{Daemon, Kubectl, Progress, Tools, eventually, tools};

pub use self::{image::Image, layout::HOST_ADDRESS, relay::Relay, requirements::missing};

/// A running node. Dropping it takes everything away again.
#[derive(Debug)]
pub struct Node {
    tools: Tools,
    layout: Layout,
    kubeconfig: PathBuf,
    /// In the order of their start.
    daemons: Vec<(&'static str, Daemon)>,
}

const CONTAINERD: &str = "containerd";

/// All starts measured took less than 8 s in sum; tests run beside compilers.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Takes away what a killed node left, and puts the kernel's settings back. Waits for a node that is running.
///
/// # Errors
/// When something cannot be ended or removed.
pub fn clean() -> Result<()> {
    sweep::sweep(&Layout::lock(&tools::cache()?)?).context("sweep what an earlier node left")
}

impl Node {
    /// Starts a control plane and a node, and waits until pods can be scheduled. `pause` is the static binary that every
    /// pod's first container runs.
    ///
    /// # Errors
    /// When something does not start; the text says what, with the end of its log.
    pub async fn start(tools: &Tools, pause: &Path) -> Result<Self> {
        let layout = Layout::lock(&tools::cache()?)?;
        sweep::sweep(&layout).context("sweep what an earlier node left")?;
        layout.create()?;
        let kubeconfig = layout.file("admin.kubeconfig");
        let mut node = Self { tools: tools.clone(), layout, kubeconfig, daemons: Vec::new() };
        kernel::keep(&node.layout)?;
        network::create().context("make the node's network")?;
        cgroups::create().context("make the node's cgroup")?;
        node.start_control_plane().await?;
        node.start_runtime(pause).await?;
        node.start_kubelet().await?;
        Ok(node)
    }

    /// Reaches the API server as administrator, from this machine and from the node.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl as administrator.
    ///
    /// # Errors
    /// When it is not in the cache.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.tools, &self.kubeconfig)
    }

    /// Builds an image and puts it on the node.
    ///
    /// # Errors
    /// When it cannot be built or imported.
    pub fn import(&self, image: &Image) -> Result<()> {
        runtime::import(&self.layout, image)
    }

    /// A new folder on the node that root owns, for a volume.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn volume(&self, name: &str) -> Result<PathBuf> {
        let folder = self.layout.volumes().join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    async fn start_control_plane(&mut self) -> Result<()> {
        let words = vec![
            self.tools.fetched("controlplane")?.display().to_string(),
            format!("--data-dir={}", self.layout.file("controlplane").display()),
            format!("--bind-address={HOST_ADDRESS}"),
            format!("--kubeconfig={}", self.kubeconfig.display()),
        ];
        self.spawn("controlplane", &words)?;
        let kubeconfig = self.kubeconfig.clone();
        self.wait_for("the control plane", async || Ok(kubeconfig.exists())).await
    }

    async fn start_runtime(&mut self, pause: &Path) -> Result<()> {
        let mut words = network::inside().to_vec();
        words.extend(runtime::configure(&self.layout)?);
        self.spawn(CONTAINERD, &words)?;
        self.wait_for(CONTAINERD, async || Ok(runtime::answers())).await?;
        self.import(&Image::new(runtime::PAUSE_IMAGE, pause))
    }

    async fn start_kubelet(&mut self) -> Result<()> {
        let inside = network::inside();
        self.spawn_part("kube-scheduler", &[], kubelet::scheduler(&self.kubeconfig))?;
        self.spawn_part("kube-proxy", &inside, kubelet::proxy(&self.layout, &self.kubeconfig)?)?;
        self.spawn_part("kubelet", &inside, kubelet::kubelet(&self.layout, &self.kubeconfig)?)?;
        let kubectl = self.kubectl()?;
        self.wait_for("the node", async || {
            let condition = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            Ok(kubectl.run(&["get", "nodes", "-o", condition]).await? == "True")
        })
        .await
    }

    fn spawn_part(&mut self, name: &'static str, prefix: &[String], arguments: Vec<String>) -> Result<()> {
        let mut words = prefix.to_vec();
        words.push(self.tools.fetched("node")?.display().to_string());
        words.extend(arguments);
        self.spawn(name, &words)
    }

    fn spawn(&mut self, name: &'static str, words: &[String]) -> Result<()> {
        let [program, arguments @ ..] = words else { anyhow::bail!("{name} has no command") };
        let configure = |command: &mut std::process::Command| {
            command.args(arguments);
        };
        let daemon = Daemon::start(name, Path::new(program), configure, &self.log(name))?;
        self.daemons.push((name, daemon));
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.layout.file(&format!("{name}.log"))
    }

    async fn wait_for(&mut self, what: &str, ready: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let daemons = &mut self.daemons;
        eventually(&format!("{what} to be ready"), READY_WITHIN, || {
            let ended = daemons.iter_mut().try_for_each(|(_, daemon)| daemon.ensure_running());
            let ready = ready();
            async move {
                match ended {
                    Ok(()) => Ok(Progress::when(ready.await?, Ok(()), "not yet")),
                    // Waiting would change nothing.
                    Err(error) => Ok(Progress::Done(Err(error))),
                }
            }
        })
        .await?
    }

    fn stop(&mut self) -> Result<()> {
        // The kubelet first, which would start anew what is ended; then the containers, while containerd can still tear
        // them down in order.
        self.daemons.retain(|(name, _)| *name == CONTAINERD);
        let ended = if self.daemons.is_empty() { Ok(()) } else { runtime::end_tasks() };
        self.daemons.clear();
        sweep::sweep(&self.layout).context("sweep the node")?;
        ended
    }

    /// Keeps the logs of a failed test, next to the node's folder.
    fn keep_logs(&self) -> Result<()> {
        let kept = tools::cache()?.join("node-logs");
        std::fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
        for (name, daemon) in &self.daemons {
            let log = daemon.log_path();
            std::fs::copy(log, kept.join(format!("{name}.log")))
                .with_context(|| format!("keep {}", log.display()))?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = self.keep_logs()
        {
            tracing::warn!(?error, "the node's logs are lost");
        }
        if let Err(error) = self.stop() {
            tracing::error!(?error, "the node did not go cleanly");
        }
    }
}
