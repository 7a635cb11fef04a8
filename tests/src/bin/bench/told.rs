//! From a policy's change at the API server until each of 50 spokes has received what it is to serve.

use std::time::{Duration, Instant};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use nave_crds::PlacementPolicy;
use nave_tests::{
    Stack,
    fleet::{Fleet, api},
};
use serde_json::json;

use crate::{
    publish_small, quantile,
    table::{Table, say},
};

const SPOKES: usize = 50;
const ROUNDS: usize = 10;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    let client = stack.plane.client().await?;
    let names: Vec<String> = (0..SPOKES).map(|n| format!("told-{n:02}")).collect();
    say("connecting 50 spokes")?;
    api::create_clusters(&client, &names, &[("bench", "told")]).await?;
    let mut fleet = Fleet::of(stack).await?;
    fleet.connect_all(&names).await?;
    let versions: Vec<String> = (0..=ROUNDS).map(|n| format!("1.{n}")).collect();
    for version in &versions {
        publish_small(stack, "told", version).await?;
    }
    stack.place("told", "told", &versions[0], &[("bench", "told")]).await?;
    tokio::time::timeout(LIMIT, fleet.told.wait_for(&versions[0], SPOKES)).await?;
    let policies: Api<PlacementPolicy> = Api::namespaced(client.clone(), "default");
    let mut latencies = Vec::new();
    for version in &versions[1..] {
        // The last round's reports and counts are written.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let patch = Patch::Merge(json!({"spec": {"model": {"version": version}}}));
        let began = Instant::now();
        policies.patch("told", &PatchParams::default(), &patch).await?;
        let told = tokio::time::timeout(LIMIT, fleet.told.wait_for(version, SPOKES)).await?;
        latencies.extend(told.values().map(|at| at.duration_since(began)));
    }
    let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
    let result = format!("{} ms / {} ms ({} samples)", p50.as_millis(), p99.as_millis(), latencies.len());
    table.row("apply to told, 50 spokes, p50 / p99", result)?;
    stack.kubectl.run(&["delete", "placementpolicy", "told"]).await?;
    api::delete_clusters(&client, &names).await
}
