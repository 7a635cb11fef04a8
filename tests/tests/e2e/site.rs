//! What most stories begin with: a stack behind a fault proxy, one spoke, a small version that it serves already, and
//! the question what lies under `current`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nave_tests::{FaultProxy, Spoke, Stack, weights};

/// The model of these stories.
pub(crate) const MODEL: &str = "weights";
/// The spoke's name.
pub(crate) const CLUSTER: &str = "bridge-a12";
const LABEL: (&str, &str) = ("site-type", "bridge");

/// A published version.
pub(crate) struct Version {
    pub(crate) name: &'static str,
    pub(crate) digest: String,
    /// File name to SHA-256.
    pub(crate) files: BTreeMap<String, String>,
}

/// The stack, the proxy that the spoke pulls through, the spoke.
pub(crate) struct Site {
    pub(crate) spoke: Spoke,
    pub(crate) proxy: FaultProxy,
    pub(crate) stack: Stack,
}

impl Site {
    /// Started, with the spoke connected.
    pub(crate) async fn start() -> Result<Self> {
        let mut stack = Stack::start().await?;
        let proxy = FaultProxy::start(stack.s3.endpoint()).await?;
        stack.use_endpoint(&proxy.endpoint());
        let spoke = stack.spoke(CLUSTER, &[LABEL]).await?;
        Ok(Self { spoke, proxy, stack })
    }

    /// The same, serving version 1.0.0, which is small.
    pub(crate) async fn serving_a_small_version() -> Result<(Self, Version)> {
        let site = Self::start().await?;
        let small = site.publish("1.0.0", &[("weights.bin", 1 << 20), ("labels.txt", 300)]).await?;
        site.place(&small).await?;
        site.wait_serving(&small).await?;
        Ok((site, small))
    }

    /// Publishes a version of files with random content, straight to the S3 server's own bucket.
    pub(crate) async fn publish(&self, name: &'static str, files: &[(&str, u64)]) -> Result<Version> {
        self.publish_with(name, files, &[]).await
    }

    /// The same with further flags.
    pub(crate) async fn publish_with(
        &self,
        name: &'static str,
        files: &[(&str, u64)],
        flags: &[&str],
    ) -> Result<Version> {
        let folder = self.stack.folder().join(format!("published-{name}"));
        for (index, (file, size)) in files.iter().enumerate() {
            weights::write_random(&folder.join(file), *size, index as u64 + *size)?;
        }
        let published = self.stack.publish_with(&folder, MODEL, name, flags).await?;
        let digest =
            published["manifestDigest"].as_str().context("`nave publish` printed no digest")?.to_owned();
        Ok(Version { name, digest, files: weights::digests(&folder)? })
    }

    pub(crate) async fn place(&self, version: &Version) -> Result<()> {
        self.stack.place("bridges", MODEL, version.name, &[LABEL]).await
    }

    pub(crate) async fn wait_serving(&self, version: &Version) -> Result<()> {
        self.stack.wait_serving(CLUSTER, MODEL, &version.digest).await?;
        assert_eq!(self.current()?, version.files, "what is served is what was published, byte by byte");
        Ok(())
    }

    /// The files under `current`, by digest.
    pub(crate) fn current(&self) -> Result<BTreeMap<String, String>> {
        let mut found = weights::digests(&self.current_folder()?)?;
        found.remove("manifest.json");
        Ok(found)
    }

    /// Looks at `current` all the time from now on: whenever it points elsewhere, what lies there has to be one of these
    /// versions, whole. What it saw is asked for at the end.
    pub(crate) fn watch_current(&self, allowed: &[&Version]) -> Result<CurrentWatch> {
        let folder = self.current_folder()?;
        let link = folder.parent().context("`current` points nowhere")?.join("current");
        let allowed: Vec<_> = allowed.iter().map(|version| version.files.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let seen = thread::spawn(move || watch(&link, &allowed, &stopped));
        Ok(CurrentWatch { stop, seen })
    }

    /// What the agent wrote to its log.
    pub(crate) fn log(&mut self) -> String {
        self.spoke.daemon().log()
    }

    pub(crate) fn current_folder(&self) -> Result<PathBuf> {
        self.spoke.current(MODEL).context("the spoke has no `current`")
    }
}

/// A watch of `current`.
pub(crate) struct CurrentWatch {
    stop: Arc<AtomicBool>,
    seen: thread::JoinHandle<Result<usize>>,
}

impl CurrentWatch {
    /// How many targets it saw, each with a version that was allowed.
    pub(crate) fn finish(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.join().map_err(|_| anyhow::anyhow!("the watch of `current` panicked"))?
    }
}

fn watch(link: &Path, allowed: &[BTreeMap<String, String>], stop: &AtomicBool) -> Result<usize> {
    let mut targets = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let target = std::fs::read_link(link).context("`current` is gone")?;
        if targets.last() != Some(&target) {
            let mut files = weights::digests(&link.with_file_name(&target))?;
            files.remove("manifest.json");
            anyhow::ensure!(allowed.contains(&files), "`current` points to {}: {files:?}", target.display());
            targets.push(target);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(targets.len())
}
