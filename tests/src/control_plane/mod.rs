//! The Kubernetes control plane of a test: our own build, envtest's binaries, or an existing cluster.

mod envtest;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    daemon::{Daemon, without_callers_settings},
    eventually::{Progress, eventually},
    ports::free_port,
    tools::Tools,
    use_ring,
};

/// A start takes 2 to 4 s on two idle cores; tests run beside compilers.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How it is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// etcd waits for the disk. For tests that kill or restart the control plane.
    pub fsync: bool,
}

/// A control plane, ended when dropped unless it is somebody else's.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    /// `NAVE_KUBECONFIG`, or the one that `nave-testenv` shares.
    Existing,
    Ours {
        daemon: Daemon,
        start: OurStart,
    },
    Envtest(envtest::Envtest),
}

#[derive(Debug)]
struct OurStart {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    settings: Settings,
}

impl ControlPlane {
    /// Starts one with its files in `folder`. With `NAVE_KUBECONFIG` set it is that cluster, with `KUBEBUILDER_ASSETS`
    /// the binaries there.
    ///
    /// # Errors
    /// It did not become ready; the error holds the end of its log.
    pub async fn start(tools: &Tools, folder: &Path, settings: Settings) -> anyhow::Result<Self> {
        use_ring();
        if let Some(kubeconfig) = env::var_os("NAVE_KUBECONFIG") {
            return Ok(Self { kubeconfig: kubeconfig.into(), running: Running::Existing });
        }
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let kubeconfig = folder.join("admin.kubeconfig");
        let running = match env::var_os("KUBEBUILDER_ASSETS") {
            Some(assets) => {
                Running::Envtest(envtest::Envtest::start(Path::new(&assets), folder, &kubeconfig)?)
            }
            None => {
                let program = tools.fetched("controlplane")?;
                let start = OurStart { program, folder: folder.to_owned(), port: free_port()?, settings };
                Running::Ours { daemon: start.run()?, start }
            }
        };
        let mut plane = Self { kubeconfig, running };
        plane.wait_until_ready().await?;
        Ok(plane)
    }

    /// The one that `nave-testenv` started for this test run; tests keep apart by namespace.
    ///
    /// # Errors
    /// The tests were not started through `nave-testenv`.
    pub fn shared() -> anyhow::Result<Self> {
        use_ring();
        let kubeconfig = env::var_os("NAVE_TEST_KUBECONFIG").context(
            "NAVE_TEST_KUBECONFIG is not set: run the tests by `make test`, or by nave-testenv -- COMMAND",
        )?;
        Ok(Self { kubeconfig: kubeconfig.into(), running: Running::Existing })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client(&self.kubeconfig).await
    }

    /// The process that serves the API, where the harness started one that is all of the control plane.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Ours { daemon, .. } => Some(daemon.pid()),
            Running::Existing | Running::Envtest(_) => None,
        }
    }

    /// SIGKILL. Only of a control plane that the harness started.
    pub fn kill(&mut self) {
        match &mut self.running {
            Running::Existing => {}
            Running::Ours { daemon, .. } => daemon.kill(),
            Running::Envtest(envtest) => envtest.kill(),
        }
    }

    /// Starts it again after `kill`: same data, same port, same keys.
    ///
    /// # Errors
    /// It did not become ready, or is somebody else's.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        match &mut self.running {
            Running::Ours { daemon, start } => {
                // Its presence is what says ready.
                std::fs::remove_file(&self.kubeconfig).context("removing the old kubeconfig")?;
                *daemon = start.run()?;
            }
            Running::Envtest(envtest) => envtest.restart()?,
            Running::Existing => anyhow::bail!("only a control plane that was started here restarts"),
        }
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let what = "the control plane to be ready";
        let (kubeconfig, running) = (self.kubeconfig.clone(), &mut self.running);
        eventually(what, START_LIMIT, || {
            let ended = match running {
                Running::Existing => Ok(()),
                Running::Ours { daemon, .. } => daemon.ensure_running(),
                Running::Envtest(envtest) => envtest.ensure_running(),
            };
            let kubeconfig = kubeconfig.clone();
            async move {
                if let Err(error) = ended {
                    // Waiting would change nothing.
                    return Ok(Progress::Done(Err(error)));
                }
                if !kubeconfig.exists() {
                    return Ok(Progress::Pending("no kubeconfig yet".to_owned()));
                }
                let ready = http::Request::get("/readyz").body(Vec::new())?;
                client(&kubeconfig).await?.request_text(ready).await?;
                Ok(Progress::Done(Ok(())))
            }
        })
        .await?
    }
}

impl OurStart {
    fn run(&self) -> anyhow::Result<Daemon> {
        let log = self.folder.join("controlplane.log");
        let configure = |command: &mut std::process::Command| {
            without_callers_settings(command);
            command.arg("--data-dir").arg(&self.folder).args(["--port", &self.port.to_string()]);
            if self.settings.fsync {
                command.arg("--fsync");
            }
        };
        Daemon::start("the control plane", &self.program, configure, &log)
    }
}

/// A client by a kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let read = || format!("reading {}", kubeconfig.display());
    let content = Kubeconfig::read_from(kubeconfig).with_context(read)?;
    let config =
        Config::from_custom_kubeconfig(content, &KubeConfigOptions::default()).await.with_context(read)?;
    Client::try_from(config).context("preparing a client of the API server")
}
