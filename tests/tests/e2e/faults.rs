//! An S3 server that misbehaves: the pull ends right all the same, and what was wrong is named.

use std::time::{Duration, Instant};

use anyhow::Result;
use nave_tests::Fault;

use crate::site::{CLUSTER, MODEL, Site};

const MB: u64 = 1_000_000;

#[tokio::test]
async fn e2e_errors_and_short_bodies_are_retried() -> Result<()> {
    let (site, _) = Site::serving_a_small_version().await?;
    let version = site.publish("2.0.0", &[("weights.bin", 40 * MB)]).await?;
    site.proxy.inject(Fault::Unavailable, 4, "2.0.0/weights.bin");
    site.proxy.inject(Fault::CutAfter(500_000), 4, "2.0.0/weights.bin");
    site.proxy.inject(Fault::Forbidden, 1, "2.0.0/weights.bin");
    let before = site.proxy.traffic("2.0.0/weights.bin").faults;
    site.place(&version).await?;
    site.wait_serving(&version).await?;
    let faults = site.proxy.traffic("2.0.0/weights.bin").faults - before;
    assert_eq!(faults, 9, "all that was ordered was met");
    Ok(())
}

#[tokio::test]
async fn e2e_one_flipped_bit_is_refused_named_and_fetched_again() -> Result<()> {
    let (mut site, small) = Site::serving_a_small_version().await?;
    let version = site.publish("2.0.0", &[("weights.bin", 20 * MB)]).await?;
    // As long as every answer is wrong, nothing of it may be served.
    site.proxy.inject(Fault::FlipAt(1_000), u64::MAX, "2.0.0/weights.bin");
    site.place(&version).await?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !site.log().lines().any(names_the_wrong_bytes) {
        assert!(Instant::now() < deadline, "the wrong bytes were not named:\n{}", site.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let row = site.stack.wait_reported(CLUSTER, MODEL, "to say what is wrong", |row| {
        row["version"] == version.name && row["reason"] == "DigestMismatch"
    });
    let row = row.await?;
    assert!(row["message"].as_str().is_some_and(|said| said.contains("weights.bin")), "{row}");
    assert_eq!(site.current()?, small.files, "nothing unverified is served");

    site.proxy.clear();
    site.wait_serving(&version).await
}

fn names_the_wrong_bytes(line: &str) -> bool {
    line.contains("weights.bin")
        && ["digest", "verif", "corrupt", "wrong"].iter().any(|word| line.contains(word))
}
