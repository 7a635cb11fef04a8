//! Many spokes at once: a quiet fleet that costs the API server nothing, and a rollout to hundreds that a failure stops and a
//! killed hub does not.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use kube::{Api, api::ListParams};
use nave_crds::{ClusterAssignment, EdgeCluster, PlacementPolicy, PlacementPolicyStatus};
use nave_tests::{
    HubSettings, Progress, Stack, StackSettings, eventually,
    fleet::{Fleet, api},
    weights,
};
use serde_json::{Value, json};

/// For a whole rollout beside other tests.
const LIMIT: Duration = Duration::from_secs(150);

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

/// Periods of a fleet in earnest: a heartbeat that came late on a busy machine would be a session lost and found.
fn patient() -> StackSettings {
    let hub =
        HubSettings { heartbeat: "10s", grace_period: "40s", lease_duration: "8s", ..HubSettings::default() };
    StackSettings { hub, ..StackSettings::default() }
}

async fn publish(stack: &Stack, model: &str, version: &str) -> Result<String> {
    let folder = stack.folder().join(model).join(version);
    weights::write_random(&folder.join("weights.bin"), 2_000, 7)?;
    std::fs::write(folder.join("version"), version)?;
    stack.publish(&folder, model, version).await
}

async fn policy_status(stack: &Stack, policy: &str) -> Result<PlacementPolicyStatus> {
    let policies: Api<PlacementPolicy> = Api::namespaced(stack.plane.client().await?, "default");
    Ok(policies.get(policy).await?.status.unwrap_or_default())
}

/// Waits until the policy's own status says that so many clusters serve its version.
async fn wait_counted(stack: &Stack, policy: &str, serving: i64) -> Result<()> {
    eventually(&format!("{policy} to count {serving} that serve"), LIMIT, || async {
        let clusters = policy_status(stack, policy).await?.clusters;
        Ok(Progress::when(
            clusters.as_ref().is_some_and(|c| c.serving == serving),
            (),
            format!("{clusters:?}"),
        ))
    })
    .await
}

/// Waits until nothing was written but Leases for a while: conditions have settled, statuses are counted.
async fn settled(client: &kube::Client) -> Result<()> {
    let mut before = api::ApiWrites::read(client).await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let now = api::ApiWrites::read(client).await?;
        if but_leases(now.since(&before)).is_empty() {
            return Ok(());
        }
        before = now;
    }
    anyhow::bail!("the fleet does not come to rest: {before:?}")
}

fn but_leases(mut written: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    written.remove("PUT leases");
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2e_fleet_a_quiet_fleet_writes_nothing_but_lease_renewals() -> Result<()> {
    let stack = Stack::start_with(patient()).await?;
    let client = stack.plane.client().await?;
    let clusters = names("quiet", 50);
    api::create_clusters(&client, &clusters, &[("site", "x")]).await?;
    let mut fleet = Fleet::of(&stack).await?;
    fleet.connect_all(&clusters).await?;
    let real = stack.spoke("real-0", &[("site", "x")]).await?;
    for model in ["ripeness", "weeds", "yield"] {
        publish(&stack, model, "1.0").await?;
        stack.place(model, model, "1.0", &[("site", "x")]).await?;
    }
    for model in ["ripeness", "weeds", "yield"] {
        wait_counted(&stack, model, 51).await?;
    }
    settled(&client).await?;
    let assignments: Api<ClusterAssignment> = Api::all(client.clone());
    for assignment in assignments.list(&ListParams::default()).await?.items {
        // Changed twice, with reports before and after: they are not kept by the API server, and do not come back.
        let kept = assignment.metadata.managed_fields;
        assert!(kept.is_none(), "{:?}: {kept:?}", assignment.metadata.name);
    }
    let stored: Api<EdgeCluster> = Api::all(client.clone());
    for cluster in stored.list(&ListParams::default()).await?.items {
        // Of an EdgeCluster people own parts; of the hub's part it is enough to know that it is the hub's.
        let mut kept = cluster.metadata.managed_fields.into_iter().flatten();
        let hubs = kept.find(|entry| {
            (entry.manager.as_deref(), entry.subresource.as_deref()) == (Some("nave-gateway"), Some("status"))
        });
        let fields = hubs.and_then(|entry| entry.fields_v1).map(|fields| fields.0);
        assert_eq!(fields, Some(json!({"f:status": {}})), "{:?}", cluster.metadata.name);
    }

    let before = api::ApiWrites::read(&client).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let written = api::ApiWrites::read(&client).await?.since(&before);
    assert!(
        written.get("PUT leases").is_some_and(|renewals| *renewals > 0),
        "nothing is counted: {written:?}"
    );
    assert!(but_leases(written.clone()).is_empty(), "a quiet fleet wrote {written:?}");
    drop(real);
    Ok(())
}

fn policy(version: &str) -> Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": "ripeness", "namespace": "default"},
        "spec": {
            "model": {"name": "ripeness", "version": version},
            "placement": {"clusterSelector": {"matchLabels": {"site": "x"}}},
            "serving": {"runtime": "files"},
            "rollout": {
                "steps": [{"clusters": 10}, {"clusters": "100%"}],
                "maxConcurrent": "20%",
                "maxFailures": 2,
                "onFailure": "Pause",
                "prefetch": false,
            },
        },
    })
}

async fn told_to_serve(stack: &Stack, version: &str) -> Result<usize> {
    let assignments: Api<ClusterAssignment> = Api::all(stack.plane.client().await?);
    let all = assignments.list(&ListParams::default()).await?.items;
    let told = all.iter().filter(|a| a.spec.entries.iter().any(|e| e.version == version));
    Ok(told.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_fleet_of_300_rolls_out_by_steps_over_a_killed_hub_and_stops_at_failures() -> Result<()> {
    const SPOKES: usize = 300;
    let mut stack = Stack::start_with(patient()).await?;
    let client = stack.plane.client().await?;
    let clusters = names("spoke", SPOKES);
    api::create_clusters(&client, &clusters, &[("site", "x")]).await?;
    let mut fleet = Fleet::of(&stack).await?;
    fleet.connect_all(&clusters).await?;
    for version in ["1.0", "1.1", "1.2"] {
        publish(&stack, "ripeness", version).await?;
    }

    stack.kubectl.apply(&policy("1.0").to_string()).await?;
    tokio::time::timeout(LIMIT, fleet.told.wait_for("1.0", SPOKES)).await?;
    wait_counted(&stack, "ripeness", SPOKES as i64).await?;

    // The hub dies as soon as the next version begins to spread, and goes on where it was.
    stack.kubectl.apply(&policy("1.1").to_string()).await?;
    tokio::time::timeout(LIMIT, fleet.told.wait_for("1.1", 15)).await?;
    stack.hub.kill();
    let at_death = fleet.told.of("1.1").len();
    stack.hub.restart().await?;
    tokio::time::timeout(LIMIT, fleet.told.wait_for("1.1", SPOKES)).await?;
    wait_counted(&stack, "ripeness", SPOKES as i64).await?;
    assert!(at_death < SPOKES, "it died too late to show anything");

    // A version that fails on everybody is told to the canaries and hardly anybody else.
    for cluster in &clusters {
        fleet.behaviour.fail(cluster, "1.2", "ProbeFailed");
    }
    stack.kubectl.apply(&policy("1.2").to_string()).await?;
    eventually("the rollout to stop", LIMIT, || async {
        let status = policy_status(&stack, "ripeness").await?;
        let failed = status.clusters.as_ref().is_some_and(|counts| counts.failed > 2);
        Ok(Progress::when(failed, (), format!("{:?} {:?}", status.clusters, status.step)))
    })
    .await?;
    // Time enough to tell others, if it would.
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Ten canaries, and one in the place of each that had failed while the budget was not used up.
    let (told, heard) = (told_to_serve(&stack, "1.2").await?, fleet.told.of("1.2").len());
    assert!(told <= 10 + 2 && heard <= told, "{told} were told, {heard} heard it");
    Ok(())
}
