//! Runs the machine's own tools (ip, ctr, umount ...) to their end, and says which one failed and what it said.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `words` and returns what it printed.
pub(super) fn run(words: &[&str]) -> Result<String> {
    let [program, arguments @ ..] = words else { bail!("no command to run") };
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("run {}", words.join(" ")))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
