//! What `--once` proves: by the hub's objects, and by the bytes on the spokes' disks.

use anyhow::Context as _;
use nave_tests::{Spoke, Stack, weights};
use serde_json::Value;

use crate::{BRIDGES, MODEL, Published};

/// Both bridges serve the version, the third site nothing.
pub(crate) async fn proves(stack: &Stack, spokes: &[Spoke], version: &Published) -> anyhow::Result<()> {
    let published = weights::digests(&version.folder)?;
    for spoke in spokes {
        let reported = stack.reported(spoke.cluster(), MODEL).await?;
        if BRIDGES.contains(&spoke.cluster()) {
            let serving: Vec<&Value> = reported.iter().filter(|row| row["phase"] == "Serving").collect();
            let served = serving.len() == 1 && serving[0]["digest"] == version.digest.as_str();
            anyhow::ensure!(
                served,
                "{} should serve {} and reports {reported:?}",
                spoke.cluster(),
                version.digest
            );
            let current =
                spoke.current(MODEL).with_context(|| format!("{} has no `current`", spoke.cluster()))?;
            let found = weights::digests(&current)?;
            let same = published.iter().all(|(file, digest)| found.get(file) == Some(digest));
            anyhow::ensure!(same, "{} holds other files than were published: {found:?}", current.display());
        } else {
            anyhow::ensure!(reported.is_empty(), "{} should serve nothing: {reported:?}", spoke.cluster());
            anyhow::ensure!(spoke.current(MODEL).is_none(), "{} has a `current`", spoke.cluster());
        }
    }
    Ok(())
}
