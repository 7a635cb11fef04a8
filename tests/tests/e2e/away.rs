//! A spoke whose hub is out of reach keeps what it has.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nave_tests::{Progress, eventually};

use crate::site::{CLUSTER, Site};

#[tokio::test]
async fn e2e_an_agent_that_restarts_without_its_hub_still_serves() -> Result<()> {
    let (mut site, small) = Site::serving_a_small_version().await?;
    site.stack.hub.kill();
    site.spoke.kill();
    assert_eq!(site.current()?, small.files, "nobody runs, and the files are there");

    site.spoke.restart()?;
    let http = site.spoke.http().await?;
    eventually("the agent to be ready by its ledger alone", Duration::from_secs(60), || async {
        let answer = reqwest::get(format!("http://{http}/readyz")).await?;
        Ok(Progress::when(answer.status().is_success(), (), answer.text().await.context("reading /readyz")?))
    })
    .await?;
    // Long enough that a wrong decision about an unreachable hub would have been carried out.
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.spoke.daemon().ensure_running()?;
    assert_eq!(site.current()?, small.files);

    site.stack.hub.restart().await?;
    site.stack.wait_connected(CLUSTER, true).await?;
    let next = site.publish("1.1.0", &[("weights.bin", 500_000)]).await?;
    site.place(&next).await?;
    site.wait_serving(&next).await
}

#[tokio::test]
async fn e2e_a_spoke_that_is_gone_is_said_to_be_gone_and_keeps_its_assignment() -> Result<()> {
    let (mut site, small) = Site::serving_a_small_version().await?;
    site.spoke.kill();
    site.stack.wait_connected(CLUSTER, false).await?;
    let assignment = site.stack.kubectl.json(&["get", "clusterassignment", CLUSTER]).await?;
    assert_eq!(
        assignment["spec"]["entries"][0]["manifestDigest"],
        small.digest.as_str(),
        "unreachable is not delete"
    );
    assert_eq!(site.current()?, small.files);
    site.spoke.restart()?;
    site.stack.wait_connected(CLUSTER, true).await
}
