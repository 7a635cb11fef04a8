//! Sudden death in the middle of a pull: of the agent, twenty times; of the hub.

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::site::{CLUSTER, Site};

const MB: u64 = 1_000_000;
const SIZE: u64 = 300 * MB;
const KILLS: u64 = 20;
/// Most ranges that may be in flight, and so be lost, at one death, times the most that one of them holds.
const LOST_AT_A_DEATH: u64 = 72 * MB;

#[tokio::test]
async fn e2e_an_agent_killed_twenty_times_in_a_pull_ends_with_the_right_bytes() -> Result<()> {
    let (mut site, small) = Site::serving_a_small_version().await?;
    let large = site.publish("2.0.0", &[("weights.bin", SIZE), ("labels.txt", 200)]).await?;
    let before = site.proxy.traffic("2.0.0/weights.bin").bytes;
    // Slow enough that twenty deaths fit in, fast enough that each life gets on.
    site.proxy.limit(Some(25 * MB));
    site.place(&large).await?;

    let watch = site.watch_current(&[&small, &large])?;
    let mut random = SmallRng::seed_from_u64(20_261_124);
    let mut done = 0;
    for kill in 0..KILLS {
        let until = SIZE * (kill + 1) / (KILLS + 2);
        wait_for_bytes(&site, before + until.max(done)).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        site.spoke.kill();
        assert_eq!(site.current()?, small.files, "after death {kill} only what was verified is served");
        done = site.proxy.traffic("2.0.0/weights.bin").bytes - before;
        site.spoke.restart()?;
    }
    site.proxy.limit(None);
    site.wait_serving(&large).await?;
    assert_eq!(watch.finish()?, 2, "one switch, and never anything else");

    let fetched = site.proxy.traffic("2.0.0/weights.bin").bytes - before;
    assert!(fetched >= SIZE, "{fetched} bytes were fetched of {SIZE}");
    let again = fetched - SIZE;
    assert!(again <= KILLS * LOST_AT_A_DEATH, "{again} bytes were fetched again after {KILLS} deaths");
    Ok(())
}

#[tokio::test]
async fn e2e_a_hub_killed_in_the_middle_of_a_pull_costs_nothing() -> Result<()> {
    let (mut site, _) = Site::serving_a_small_version().await?;
    let large = site.publish("2.0.0", &[("weights.bin", 60 * MB)]).await?;
    let before = site.proxy.traffic("2.0.0/weights.bin").bytes;
    site.proxy.limit(Some(10 * MB));
    site.place(&large).await?;

    wait_for_bytes(&site, before + 10 * MB).await?;
    site.stack.hub.kill();
    // The URLs that it has are good for a while: the pull goes on without the hub.
    let alone = site.proxy.traffic("2.0.0/weights.bin").bytes;
    wait_for_bytes(&site, alone + 5 * MB).await?;
    site.stack.hub.restart().await?;
    site.proxy.limit(None);
    site.wait_serving(&large).await?;
    site.stack.wait_connected(CLUSTER, true).await?;

    let fetched = site.proxy.traffic("2.0.0/weights.bin").bytes - before;
    assert!(fetched < 90 * MB, "{fetched} bytes were fetched of 60 MB: the pull started anew");
    Ok(())
}

async fn wait_for_bytes(site: &Site, bytes: u64) -> Result<()> {
    nave_tests::eventually("bytes of the pull", Duration::from_secs(120), || async {
        let seen = site.proxy.traffic("2.0.0/weights.bin");
        Ok(nave_tests::Progress::when(seen.bytes >= bytes, (), format!("{seen:?}, {bytes} wanted")))
    })
    .await
}
