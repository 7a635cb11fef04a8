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
use nave_tests::{Progress, Stack, eventually, fleet::Told};
use serde_json::json;
use tokio::task::AbortHandle;

use crate::{
    process, publish_small, quantile,
    table::Table,
    thousand::{SPOKES, Thousand},
};

const ROUNDS: usize = 10;
const LOOK: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(stack: &mut Stack, thousand: &Thousand, table: &mut Table) -> anyhow::Result<()> {
    let shares = Shares::of(stack);
    let client = &thousand.client;
    publish_small(stack, "assigned", "1.0").await?;
    let written = Written::watch(client.clone());
    let policies: Api<PlacementPolicy> = Api::namespaced(client.clone(), "default");
    for (count, new, what) in [
        (100, true, "100 of 1,000 that had no assignment"),
        (SPOKES, true, "all 1,000 that had no assignment"),
        (100, false, "100 of 1,000 that had one"),
        (SPOKES, false, "all 1,000 that had one"),
    ] {
        let (mut assigned, mut told, mut spent) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            if new {
                forget(client).await?;
            }
            shares.rest().await?;
            let name = format!("bench-{count}-{new}-{round}");
            let policy = serde_json::from_value(policy(&name, count))?;
            let (began, before) = (Instant::now(), shares.so_far()?);
            policies.create(&PostParams::default(), &policy).await?;
            let all = async {
                tokio::join!(written.told.wait_for(&name, count), thousand.fleet.told.wait_for(&name, count))
            };
            let (wrote, heard) = tokio::time::timeout(LIMIT, all).await?;
            let last = |times: std::collections::BTreeMap<String, Instant>| times.into_values().max();
            // The first round warms up; of those that shall have an assignment it creates them.
            if let (Some(wrote), Some(heard), 1..) = (last(wrote), last(heard), round) {
                assigned.push(wrote.duration_since(began));
                told.push(heard.duration_since(began));
                spent.push(shares.since(&before)?);
            }
            policies.delete(&name, &DeleteParams::default()).await?;
            empty(client).await?;
        }
        let show = |samples: &mut Vec<Duration>| {
            let (p50, p90) = (quantile(samples, 0.5), quantile(samples, 0.9));
            format!("{} ms / {} ms ({} rounds)", p50.as_millis(), p90.as_millis(), samples.len())
        };
        table.row(&format!("policy created to written, {what}, p50 / p90"), show(&mut assigned))?;
        table.row(&format!("policy created to told, {what}, p50 / p90"), show(&mut told))?;
        table.row(&format!("processor time until then, {what}"), shares.say(&spent))?;
    }
    Ok(())
}

/// The processes that take part, which share this machine's cores.
struct Shares(Vec<(&'static str, u32)>);

impl Shares {
    fn of(stack: &mut Stack) -> Self {
        let server = stack.plane.pid().map(|pid| ("API server", pid));
        let ours = [("hub", stack.hub.daemon().pid()), ("1,000 spokes and the watch", std::process::id())];
        Self(server.into_iter().chain(ours).collect())
    }

    fn so_far(&self) -> anyhow::Result<Vec<Duration>> {
        self.0.iter().map(|(_, pid)| process::cpu_with_children(*pid)).collect()
    }

    fn since(&self, before: &[Duration]) -> anyhow::Result<Vec<Duration>> {
        Ok(self.so_far()?.into_iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect())
    }

    /// Until nothing is left to do of what was before, as in a fleet in earnest.
    async fn rest(&self) -> anyhow::Result<()> {
        loop {
            let before = self.so_far()?;
            tokio::time::sleep(LOOK).await;
            if self.since(&before)?.into_iter().sum::<Duration>() < LOOK / 10 {
                return Ok(());
            }
        }
    }

    /// The mean of each: the kernel counts in hundredths of a second.
    fn say(&self, spent: &[Vec<Duration>]) -> String {
        let rounds = u32::try_from(spent.len()).unwrap_or(1).max(1);
        let mean = |at: usize| spent.iter().filter_map(|round| round.get(at)).sum::<Duration>() / rounds;
        let shares = self.0.iter().enumerate();
        let shares = shares.map(|(at, (name, _))| format!("{name} {} ms", mean(at).as_millis()));
        shares.collect::<Vec<_>>().join(", ")
    }
}

/// Deletes all assignments, once no policy wants any.
async fn forget(client: &Client) -> anyhow::Result<()> {
    let assignments: Api<ClusterAssignment> = Api::all(client.clone());
    assignments.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    eventually("the assignments to be gone", LIMIT, || async {
        let left = assignments.list_metadata(&ListParams::default()).await?.items.len();
        Ok(Progress::when(left == 0, (), format!("{left} are there")))
    })
    .await
}

fn policy(name: &str, clusters: usize) -> serde_json::Value {
    json!({
        "apiVersion": "nave.dev/v1alpha1",
        "kind": "PlacementPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"name": "assigned", "version": "1.0"},
            "placement": {"clusterSelector": {"matchLabels": {"bench": "thousand"}}, "numberOfClusters": clusters},
            "serving": {"runtime": "files"},
        },
    })
}

/// When each cluster's assignment first held an entry of each policy, as a watch saw it.
pub(crate) struct Written {
    pub(crate) told: Arc<Told>,
    watch: AbortHandle,
}

impl Written {
    pub(crate) fn watch(client: Client) -> Self {
        let told = Arc::new(Told::default());
        let watch = tokio::spawn(note(client, Arc::clone(&told))).abort_handle();
        Self { told, watch }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn note(client: Client, written: Arc<Told>) {
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
pub(crate) async fn empty(client: &Client) -> anyhow::Result<()> {
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
