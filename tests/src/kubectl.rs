//! kubectl with a kubeconfig, as a user runs it, `kubectl nave` included.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::{daemon::without_callers_settings, tools::Tools};

/// kubectl, bound to one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    path: std::ffi::OsString,
    kubeconfig: PathBuf,
    environment: Vec<(String, String)>,
}

impl Kubectl {
    /// # Errors
    /// kubectl is not in the cache.
    pub fn new(tools: &Tools, kubeconfig: &Path) -> anyhow::Result<Self> {
        // kubectl finds the plugin `kubectl-nave` on PATH.
        let mut folders = vec![tools.folder().to_owned()];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        Ok(Self {
            program: tools.fetched("kubectl")?,
            path: std::env::join_paths(folders).context("making PATH")?,
            kubeconfig: kubeconfig.to_owned(),
            environment: Vec::new(),
        })
    }

    /// The same with one more environment variable.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder that holds kubectl.
    pub fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(&self.program)
    }

    /// The command, for callers that want its streams.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = std::process::Command::new(&self.program);
        without_callers_settings(&mut command);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("PATH", &self.path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs it; standard output on success.
    ///
    /// # Errors
    /// It failed; the error holds what it wrote to standard error.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).stdin(Stdio::null()).output().await;
        text_of(arguments, output.context("running kubectl")?)
    }

    /// Runs it with `-o json`.
    ///
    /// # Errors
    /// It failed or did not print JSON.
    pub async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("kubectl {} -o json printed {text}", arguments.join(" ")))
    }

    /// `kubectl apply` of one or more YAML documents.
    ///
    /// # Errors
    /// They were refused; the error holds the server's words.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.with_file(yaml, &["apply", "--server-side", "-f"]).await
    }

    /// `kubectl replace` of documents, which must exist.
    ///
    /// # Errors
    /// They were refused; the error holds the server's words.
    pub async fn replace(&self, yaml: &str) -> anyhow::Result<String> {
        self.with_file(yaml, &["replace", "-f"]).await
    }

    async fn with_file(&self, yaml: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut file = tempfile::NamedTempFile::new().context("making a file for kubectl")?;
        file.write_all(yaml.as_bytes()).context("writing a file for kubectl")?;
        let path = file.path().to_string_lossy();
        self.run(&[arguments, &[&path]].concat()).await
    }
}

pub(crate) fn text_of(arguments: &[&str], output: Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "`{}` failed, {}: {}",
        arguments.join(" "),
        output.status,
        said.trim()
    );
    String::from_utf8(output.stdout).context("output is not UTF-8")
}
