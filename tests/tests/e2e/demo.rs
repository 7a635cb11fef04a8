//! The demo, run as a user runs it.

use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use nave_tests::Tools;
use tokio::process::Command;

#[tokio::test]
async fn e2e_the_demo_tells_its_story_and_leaves_nothing_behind() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let demo = Command::new(Tools::load()?.ours("nave-demo")?)
        .arg("--once")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(Duration::from_secs(400), demo).await.context("the demo did not end")??;
    let (said, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{said}\n{errors}", output.status);
    for part in
        ["bridge-a12", "bridge-b7", "store-3", "2.0.0", "$ kubectl nave status", "Serving", "checked:"]
    {
        assert!(said.contains(part), "{part:?} was not shown:\n{said}");
    }
    let left: Vec<_> = fs::read_dir(temporary.path())?.collect();
    assert!(left.is_empty(), "files stay behind: {left:?}");
    let processes = processes_that_mention(&temporary.path().to_string_lossy());
    assert!(processes.is_empty(), "processes stay behind: {processes:?}");
    Ok(())
}

/// Everything that the demo starts is given paths in its folder.
fn processes_that_mention(path: &str) -> BTreeSet<String> {
    let command_lines = fs::read_dir("/proc").into_iter().flatten().flatten();
    let command_lines = command_lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    command_lines
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(path))
        .collect()
}
