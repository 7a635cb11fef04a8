//! The runtime `hook`: a command or a POST that is told what to serve, and a URL that says whether it is served.
//!
//! A command gets NAVE_ACTION (activate or deactivate), NAVE_MODEL, NAVE_VERSION, NAVE_DIGEST and NAVE_PATH; a POST gets
//! the same as JSON: action, model, version, digest, path. `activate` replaces whatever the model was served from
//! before; it may come again for what is served already. `deactivate` is said when the model goes altogether.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nave_agent_plan::Active;
use nave_names::ModelName;
use reqwest::redirect::Policy;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use nave_runtime::error_text::chain;

use super::ActivateError;
use crate::config::{HookConfig, HookTarget};

/// What is kept of what a hook says: enough for a stack trace.
const OUTPUT_KEPT: usize = 16 << 10;
/// What of it goes into a report.
const OUTPUT_SHOWN: usize = 400;
/// Output of a program that has ended is read for so long; a server that it left behind may hold the pipe for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Between two questions to a health URL, at first and at most.
const POLL_FIRST: Duration = Duration::from_millis(100);
const POLL_LONGEST: Duration = Duration::from_secs(2);
/// One question to a health URL.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a hook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// Serve this.
    Activate,
    /// Stop serving it.
    Deactivate,
}

impl HookAction {
    const fn word(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
        }
    }
}

/// A configured hook.
#[derive(Clone, Debug)]
pub struct Hook {
    config: HookConfig,
    client: reqwest::Client,
}

impl Hook {
    /// One that can be called.
    ///
    /// # Errors
    /// [`ActivateError::Client`].
    pub fn new(config: HookConfig) -> Result<Self, ActivateError> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(ActivateError::Client)?;
        Ok(Self { config, client })
    }

    /// Tells the runtime.
    ///
    /// # Errors
    /// It did not start, said no, or did not end in time.
    pub async fn call(
        &self,
        action: HookAction,
        model: &ModelName,
        active: &Active,
        path: &Path,
    ) -> Result<(), ActivateError> {
        match &self.config.target {
            HookTarget::Command(argv) => self.run(argv, action, model, active, path).await,
            HookTarget::Url(url) => self.post(url, action, model, active, path).await,
        }
    }

    /// Asks the health URL until it answers 2xx. Without one, the hook's own success was the answer.
    ///
    /// # Errors
    /// [`ActivateError::ProbeFailed`].
    pub async fn wait_healthy(
        &self,
        model: &ModelName,
        active: &Active,
        patience: Duration,
    ) -> Result<(), ActivateError> {
        let Some(url) = self.health_url(model, active) else { return Ok(()) };
        let deadline = Instant::now() + patience;
        let mut wait = POLL_FIRST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(last) = self.get(&url, left.min(POLL_TIMEOUT)).await else { return Ok(()) };
            if Instant::now() + wait >= deadline {
                return Err(ActivateError::ProbeFailed { url, after: patience, last });
            }
            sleep(wait).await;
            wait = (wait * 2).min(POLL_LONGEST);
        }
    }

    /// Asks the health URL once.
    ///
    /// # Errors
    /// [`ActivateError::ProbeFailed`].
    pub async fn ask_health(&self, model: &ModelName, active: &Active) -> Result<(), ActivateError> {
        let Some(url) = self.health_url(model, active) else { return Ok(()) };
        let asked = self.get(&url, POLL_TIMEOUT).await;
        asked.map_err(|last| ActivateError::ProbeFailed { url, after: POLL_TIMEOUT, last })
    }

    fn health_url(&self, model: &ModelName, active: &Active) -> Option<String> {
        let url = self.config.health_url.as_ref()?;
        Some(url.replace("{model}", model.as_str()).replace("{version}", active.version.as_str()))
    }

    async fn get(&self, url: &str, patience: Duration) -> Result<(), String> {
        match self.client.get(url).timeout(patience).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(chain(&error)),
        }
    }

    async fn post(
        &self,
        url: &url::Url,
        action: HookAction,
        model: &ModelName,
        active: &Active,
        path: &Path,
    ) -> Result<(), ActivateError> {
        let failed = |problem: String| ActivateError::HookFailed { action: action.word(), problem };
        let body = serde_json::json!({
            "action": action.word(),
            "model": model,
            "version": active.version,
            "digest": active.digest,
            "path": path,
        });
        let request = self
            .client
            .post(url.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .timeout(self.config.timeout)
            .body(body.to_string());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => {
                return Err(ActivateError::HookTimeout { action: action.word(), after: self.config.timeout });
            }
            Err(error) => return Err(failed(chain(&error))),
        };
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        match answer.bytes().await {
            Ok(text) => Err(failed(format!("{url} answered {status}: {}", shown(&text)))),
            Err(error) => {
                Err(failed(format!("{url} answered {status}, and why broke off: {}", chain(&error))))
            }
        }
    }

    async fn run(
        &self,
        argv: &[String],
        action: HookAction,
        model: &ModelName,
        active: &Active,
        path: &Path,
    ) -> Result<(), ActivateError> {
        let [program, arguments @ ..] = argv else { return Err(ActivateError::NoHook) };
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("NAVE_JOIN_TOKEN")
            .env("NAVE_ACTION", action.word())
            .env("NAVE_MODEL", model.as_str())
            .env("NAVE_VERSION", active.version.as_str())
            .env("NAVE_DIGEST", active.digest.to_string())
            .env("NAVE_PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ActivateError::HookStart { program: program.clone(), source })?;
        let output = [listen(child.stdout.take()), listen(child.stderr.take())];
        let ended = timeout(self.config.timeout, child.wait()).await;
        let status = match ended {
            Ok(status) => status,
            Err(_) => {
                stop(&mut child).await;
                return Err(ActivateError::HookTimeout { action: action.word(), after: self.config.timeout });
            }
        };
        let output = finish(output).await;
        let failed = |problem: String| ActivateError::HookFailed { action: action.word(), problem };
        let status = status.map_err(|error| failed(error.to_string()))?;
        tracing::debug!(model = %model, action = action.word(), %status, output, "the hook ended");
        if status.success() { Ok(()) } else { Err(failed(describe(status, &output))) }
    }
}

fn describe(status: ExitStatus, output: &str) -> String {
    if output.is_empty() { format!("{status}, and it said nothing") } else { format!("{status}: {output}") }
}

/// Kills the hook with everything that it started.
async fn stop(child: &mut Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(Err(error)) = pid.map(|pid| kill_process_group(pid, Signal::KILL)) {
        tracing::warn!(%error, "cannot stop the hook's process group");
    }
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "cannot stop the hook");
    }
}

/// What a pipe said so far, and the task that reads it.
struct Said {
    reading: JoinHandle<()>,
    kept: watch::Receiver<Vec<u8>>,
}

/// Reads to the end and keeps the last part.
fn listen(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Said {
    let (sender, kept) = watch::channel(Vec::new());
    let reading = tokio::spawn(async move {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            sender.send_modify(|kept: &mut Vec<u8>| {
                kept.extend_from_slice(&buffer[..read]);
                let surplus = kept.len().saturating_sub(OUTPUT_KEPT);
                kept.drain(..surplus);
            });
        }
    });
    Said { reading, kept }
}

async fn finish(output: [Said; 2]) -> String {
    let mut text = Vec::new();
    for mut said in output {
        if timeout(OUTPUT_GRACE, &mut said.reading).await.is_err() {
            said.reading.abort();
        }
        text.extend_from_slice(&said.kept.borrow());
    }
    shown(&text)
}

/// The end of what a program said, on one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(OUTPUT_SHOWN);
    text.chars().skip(skip).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
