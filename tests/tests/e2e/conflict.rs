//! Two policies that want different versions of one model on one cluster.

use std::time::Duration;

use anyhow::Result;
use nave_tests::{Progress, eventually};
use serde_json::{Value, json};

use crate::site::{CLUSTER, MODEL, Site};

#[tokio::test]
async fn e2e_of_two_policies_the_higher_priority_wins_and_the_other_says_so() -> Result<()> {
    let (site, low) = Site::serving_a_small_version().await?;
    let high = site.publish("2.0.0", &[("weights.bin", 700_000)]).await?;
    let rival = json!({
        "apiVersion": "nave.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": "rival", "namespace": "default"},
        "spec": {
            "model": {"name": MODEL, "version": high.name},
            "priority": 10,
            "placement": {"clusterSelector": {"matchLabels": {"site-type": "bridge"}}},
            "serving": {"runtime": "files"},
        },
    });
    site.stack.kubectl.apply(&rival.to_string()).await?;
    site.wait_serving(&high).await?;
    wait_conflicted(&site, "bridges", "True").await?;
    let said = condition(&policy(&site, "bridges").await?, "Conflicted");
    let message = said["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("rival") || message.contains(CLUSTER),
        "the loser names the winner or the cluster: {said}"
    );

    site.stack.kubectl.run(&["delete", "placementpolicy", "rival"]).await?;
    site.wait_serving(&low).await?;
    wait_conflicted(&site, "bridges", "False").await
}

async fn policy(site: &Site, name: &str) -> Result<Value> {
    site.stack.kubectl.json(&["get", "placementpolicy", name]).await
}

fn condition(object: &Value, kind: &str) -> Value {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == kind).unwrap_or(Value::Null)
}

async fn wait_conflicted(site: &Site, name: &str, wanted: &str) -> Result<()> {
    eventually(&format!("{name} to be Conflicted={wanted}"), Duration::from_secs(90), || async {
        let found = condition(&policy(site, name).await?, "Conflicted");
        Ok(Progress::when(found["status"] == wanted, (), found))
    })
    .await
}
