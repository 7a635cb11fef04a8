//! From a policy's creation until 100, or all, of 1,000 connected clusters have their ClusterAssignment written, as a
//! watch of the API server shows it, and until they are told.

use std::{
    collections::BTreeMap,
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
    bare, process, publish_small, quantile,
    table::Table,
    thousand::{SPOKES, Thousand},
};

const ROUNDS: usize = 10;
const LOOK: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(120);
/// The API server keeps what was written in the last 75 s, some 7 kB of memory for each write, and whenever it collects
/// garbage it walks through all of that: after a minute of such rounds it does so for a second or more. Two rounds in turns,
/// one of the hub's and one of a bare client's, that begin this far apart leave it as it is in a fleet that is not rolled
/// out to every few seconds.
const APART: Duration = Duration::from_secs(40);

/// One kind of rounds.
struct Row {
    clusters: usize,
    /// None of them has an assignment.
    new: bool,
    /// Apart, in turns with a bare client; or one right after the other.
    apart: bool,
    what: &'static str,
}

const ROWS: [Row; 5] = [
    Row { clusters: 100, new: true, apart: false, what: "100 of 1,000 that had no assignment" },
    Row { clusters: SPOKES, new: true, apart: true, what: "all 1,000 that had no assignment" },
    Row { clusters: 100, new: false, apart: false, what: "100 of 1,000 that had one" },
    Row { clusters: SPOKES, new: false, apart: true, what: "all 1,000 that had one" },
    Row { clusters: SPOKES, new: true, apart: false, what: "all 1,000 that had none, round after round" },
];

pub(crate) async fn measure(stack: &mut Stack, thousand: &Thousand, table: &mut Table) -> anyhow::Result<()> {
    publish_small(stack, "assigned", "1.0").await?;
    let client = thousand.client.clone();
    let written = Written::watch(client.clone());
    let mut rounds = Rounds { client, thousand, written, shares: Shares::of(stack), last: Instant::now() };
    for row in &ROWS {
        rounds.row(row, table).await?;
    }
    Ok(())
}

/// What the rounds have in common.
struct Rounds<'a> {
    client: Client,
    thousand: &'a Thousand,
    written: Written,
    shares: Shares,
    /// When the last one began.
    last: Instant,
}

/// What one round took.
struct Took {
    written: Duration,
    told: Duration,
    /// By each process.
    spent: Vec<Duration>,
}

impl Rounds<'_> {
    async fn row(&mut self, row: &Row, table: &mut Table) -> anyhow::Result<()> {
        let (mut took, mut bare) = (Vec::new(), Vec::new());
        // The first round warms up; of those that shall have an assignment it creates them.
        for round in 0..=ROUNDS {
            let measured = self.round(row, round).await?;
            took.extend((round > 0).then_some(measured));
            if row.apart {
                self.rest(APART).await?;
                let measured = match row.new {
                    true => bare::created(&self.client).await?,
                    false => bare::changed(&self.client).await?,
                };
                bare.extend((round > 0).then_some(measured));
            }
        }
        let what = row.what;
        let mut show = |measure: &str, samples: Vec<Duration>| table.row(measure, quantiles(samples));
        show(
            &format!("policy created to written, {what}, p50 / p90"),
            took.iter().map(|round| round.written).collect(),
        )?;
        show(
            &format!("policy created to told, {what}, p50 / p90"),
            took.iter().map(|round| round.told).collect(),
        )?;
        if row.apart {
            let does = if row.new { "creates 1,000" } else { "changes 1,000" };
            show(&format!("in turns with them, a bare client {does}, p50 / p90"), bare)?;
        }
        let spent: Vec<_> = took.into_iter().map(|round| round.spent).collect();
        table.row(&format!("processor time until then, {what}"), self.shares.say(&spent))
    }

    async fn round(&mut self, row: &Row, round: usize) -> anyhow::Result<Took> {
        if row.new {
            forget(&self.client).await?;
        }
        self.rest(if row.apart { APART } else { Duration::ZERO }).await?;
        let policies: Api<PlacementPolicy> = Api::namespaced(self.client.clone(), "default");
        let name = format!("bench-{}-{}-{}-{round}", row.clusters, row.new, row.apart);
        let policy = serde_json::from_value(policy(&name, row.clusters))?;
        let (began, before) = (self.last, self.shares.so_far()?);
        policies.create(&PostParams::default(), &policy).await?;
        let all = async {
            let told = &self.thousand.fleet.told;
            tokio::join!(self.written.told.wait_for(&name, row.clusters), told.wait_for(&name, row.clusters))
        };
        let (wrote, heard) = tokio::time::timeout(LIMIT, all).await?;
        let spent = self.shares.since(&before)?;
        let since = |times: BTreeMap<String, Instant>| {
            times.into_values().max().map_or(Duration::ZERO, |last| last.duration_since(began))
        };
        policies.delete(&name, &DeleteParams::default()).await?;
        empty(&self.client).await?;
        Ok(Took { written: since(wrote), told: since(heard), spent })
    }

    /// Until nothing is left to do of what was before, and the last round began that long ago.
    async fn rest(&mut self, apart: Duration) -> anyhow::Result<()> {
        self.shares.rest().await?;
        tokio::time::sleep_until((self.last + apart).into()).await;
        self.last = Instant::now();
        Ok(())
    }
}

fn quantiles(mut samples: Vec<Duration>) -> String {
    let (p50, p90) = (quantile(&mut samples, 0.5), quantile(&mut samples, 0.9));
    format!("{} ms / {} ms ({} rounds)", p50.as_millis(), p90.as_millis(), samples.len())
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
