//! An update by delta, through everything: published with `--delta-from`, taken by a spoke that serves the base, and done
//! without where the delta is damaged on its way.

use std::path::PathBuf;

use anyhow::Result;
use nave_tests::{Fault, weights};
use serde_json::Value;

use crate::site::{MODEL, Site, Version};

const SIZE: u64 = 24 << 20;

/// Publishes weights that differ from those of other steps in one byte of 500.
async fn publish(site: &Site, name: &'static str, step: u8, extra: &[&str]) -> Result<(Version, Value)> {
    let folder: PathBuf = site.stack.folder().join(format!("published-{name}"));
    let path = folder.join("weights.bin");
    weights::write_random(&path, SIZE, 7)?;
    let mut bytes = std::fs::read(&path)?;
    bytes.iter_mut().step_by(500).for_each(|byte| *byte = byte.wrapping_add(step));
    std::fs::write(&path, bytes)?;
    let published = site.stack.publish_with(&folder, MODEL, name, extra).await?;
    let digest = published["manifestDigest"].as_str().unwrap().to_owned();
    Ok((Version { name, digest, files: weights::digests(&folder)? }, published))
}

#[tokio::test]
async fn e2e_an_update_by_delta_takes_the_changes_alone_and_a_damaged_one_is_done_without() -> Result<()> {
    let mut site = Site::start().await?;
    let (first, _) = publish(&site, "1.0.0", 0, &[]).await?;
    site.place(&first).await?;
    site.wait_serving(&first).await?;

    let (second, published) = publish(&site, "2.0.0", 1, &["--delta-from", "1.0.0"]).await?;
    let delta = &published["deltas"][0];
    assert_eq!(
        (&delta["stored"], &delta["baseDigest"]),
        (&true.into(), &first.digest.as_str().into()),
        "{delta}"
    );
    let said = delta["deltaBytes"].as_u64().unwrap();
    let before = site.proxy.traffic("2.0.0/").bytes;
    site.place(&second).await?;
    site.wait_serving(&second).await?;
    let fetched = site.proxy.traffic("2.0.0/").bytes - before;
    assert!(fetched < SIZE / 10, "{fetched} of {SIZE} bytes were fetched");
    assert!(fetched.abs_diff(said) < 20_000, "publish said {said}, {fetched} were fetched");

    let (third, _) = publish(&site, "3.0.0", 2, &["--delta-from", "weights-2.0.0"]).await?;
    // Past the length of the index: blocks are damaged, again and again.
    site.proxy.inject(Fault::FlipAt(3_000), u64::MAX, "3.0.0/.nave/delta/");
    let before = site.proxy.traffic("3.0.0/weights.bin").bytes;
    site.place(&third).await?;
    site.wait_serving(&third).await?;
    assert!(site.proxy.traffic("3.0.0/weights.bin").bytes > before, "the refused chunks came whole");
    let log = site.log();
    assert!(log.contains("block of a delta is refused"), "{log}");
    let metrics = reqwest::get(format!("http://{}/metrics", site.spoke.http().await?)).await?.text().await?;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok())
    };
    assert!(value("nave_agent_delta_refusals_total") >= Some(1), "{metrics}");
    assert!(value("nave_agent_rebuilt_bytes_total") > Some(SIZE / 2), "{metrics}");
    Ok(())
}
