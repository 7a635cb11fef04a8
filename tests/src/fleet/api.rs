//! The fleet's other side: EdgeClusters made without joining, the hub's CA, and what the API server was asked to write.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use nave_crds::{EdgeCluster, EdgeClusterSpec};

use super::Authority;
use crate::SYSTEM_NAMESPACE;

/// Requests at once.
const AT_ONCE: usize = 16;

/// The hub's CA, from its Secret.
///
/// # Errors
/// There is no such Secret yet, or it holds something else.
pub async fn authority(client: &Client) -> anyhow::Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = secrets.get("nave-ca").await.context("reading the CA's Secret")?.data.unwrap_or_default();
    let text = |key: &str| -> anyhow::Result<String> {
        let bytes = data.get(key).with_context(|| format!("the CA's Secret has no {key}"))?;
        Ok(String::from_utf8(bytes.0.clone())?)
    };
    Authority::new(&text("ca.crt")?, &text("ca.key")?)
}

/// EdgeClusters that the platform team made and accepted beforehand; spokes with these names may connect.
///
/// # Errors
/// The API server refused one.
pub async fn create_clusters(
    client: &Client,
    names: &[String],
    labels: &[(&str, &str)],
) -> anyhow::Result<()> {
    let api: Api<EdgeCluster> = Api::all(client.clone());
    let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let create = |name: &String| {
        let spec = EdgeClusterSpec { accepted: true, ..EdgeClusterSpec::default() };
        let mut cluster = EdgeCluster::new(name, spec);
        cluster.metadata.labels = Some(labels.clone());
        let api = api.clone();
        async move { api.create(&PostParams::default(), &cluster).await.map(drop) }
    };
    let created = stream::iter(names.iter().map(create).collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    created.try_collect().await.context("creating EdgeClusters")
}

/// Deletes EdgeClusters.
///
/// # Errors
/// The API server refused it.
pub async fn delete_clusters(client: &Client, names: &[String]) -> anyhow::Result<()> {
    let api: Api<EdgeCluster> = Api::all(client.clone());
    let delete = |name: &String| {
        let (api, name) = (api.clone(), name.clone());
        async move { api.delete(&name, &DeleteParams::default()).await.map(drop) }
    };
    let deleted = stream::iter(names.iter().map(delete).collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    deleted.try_collect().await.context("deleting EdgeClusters")
}

/// How many writing requests the API server has answered, by `VERB resource/subresource`: its own count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiWrites(BTreeMap<String, u64>);

impl ApiWrites {
    /// The count now.
    ///
    /// # Errors
    /// The API server does not give its metrics.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await.context("reading the API server's metrics")?;
        anyhow::ensure!(text.contains("apiserver_request_total{"), "the API server counts no requests");
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
                labels[start..].split('"').next()
            };
            let verb = label("verb").unwrap_or_default();
            if !["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"].contains(&verb) {
                continue;
            }
            let resource = label("resource").unwrap_or_default();
            let part = label("subresource").filter(|part| !part.is_empty());
            let name = part.map_or(resource.to_owned(), |part| format!("{resource}/{part}"));
            let count = value.parse::<f64>().unwrap_or_default();
            // Counts of requests are whole and small.
            *counts.entry(format!("{verb} {name}")).or_default() += count as u64;
        }
        Self(counts)
    }

    /// What was written since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = self.0.iter().map(|(what, count)| {
            (what.clone(), count.saturating_sub(before.0.get(what).copied().unwrap_or_default()))
        });
        grown.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_count_whatever_their_answer() {
        let metrics = |patched: u32| {
            format!(
                "# TYPE apiserver_request_total counter\n\
                 apiserver_request_total{{code=\"200\",resource=\"leases\",subresource=\"\",verb=\"PUT\"}} 4\n\
                 apiserver_request_total{{code=\"200\",resource=\"leases\",subresource=\"\",verb=\"WATCH\"}} 9\n\
                 apiserver_request_total{{code=\"200\",resource=\"edgeclusters\",subresource=\"status\",verb=\"PATCH\"}} {patched}\n\
                 apiserver_request_total{{code=\"409\",resource=\"edgeclusters\",subresource=\"status\",verb=\"PATCH\"}} 1\n"
            )
        };
        let written = ApiWrites::parse(&metrics(7)).since(&ApiWrites::parse(&metrics(5)));
        assert_eq!(written, BTreeMap::from([("PATCH edgeclusters/status".to_owned(), 2)]));
    }
}
