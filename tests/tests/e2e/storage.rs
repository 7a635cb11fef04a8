//! A spoke that has no room says so in numbers, and no policy picks it before it has some.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nave_tests::{Progress, SpokeSettings, Stack, eventually, weights};

const MODEL: &str = "weights";
const LABEL: (&str, &str) = ("site-type", "bridge");
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn e2e_a_spoke_without_room_is_not_picked_until_it_has_some() -> Result<()> {
    let stack = Stack::start().await?;
    let roomy = stack.spoke("roomy", &[LABEL]).await?;
    let join = stack.join_instructions().await?;
    let mut settings = SpokeSettings::joining("full", &stack.hub.address(), &join).label(LABEL.0, LABEL.1);
    // Less than the agent's own small files take.
    settings.extra = "storage: {quota: 1Mi}\n".to_owned();
    let mut full = stack.spoke_with(&settings).await?;
    let said = wait_storage(&stack, "False").await?;
    ensure!(said.contains("0 bytes are free, 104857 are needed"), "{said}");
    ensure!(said.contains("of its quota of 1048576 bytes"), "{said}");

    let folder = stack.folder().join("published");
    weights::write_random(&folder.join("weights.bin"), 300_000, 1)?;
    let digest = stack.publish(&folder, MODEL, "1.0.0").await?;
    stack.place("bridges", MODEL, "1.0.0", &[LABEL]).await?;
    stack.wait_serving(roomy.cluster(), MODEL, &digest).await?;
    let excluded = eventually("the policy to say whom it leaves out", LIMIT, || async {
        let policy = stack.kubectl.json(&["get", "placementpolicy", "bridges"]).await?;
        let text = policy["status"].to_string();
        Ok(Progress::when(text.contains("StorageHealthy is False"), text.clone(), text))
    })
    .await?;
    ensure!(excluded.contains("full"), "{excluded}");
    let told = ["get", "clusterassignment", "full", "--ignore-not-found", "-o", "jsonpath={.spec.entries}"];
    let told = stack.kubectl.run(&told).await?;
    ensure!(told.is_empty() || told == "[]", "it was picked: {told}");

    let configuration = full.state().with_file_name("agent.yaml");
    let text = std::fs::read_to_string(&configuration).context("reading the agent's configuration")?;
    std::fs::write(&configuration, text.replace("quota: 1Mi", "quota: 1Gi"))?;
    full.restart()?;
    wait_storage(&stack, "True").await?;
    stack.wait_serving("full", MODEL, &digest).await
}

/// Waits for the condition StorageHealthy of the spoke `full`; its message.
async fn wait_storage(stack: &Stack, status: &str) -> Result<String> {
    eventually(&format!("StorageHealthy={status}"), LIMIT, || async {
        let object = stack.kubectl.json(&["get", "edgecluster", "full"]).await?;
        let conditions = object["status"]["conditions"].as_array().context("no conditions yet")?;
        let found = conditions.iter().find(|condition| condition["type"] == "StorageHealthy");
        let found = found.context("no StorageHealthy yet")?;
        let message = found["message"].as_str().unwrap_or_default().to_owned();
        Ok(Progress::when(found["status"] == status, message, found))
    })
    .await
}
