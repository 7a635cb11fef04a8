//! The OpenSSF reference implementation of model signing (PyPI `model-signing`), as tests/setup.sh fetched it.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;

use crate::tools::{Tools, checkout};

/// Its command line.
#[derive(Clone, Debug)]
pub struct OpenSsf {
    packages: PathBuf,
}

impl OpenSsf {
    /// Where tests/setup.sh put it.
    ///
    /// # Errors
    /// It was not fetched.
    pub fn new(tools: &Tools) -> anyhow::Result<Self> {
        Ok(Self { packages: tools.fetched("model-signing")? })
    }

    /// Runs it once for each list of arguments, all in one process, and gives exit codes and what was said.
    ///
    /// # Errors
    /// Python does not run.
    pub fn run(&self, calls: &[Vec<String>]) -> anyhow::Result<Vec<(i32, String)>> {
        let mut python = Command::new("python3")
            .arg(checkout().join("tests/openssf.py"))
            .env("PYTHONPATH", &self.packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting python3")?;
        let input = serde_json::to_vec(calls)?;
        python.stdin.take().context("python3 has no standard input")?.write_all(&input)?;
        let ended = python.wait_with_output()?;
        anyhow::ensure!(ended.status.success(), "the reference implementation broke off: {}", ended.status);
        serde_json::from_slice(&ended.stdout).context("reading what the reference implementation said")
    }
}
