//! A real Kubernetes node on this machine: kubelet, kube-proxy, scheduler and containerd, in a network namespace and a cgroup
//! of their own, with a control plane of their own. One at a time; what a killed one left is swept before the next.

mod cgroups;
mod command;
mod daemon;
mod image;
mod kernel;
mod kubelet;
mod layout;
mod network;
mod requirements;
mod runtime;
mod sweep;
mod tar;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::{daemon::Daemon, layout::Layout};

pub use self::{image::Image, layout::HOST_ADDRESS, requirements::missing};

/// What a start needs from outside.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The program of tests/controlplane.
    pub controlplane: PathBuf,
    /// The program of tests/controlplane/node.
    pub node: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// Helm.
    pub helm: PathBuf,
    /// The static binary that is the pause container.
    pub pause: PathBuf,
    /// A folder on a real disk.
    pub cache: PathBuf,
}

/// A running node. Dropping it takes everything away again.
#[derive(Debug)]
pub struct Node {
    layout: Layout,
    parts: Parts,
    kubeconfig: PathBuf,
    daemons: Vec<Daemon>,
}

const CONTAINERD: &str = "containerd";

/// Longer than any start measured (8 s on a busy machine), shorter than patience.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Takes away what a killed node left, and puts the kernel's settings back. Waits for a node that is running.
///
/// # Errors
/// When something cannot be ended or removed.
pub fn clean(cache: &Path) -> Result<()> {
    sweep::sweep(&Layout::lock(cache)?).context("sweep what an earlier node left")
}

impl Parts {
    /// What `tests/setup.sh node controlplane kubectl` put into the cache folder.
    ///
    /// # Errors
    /// When it has not run.
    pub fn find(pause: impl Into<PathBuf>) -> Result<Self> {
        let cache = match std::env::var_os("NAVE_CACHE") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/nave"),
        };
        let file = cache.join("tools.env");
        let tools = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let tool = |name: &str| {
            let path = tools.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            path.map(PathBuf::from)
                .with_context(|| format!("{} has no {name}: run tests/setup.sh", file.display()))
        };
        Ok(Self {
            controlplane: tool("NAVE_TOOL_CONTROLPLANE")?,
            node: tool("NAVE_TOOL_NODE")?,
            kubectl: tool("NAVE_TOOL_KUBECTL")?,
            helm: tool("NAVE_TOOL_HELM")?,
            pause: pause.into(),
            cache,
        })
    }
}

impl Node {
    /// Starts a control plane and a node, and waits until pods can be scheduled.
    ///
    /// # Errors
    /// When something does not start; the text says what, and where its log is.
    pub fn start(parts: Parts) -> Result<Self> {
        let layout = Layout::lock(&parts.cache)?;
        sweep::sweep(&layout).context("sweep what an earlier node left")?;
        layout.create()?;
        let kubeconfig = layout.file("admin.kubeconfig");
        let mut node = Self { layout, parts, kubeconfig, daemons: Vec::new() };
        kernel::keep(&node.layout)?;
        network::create().context("make the node's network")?;
        cgroups::create().context("make the node's cgroup")?;
        node.start_control_plane()?;
        node.start_runtime()?;
        node.start_kubelet()?;
        Ok(node)
    }

    /// Reaches the API server as administrator, from this machine and from the node.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.client(&self.parts.kubectl, words)
    }

    /// Runs Helm as administrator and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn helm(&self, words: &[&str]) -> Result<String> {
        self.client(&self.parts.helm, words)
    }

    fn client(&self, program: &Path, words: &[&str]) -> Result<String> {
        let (program, kubeconfig) = (program.display().to_string(), self.kubeconfig.display().to_string());
        let mut all = vec![program.as_str(), "--kubeconfig", &kubeconfig];
        all.extend(words);
        command::run(&all)
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

    fn start_control_plane(&mut self) -> Result<()> {
        let words = vec![
            self.parts.controlplane.display().to_string(),
            format!("--data-dir={}", self.layout.file("controlplane").display()),
            format!("--bind-address={HOST_ADDRESS}"),
            format!("--kubeconfig={}", self.kubeconfig.display()),
        ];
        self.spawn("controlplane", words)?;
        self.wait_for("the control plane", |node| node.kubeconfig.exists())
    }

    fn start_runtime(&mut self) -> Result<()> {
        let mut words = network::inside().to_vec();
        words.extend(runtime::configure(&self.layout)?);
        self.spawn(CONTAINERD, words)?;
        self.wait_for("containerd", |_| runtime::answers())?;
        self.import(&Image::new(runtime::PAUSE_IMAGE, &self.parts.pause))
    }

    fn start_kubelet(&mut self) -> Result<()> {
        self.spawn_part("kube-scheduler", &[], kubelet::scheduler(&self.kubeconfig))?;
        let inside = network::inside();
        self.spawn_part("kube-proxy", &inside, kubelet::proxy(&self.layout, &self.kubeconfig)?)?;
        self.spawn_part("kubelet", &inside, kubelet::kubelet(&self.layout, &self.kubeconfig)?)?;
        self.wait_for("the node", |node| {
            let jsonpath = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            node.kubectl(&["get", "nodes", "-o", jsonpath]).is_ok_and(|answer| answer == "True")
        })
    }

    fn spawn_part(&mut self, name: &'static str, prefix: &[String], arguments: Vec<String>) -> Result<()> {
        let mut words = prefix.to_vec();
        words.push(self.parts.node.display().to_string());
        words.extend(arguments);
        self.spawn(name, words)
    }

    fn spawn(&mut self, name: &'static str, words: Vec<String>) -> Result<()> {
        let daemon = Daemon::spawn(name, &words, &self.log(name))?;
        self.daemons.push(daemon);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.layout.file(&format!("{name}.log"))
    }

    fn wait_for(&mut self, what: &str, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while !ready(self) {
            for daemon in &mut self.daemons {
                daemon.check().with_context(|| {
                    format!("wait for {what}; logs are in {}", self.layout.data().display())
                })?;
            }
            if Instant::now() > until {
                bail!(
                    "{what} is not ready after {READY_WITHIN:?}; logs are in {}",
                    self.layout.data().display()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        // The kubelet first, which would start anew what is ended; then the containers, while containerd can still tear
        // them down in order.
        self.daemons.retain(|daemon| daemon.name() == CONTAINERD);
        let ended = if self.daemons.is_empty() { Ok(()) } else { runtime::end_tasks() };
        self.daemons.clear();
        sweep::sweep(&self.layout).context("sweep the node")?;
        ended
    }

    /// Keeps the logs of a failed test, next to the node's folder.
    fn keep_logs(&self) -> Result<()> {
        let kept = self.parts.cache.join("node-logs");
        std::fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
        for daemon in &self.daemons {
            let log = self.log(daemon.name());
            std::fs::copy(&log, kept.join(format!("{}.log", daemon.name())))
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
