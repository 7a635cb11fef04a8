//! Simulated spokes: real mTLS sessions of `nave.v1` in one process, with no weights and no disk, for what only shows
//! with hundreds of clusters. They tell when each desired set reached them and report what a script says. The real
//! agent is tested elsewhere; nothing here stands in for it.

pub mod api;
mod identity;
mod spoke;
pub mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

pub use identity::{Authority, Credentials};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What a simulated spoke does when it is asked to serve a version.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// `(cluster, version)` that fail with the given reason; all else is served at once.
    pub fails: Arc<Mutex<BTreeMap<(String, String), String>>>,
}

impl Behaviour {
    /// From now on the cluster fails that version.
    pub fn fail(&self, cluster: &str, version: &str, reason: &str) {
        let mut fails = self.fails.lock().unwrap_or_else(PoisonError::into_inner);
        fails.insert((cluster.to_owned(), version.to_owned()), reason.to_owned());
    }

    fn reason(&self, cluster: &str, version: &str) -> Option<String> {
        let fails = self.fails.lock().unwrap_or_else(PoisonError::into_inner);
        fails.get(&(cluster.to_owned(), version.to_owned())).cloned()
    }
}

/// When what first reached which cluster: versions, and the policies that they came by.
#[derive(Debug, Default)]
pub struct Told {
    /// What -> cluster -> when.
    rows: Mutex<BTreeMap<String, BTreeMap<String, Instant>>>,
    changed: Notify,
}

impl Told {
    /// Notes that it is there now, if that was not noted before.
    pub fn record(&self, cluster: &str, what: &str) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.entry(what.to_owned()).or_default().entry(cluster.to_owned()).or_insert_with(Instant::now);
        drop(rows);
        self.changed.notify_waiters();
    }

    /// When each cluster was first told to serve the version, or to serve for the policy.
    pub fn of(&self, what: &str) -> BTreeMap<String, Instant> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(what).cloned().unwrap_or_default()
    }

    fn count(&self, what: &str) -> usize {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(what).map_or(0, BTreeMap::len)
    }

    /// Waits until that many clusters were told.
    pub async fn wait_for(&self, what: &str, clusters: usize) -> BTreeMap<String, Instant> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.count(what) >= clusters {
                return self.of(what);
            }
            changed.await;
        }
    }
}

/// A fleet of simulated spokes; all of them leave when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// When which version was told to which cluster.
    pub told: Arc<Told>,
    /// What they do; may be changed while they run.
    pub behaviour: Behaviour,
    spokes: BTreeMap<String, CancellationToken>,
    /// A spoke that comes back has the key that it had.
    credentials: BTreeMap<String, Credentials>,
    tasks: JoinSet<()>,
    hub: String,
    authority: Authority,
}

impl Fleet {
    /// A fleet without spokes.
    pub fn new(hub: &str, authority: Authority) -> Self {
        crate::use_ring();
        Self {
            told: Arc::default(),
            behaviour: Behaviour::default(),
            spokes: BTreeMap::new(),
            credentials: BTreeMap::new(),
            tasks: JoinSet::new(),
            hub: hub.to_owned(),
            authority,
        }
    }

    /// A fleet of the stack's hub, whose CA it asks the API server for.
    ///
    /// # Errors
    /// The CA's Secret cannot be read.
    pub async fn of(stack: &crate::Stack) -> anyhow::Result<Self> {
        let authority = api::authority(&stack.plane.client().await?).await?;
        Ok(Self::new(&stack.hub.address(), authority))
    }

    /// Who makes the certificates of its spokes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Connects many, one after the other.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_all(&mut self, clusters: &[String]) -> anyhow::Result<()> {
        for cluster in clusters {
            self.connect(cluster).await?;
        }
        Ok(())
    }

    /// Connects one spoke and keeps it connected; returns when the hub has answered its hello.
    ///
    /// # Errors
    /// What kept the first connection from coming about.
    pub async fn connect(&mut self, cluster: &str) -> anyhow::Result<()> {
        let credentials = match self.credentials.get(cluster) {
            Some(credentials) => credentials.clone(),
            None => self.authority.issue(cluster)?,
        };
        self.credentials.insert(cluster.to_owned(), credentials.clone());
        let leave = CancellationToken::new();
        let spoke = spoke::Spoke {
            cluster: cluster.to_owned(),
            told: Arc::clone(&self.told),
            behaviour: self.behaviour.clone(),
            leave: leave.clone(),
            served: BTreeMap::new(),
            held: BTreeMap::new(),
            generation: 0,
        };
        let session = spoke.open(self.hub.clone(), credentials).await?;
        self.tasks.spawn(session);
        self.spokes.insert(cluster.to_owned(), leave);
        Ok(())
    }

    /// Ends one spoke's session, as a link that goes does.
    pub fn disconnect(&mut self, cluster: &str) {
        if let Some(leave) = self.spokes.remove(cluster) {
            leave.cancel();
        }
    }

    /// How many were connected and not disconnected by the test.
    pub fn len(&self) -> usize {
        self.spokes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spokes.is_empty()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for leave in self.spokes.values() {
            leave.cancel();
        }
    }
}
