//! What the API server alone takes for 1,000 assignments, asked as the hub asks by a client that does nothing else: the least
//! that any hub could need. They belong to no cluster, so that the hub leaves them alone.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use nave_crds::ClusterAssignment;
use serde_json::{Value, json};

const OBJECTS: usize = 1_000;
/// As many as the hub sends at once.
const AT_ONCE: usize = 16;
const PATH: &str = "/apis/nave.dev/v1alpha1/clusterassignments";

/// Creates 1,000 assignments. Returns how long that took, once they are gone again.
pub(crate) async fn created(client: &Client) -> anyhow::Result<Duration> {
    let names = names();
    let took = create(client, &names).await?;
    delete(client, &names).await?;
    Ok(took)
}

/// Changes 1,000 assignments. Returns how long that took, once they are gone again.
pub(crate) async fn changed(client: &Client) -> anyhow::Result<Duration> {
    let names = names();
    create(client, &names).await?;
    // What every assignment of a connected cluster has by the time it is changed.
    let report = json!({"status": {"observedGeneration": 1, "conditions": [{
        "type": "Acknowledged", "status": "True", "reason": "Accepted", "message": "generation 1",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let api: Api<ClusterAssignment> = Api::all(client.clone());
    let by = PatchParams { field_manager: Some("nave-gateway".to_owned()), ..PatchParams::default() };
    each(&names, async |name| api.patch_status(name, &by, &Patch::Merge(&report)).await.map(drop)).await?;
    // The first change leaves out managedFields, as the hub's does; the second one finds them gone.
    change(client, &names, 2).await?;
    let took = change(client, &names, 3).await?;
    delete(client, &names).await?;
    Ok(took)
}

fn names() -> Vec<String> {
    (0..OBJECTS).map(|number| format!("nobody-{number:04}")).collect()
}

async fn create(client: &Client, names: &[String]) -> anyhow::Result<Duration> {
    each(names, async |name| {
        let object = json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment",
            "metadata": {"name": name}, "spec": spec(1),
        });
        send(client, http::Request::post(PATH), "application/json", &object).await
    })
    .await
}

async fn change(client: &Client, names: &[String], generation: i64) -> anyhow::Result<Duration> {
    let patch = json!([
        {"op": "add", "path": "/spec", "value": spec(generation)},
        {"op": "add", "path": "/metadata/managedFields", "value": [{}]},
    ]);
    each(names, async |name| {
        let request = http::Request::patch(format!("{PATH}/{name}"));
        send(client, request, "application/json-patch+json", &patch).await
    })
    .await
}

async fn send(
    client: &Client,
    request: http::request::Builder,
    content_type: &str,
    body: &Value,
) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let request = request.header("content-type", content_type).body(body).map_err(kube::Error::HttpError)?;
    client.request::<ClusterAssignment>(request).await.map(drop)
}

async fn delete(client: &Client, names: &[String]) -> anyhow::Result<Duration> {
    let api: Api<ClusterAssignment> = Api::all(client.clone());
    each(names, async |name| api.delete(name, &DeleteParams::default()).await.map(drop)).await
}

fn spec(generation: i64) -> Value {
    json!({"generation": generation, "entries": [{
        "action": "Serve", "namespace": "default", "policy": "p", "model": "m", "version": generation.to_string(),
        "manifestDigest": format!("sha256:{generation:064x}"), "toldAt": "2026-01-01T00:00:00Z"}]})
}

async fn each(
    names: &[String],
    request: impl AsyncFn(&str) -> Result<(), kube::Error>,
) -> anyhow::Result<Duration> {
    let (request, began) = (&request, Instant::now());
    let requests = stream::iter(names).map(|name| async move { request(name).await });
    requests.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(began.elapsed())
}
