//! Who may join, and as whom: bad tokens, a hub that is not ours, and one cluster's certificate used for another.

use std::time::Duration;

use anyhow::Result;
use nave_tests::{JoinInstructions, Progress, Spoke, SpokeSettings, Stack, eventually};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn e2e_bad_tokens_are_refused_with_a_sentence() -> Result<()> {
    let stack = Stack::start().await?;
    let good = stack.join_instructions().await?;

    let mut wrong = good.clone();
    let last = wrong.token.pop().unwrap_or_default();
    wrong.token.push(if last == 'x' { 'y' } else { 'x' });
    refused(&stack, "wrong-token", &wrong, &["token"]).await?;

    let unknown = JoinInstructions { token: format!("zzzzzzzz.{}", "z".repeat(40)), ..good.clone() };
    refused(&stack, "unknown-token", &unknown, &["token"]).await?;

    let short = JoinInstructions::create(&stack.kubectl, &stack.hub.address(), &["--ttl", "1s"]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    refused(&stack, "late", &short, &["expired"]).await?;

    let first = SpokeSettings::joining("first", &stack.hub.address(), &good);
    let _first = stack.spoke_with(&first).await?;
    refused(&stack, "second", &good, &["used"]).await?;

    let named =
        JoinInstructions::create(&stack.kubectl, &stack.hub.address(), &["--cluster", "mine"]).await?;
    refused(&stack, "not-mine", &named, &["mine", "another cluster", "token"]).await?;
    Ok(())
}

#[tokio::test]
async fn e2e_a_hub_with_another_ca_gets_no_token() -> Result<()> {
    let stack = Stack::start().await?;
    let mut foreign = stack.join_instructions().await?;
    foreign.ca_hash = format!("sha256:{}", "ab".repeat(32));
    refused(&stack, "careful", &foreign, &["CA", "pin", "certificate"]).await?;
    // The token was not spent, since it never left the spoke.
    foreign.ca_hash = stack.join_instructions().await?.ca_hash;
    let settings = SpokeSettings::joining("careful", &stack.hub.address(), &foreign);
    stack.spoke_with(&settings).await.map(drop)
}

#[tokio::test]
async fn e2e_a_spoke_that_is_not_accepted_is_given_nothing() -> Result<()> {
    let stack = Stack::start().await?;
    let join = JoinInstructions::create(&stack.kubectl, &stack.hub.address(), &[]).await?;
    let settings =
        SpokeSettings::joining("hopeful", &stack.hub.address(), &join).label("site-type", "bridge");
    let spoke = Spoke::start(&stack.tools, stack.folder(), &settings)?;
    eventually("the EdgeCluster", LIMIT, || async {
        let object = stack.kubectl.json(&["get", "edgecluster", "hopeful"]).await?;
        assert_ne!(object["spec"]["accepted"], true);
        Ok(Progress::Done(()))
    })
    .await?;
    let folder = stack.folder().join("published");
    nave_tests::weights::write_random(&folder.join("weights.bin"), 100_000, 7)?;
    let digest = stack.publish(&folder, "m", "1").await?;
    stack.place("all", "m", "1", &[("site-type", "bridge")]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(spoke.current("m").is_none(), "nothing before consent");

    stack.kubectl.run(&["nave", "accept", "hopeful"]).await?;
    stack.wait_serving("hopeful", "m", &digest).await
}

/// The agent says why (any of the words), and no EdgeCluster comes of it.
async fn refused(stack: &Stack, cluster: &str, join: &JoinInstructions, words: &[&str]) -> Result<()> {
    let settings = SpokeSettings::joining(cluster, &stack.hub.address(), join);
    let mut spoke = Spoke::start(&stack.tools, stack.folder(), &settings)?;
    eventually(&format!("{cluster} to say why it cannot join"), LIMIT, || {
        let log = spoke.daemon().log();
        let said = log.lines().any(|line| {
            let complains = line.contains("WARN") || line.contains("ERROR") || line.contains("rror:");
            complains && words.iter().any(|word| line.contains(word))
        });
        async move { Ok(Progress::when(said, (), log)) }
    })
    .await?;
    let object = stack.kubectl.run(&["get", "edgecluster", cluster]).await;
    assert!(object.is_err(), "{cluster} was refused and exists");
    Ok(())
}
