//! One cluster of 1,000 gets a label that 50 policies select: from the change until its assignment holds all 50 entries, and
//! until it is told of them.

use std::time::{Duration, Instant};

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use nave_crds::{EdgeCluster, ModelVersion, PlacementPolicy, view::conditions};
use nave_tests::{Progress, Stack, eventually};
use serde_json::json;

use crate::{
    assigned::Written,
    quantile,
    table::{Table, say},
    thousand::Thousand,
};

const POLICIES: usize = 50;
const ROUNDS: usize = 20;
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(stack: &Stack, thousand: &Thousand, table: &mut Table) -> anyhow::Result<()> {
    let client = &thousand.client;
    say("50 policies that select nobody yet")?;
    crate::publish_small(stack, "label", "1.0").await?;
    let versions: Api<ModelVersion> = Api::namespaced(client.clone(), "default");
    let policies: Api<PlacementPolicy> = Api::namespaced(client.clone(), "default");
    let clusters: Api<EdgeCluster> = Api::all(client.clone());
    let published = versions.get("label-1.0").await?;
    for number in 0..POLICIES {
        let model = format!("label-{number}");
        let mut version = ModelVersion::new(&model, published.spec.clone());
        version.spec.model.clone_from(&model);
        versions.create(&PostParams::default(), &version).await?;
        let policy = json!({
            "apiVersion": "nave.dev/v1alpha1",
            "kind": "PlacementPolicy",
            "metadata": {"name": model, "namespace": "default"},
            "spec": {
                "model": {"name": model, "version": "1.0"},
                "placement": {"clusterSelector": {"matchLabels": {"lane": "fast"}}},
                "serving": {"runtime": "files"},
            },
        });
        policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
    }
    eventually("the versions to be resolved", LIMIT, || async {
        let all = versions.list(&Default::default()).await?.items;
        let is_ready = |version: &&ModelVersion| {
            let status = version.status.as_ref();
            status.is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY))
        };
        let ready = all.iter().filter(is_ready).count();
        Ok(Progress::when(ready == all.len(), (), format!("{ready} of {}", all.len())))
    })
    .await?;
    let written = Written::watch(client.clone());
    let (mut stored, mut told) = (Vec::new(), Vec::new());
    let last = format!("label-{}", POLICIES - 1);
    for name in thousand.names.iter().take(ROUNDS) {
        // What the last round set off has settled.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"lane": "fast"}}}));
        let began = Instant::now();
        clusters.patch(name, &PatchParams::default(), &patch).await?;
        let count = stored.len() + 1;
        let both = async {
            tokio::join!(written.told.wait_for(&last, count), thousand.fleet.told.wait_for(&last, count))
        };
        let (wrote, heard) = tokio::time::timeout(LIMIT, both).await?;
        stored.push(wrote[name].duration_since(began));
        told.push(heard[name].duration_since(began));
    }
    for (what, samples) in [("written", &mut stored), ("told", &mut told)] {
        let (p50, p90) = (quantile(samples, 0.5), quantile(samples, 0.9));
        let result = format!("{} ms / {} ms ({ROUNDS} rounds)", p50.as_millis(), p90.as_millis());
        table.row(&format!("label of one of 1,000 changed to {what}, 50 policies, p50 / p90"), result)?;
    }
    for number in 0..POLICIES {
        policies.delete(&format!("label-{number}"), &DeleteParams::default()).await?;
    }
    crate::assigned::empty(client).await
}
