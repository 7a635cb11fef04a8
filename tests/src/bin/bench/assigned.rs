//! From a policy's creation until 100, or all, of 1,000 connected clusters have their ClusterAssignment written, as a
//! watch of the API server shows it, and until they are told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use nave_crds::{ClusterAssignment, PlacementPolicy};
use nave_tests::{
    Progress, Stack, eventually,
    fleet::{Fleet, Told, api},
};
use serde_json::json;

use crate::{
    publish_small, quantile,
    table::{Table, say},
};

const SPOKES: usize = 1_000;
const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let client = stack.plane.client().await?;
    let names: Vec<String> = (0..SPOKES).map(|n| format!("spoke-{n:04}")).collect();
    say("connecting 1,000 spokes")?;
    api::create_clusters(&client, &names, &[("bench", "assigned")]).await?;
    let mut fleet = Fleet::of(stack).await?;
    fleet.connect_all(&names).await?;
    publish_small(stack, "assigned", "1.0").await?;
    let written = Arc::new(Told::default());
    let watch = tokio::spawn(watch(client.clone(), Arc::clone(&written)));
    let policies: Api<PlacementPolicy> = Api::namespaced(client.clone(), "default");
    for (count, what) in [(100, "100 of 1,000"), (SPOKES, "all 1,000")] {
        let (mut assigned, mut told) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let name = format!("bench-{count}-{round}");
            let policy = serde_json::from_value(policy(&name, count))?;
            let began = Instant::now();
            policies.create(&PostParams::default(), &policy).await?;
            let all =
                async { tokio::join!(written.wait_for(&name, count), fleet.told.wait_for(&name, count)) };
            let (wrote, heard) = tokio::time::timeout(LIMIT, all).await?;
            let last = |times: std::collections::BTreeMap<String, Instant>| times.into_values().max();
            // The first round creates the assignments, which later ones change.
            if let (Some(wrote), Some(heard)) = (last(wrote), last(heard)) {
                assigned.push(wrote.duration_since(began));
                told.push(heard.duration_since(began));
            }
            policies.delete(&name, &DeleteParams::default()).await?;
            empty(&client).await?;
        }
        let show = |samples: &mut Vec<Duration>| {
            let (p50, p90) = (quantile(samples, 0.5), quantile(samples, 0.9));
            format!("{} ms / {} ms ({} rounds)", p50.as_millis(), p90.as_millis(), samples.len())
        };
        table.row(&format!("policy created to written, {what}, p50 / p90"), show(&mut assigned))?;
        table.row(&format!("policy created to told, {what}, p50 / p90"), show(&mut told))?;
    }
    watch.abort();
    Ok(())
}

fn policy(name: &str, clusters: usize) -> serde_json::Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"name": "assigned", "version": "1.0"},
            "placement": {"clusterSelector": {"matchLabels": {"bench": "assigned"}}, "numberOfClusters": clusters},
            "serving": {"runtime": "files"},
        },
    })
}

/// Notes when each cluster's assignment first held an entry of each policy.
async fn watch(client: Client, written: Arc<Told>) {
    let assignments: Api<ClusterAssignment> = Api::all(client);
    let events = watcher(assignments, watcher::Config::default()).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Ok(assignment) = event else { continue };
        for entry in &assignment.spec.entries {
            written.record(&assignment.name_any(), &entry.policy);
        }
    }
}

/// Waits until no cluster is to hold or still reports anything.
async fn empty(client: &Client) -> anyhow::Result<()> {
    let assignments: Api<ClusterAssignment> = Api::all(client.clone());
    eventually("the fleet to be empty again", LIMIT, || async {
        let all = assignments.list(&ListParams::default()).await?.items;
        let busy = all.iter().filter(|assignment| {
            let rows = assignment.status.as_ref().map_or(0, |status| status.entries.len());
            !assignment.spec.entries.is_empty() || rows > 0
        });
        let busy = busy.count();
        Ok(Progress::when(busy == 0, (), format!("{busy} are not")))
    })
    .await
}
