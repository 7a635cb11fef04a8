//! Settings of the whole kernel that the kubelet changes: kept and put back.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

use super::layout::Layout;

const SETTINGS: [&str; 3] =
    ["/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops"];
const FILE: &str = "kernel-before.json";

/// Writes the settings to disk, so that they can be put back even by the next run.
pub(super) fn keep(layout: &Layout) -> Result<()> {
    let mut settings = BTreeMap::new();
    for path in SETTINGS {
        settings.insert(
            path,
            fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().to_owned(),
        );
    }
    fs::write(layout.file(FILE), serde_json::to_vec(&settings)?).context("keep the kernel's settings")
}

/// Puts them back, where they were kept.
pub(super) fn restore(layout: &Layout) -> Result<()> {
    let Ok(kept) = fs::read(layout.file(FILE)) else { return Ok(()) };
    let settings: BTreeMap<String, String> =
        serde_json::from_slice(&kept).context("read the kernel's settings")?;
    for (path, value) in settings {
        fs::write(&path, &value).with_context(|| format!("put {path} back to {value}"))?;
    }
    Ok(())
}
