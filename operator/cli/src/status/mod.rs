//! `status`: the fleet at a glance.

mod fleet;
mod progress;
mod tables;
#[cfg(test)]
mod tests;

use std::{io::Write, time::Duration};

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams, core::NamespaceResourceScope};
use nave_crds::PlacementPolicy;
use serde::de::DeserializeOwned;

use self::fleet::Objects;
use crate::{
    connection::{Connected, Connection, HUB_NAMESPACE},
    failure,
    output::{self, Format},
    time::parse_duration,
};

/// Goes to the top left corner and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Show the fleet: clusters, policies, and what each policy asks of each cluster
///
/// Policies and entries of all namespaces, unless --namespace names one.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only these clusters
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// Only clusters with these labels, such as region=eu-west
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Show it anew until interrupted
    #[arg(short, long)]
    watch: bool,
    /// With --watch: how often
    #[arg(long, default_value = "2s", value_parser = parse_duration, requires = "watch")]
    interval: SignedDuration,
    /// Namespace of the hub, whose replicas are asked how far pulls are
    #[arg(long, default_value = HUB_NAMESPACE, value_name = "NAMESPACE")]
    hub_namespace: String,
    /// http:// address of a replica to ask instead; may be repeated
    #[arg(long, env = "NAVE_HUB_URL", value_delimiter = ',', value_name = "URL")]
    hub_url: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Status {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        if !self.watch {
            return self.show(&hub, "", out).await;
        }
        let clear = if self.output == Format::Table { CLEAR } else { "" };
        let mut ticks = tokio::time::interval(Duration::try_from(self.interval)?);
        loop {
            ticks.tick().await;
            self.show(&hub, clear, out).await?;
            out.flush()?;
        }
    }

    async fn show(&self, hub: &Connected, clear: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut fleet = self.fetch(hub).await?.fleet(hub.named_namespace());
        if fleet.is_pulling() {
            fleet.add_progress(&progress::fetch(&hub.client, &self.hub_namespace, &self.hub_url).await);
        }
        match self.output {
            Format::Json => output::json(out, &fleet),
            Format::Table => {
                write!(out, "{clear}")?;
                Ok(fleet.write(Timestamp::now(), out)?)
            }
        }
    }

    async fn fetch(&self, hub: &Connected) -> anyhow::Result<Objects> {
        let mut selected = ListParams::default();
        selected.label_selector.clone_from(&self.selector);
        let everything = ListParams::default();
        let policies: Api<PlacementPolicy> = scoped(&hub.client, hub.named_namespace());
        let (clusters, policies, assignments) = futures::try_join!(
            list(Api::all(hub.client.clone()), &selected, "EdgeClusters"),
            list(policies, &everything, "PlacementPolicies"),
            list(Api::all(hub.client.clone()), &everything, "ClusterAssignments"),
        )?;
        let mut objects = Objects { clusters, policies, assignments };
        if !self.clusters.is_empty() {
            objects.clusters.retain(|cluster| self.clusters.contains(&cluster.name_any()));
            for name in &self.clusters {
                if !objects.clusters.iter().any(|cluster| cluster.name_any() == *name) {
                    anyhow::bail!("EdgeCluster {name} not found");
                }
            }
        }
        Ok(objects)
    }
}

/// One namespace, or all of them.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Everything of one kind.
pub(crate) async fn list<K>(api: Api<K>, parameters: &ListParams, kind: &str) -> anyhow::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = api.list(parameters).await.map_err(failure::said);
    Ok(found.with_context(|| format!("listing {kind}"))?.items)
}
