//! What the API server alone takes for 1,000 assignments, asked by a client that does nothing else: the least that any hub
//! could need. They belong to no cluster, so that the hub leaves them alone.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use nave_crds::ClusterAssignment;
use serde_json::{Value, json};

use crate::{quantile, table::Table};

const OBJECTS: usize = 1_000;
/// As many as the hub sends at once.
const AT_ONCE: usize = 16;
/// As many as the hub's rows have.
const ROUNDS: usize = 10;

pub(crate) async fn measure(client: &Client, table: &mut Table) -> anyhow::Result<()> {
    let api: Api<ClusterAssignment> = Api::all(client.clone());
    let names: Vec<String> = (0..OBJECTS).map(|number| format!("nobody-{number:04}")).collect();
    let (mut created, mut changed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        each(&names, async |name| {
            let object = ClusterAssignment::new(
                name,
                serde_json::from_value(spec(1)).map_err(kube::Error::SerdeError)?,
            );
            api.create(&PostParams::default(), &object).await.map(drop)
        })
        .await?;
        created.push(began.elapsed());
        // What every assignment of a connected cluster has by the time it is changed.
        let report = json!({"status": {"observedGeneration": 1, "conditions": [{
            "type": "Acknowledged", "status": "True", "reason": "Accepted", "message": "generation 1",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let by = PatchParams { field_manager: Some("nave-gateway".to_owned()), ..PatchParams::default() };
        each(&names, async |name| api.patch_status(name, &by, &Patch::Merge(&report)).await.map(drop))
            .await?;
        // The first change leaves out managedFields, as the hub's does; the second one finds them gone.
        change(client, &names, 2).await?;
        let began = Instant::now();
        change(client, &names, 3).await?;
        changed.push(began.elapsed());
        each(&names, async |name| api.delete(name, &DeleteParams::default()).await.map(drop)).await?;
    }
    let mut show = |what: &str, samples: &mut Vec<Duration>| {
        let (p50, p90) = (quantile(samples, 0.5).as_millis(), quantile(samples, 0.9).as_millis());
        table.row(
            &format!("a bare client, 1,000 assignments {what}, p50 / p90"),
            format!("{p50} ms / {p90} ms ({ROUNDS} rounds)"),
        )
    };
    show("created", &mut created)?;
    show("changed", &mut changed)
}

fn spec(generation: i64) -> Value {
    json!({"generation": generation, "entries": [{
        "action": "Serve", "namespace": "default", "policy": "p", "model": "m", "version": generation.to_string(),
        "manifestDigest": format!("sha256:{generation:064x}"), "toldAt": "2026-01-01T00:00:00Z"}]})
}

async fn change(client: &Client, names: &[String], generation: i64) -> anyhow::Result<()> {
    let patch = serde_json::to_vec(&json!([
        {"op": "add", "path": "/spec", "value": spec(generation)},
        {"op": "add", "path": "/metadata/managedFields", "value": [{}]},
    ]))?;
    each(names, async |name| {
        let request = http::Request::patch(format!("/apis/nave.dev/v1alpha1/clusterassignments/{name}"))
            .header("content-type", "application/json-patch+json")
            .body(patch.clone())
            .map_err(kube::Error::HttpError)?;
        client.request::<ClusterAssignment>(request).await.map(drop)
    })
    .await
}

async fn each(
    names: &[String],
    request: impl AsyncFn(&str) -> Result<(), kube::Error>,
) -> anyhow::Result<()> {
    let request = &request;
    let requests = stream::iter(names).map(|name| async move { request(name).await });
    Ok(requests.buffer_unordered(AT_ONCE).try_collect().await?)
}
