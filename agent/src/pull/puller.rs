//! The entrance: one puller for all pulls of a spoke, so that they share its connections and the site's limits.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nave_manifest::Manifest;
use nave_names::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Limiter, Limits, Priority, Progress, PullError, UrlSource, client::Clients, limiter::Rank,
    manifest_fetch::fetch_manifest, meter::Meter, recovery::Recovery, run::run, urls::Urls,
};
use crate::{peers::Neighbourhood, store::Store};

/// Without a byte for this long, a connection is given up. Longer than the pauses that TCP makes on a link with losses.
const STALL: Duration = Duration::from_secs(15);

/// One version to be had.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// What identifies the version.
    pub manifest_digest: Digest,
    /// Who presigns the URLs of its files.
    pub source: Arc<dyn UrlSource>,
    /// The site's limits as they are now; they apply to all pulls.
    pub limits: Limits,
    /// Against other pulls.
    pub priority: Priority,
    /// How long to go on without a single byte before giving up.
    pub patience: Duration,
    /// Told what happens.
    pub progress: watch::Sender<Progress>,
    /// Stops the pull; what was fetched stays for the next attempt.
    pub cancel: CancellationToken,
}

/// Pulls versions into one store.
#[derive(Clone, Debug)]
pub struct Puller {
    store: Store,
    clients: Clients,
    limiter: Arc<Limiter>,
    stall: Duration,
    neighbourhood: Option<Neighbourhood>,
    /// One pull at a time for each version.
    running: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Puller {
    /// A puller with at most `max_ranges` requests in flight. `extra_ca` is a PEM file of certificate authorities that
    /// S3's certificate may come from, beside the system's.
    ///
    /// # Errors
    /// [`PullError::Client`] names the file and what is wrong with it.
    pub fn new(store: Store, max_ranges: u32, extra_ca: Option<&Path>) -> Result<Self, PullError> {
        let clients = Clients::new(extra_ca)?;
        let limiter = Arc::new(Limiter::new(max_ranges));
        Ok(Self { store, clients, limiter, stall: STALL, neighbourhood: None, running: Arc::default() })
    }

    /// The same puller, which gives a connection up when no byte comes for this long (15 s otherwise).
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// The same, sharing with the other spokes of the site.
    #[must_use]
    pub fn with_neighbourhood(self, neighbourhood: Neighbourhood) -> Self {
        Self { neighbourhood: Some(neighbourhood), ..self }
    }

    /// The other spokes of the site.
    pub const fn neighbourhood(&self) -> Option<&Neighbourhood> {
        self.neighbourhood.as_ref()
    }

    /// The limits that all pulls share; changing them takes effect at once.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The store that is filled.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The manifest that the source has now: the one with this digest, or whichever it is. It is kept, and a pull of its
    /// version does not ask again.
    ///
    /// # Errors
    /// [`PullError`]; [`PullError::Missing`] where the source has none.
    pub async fn manifest(
        &self,
        source: Arc<dyn UrlSource>,
        expected: Option<&Digest>,
        patience: Duration,
        progress: watch::Sender<Progress>,
    ) -> Result<Manifest, PullError> {
        let rank = Rank { priority: Priority::Serve, size: 0 };
        let recovery = self.recovery_for(source, rank, patience, progress);
        let manifest = fetch_manifest(&recovery, expected).await?;
        self.store.expect(&manifest)?;
        Ok(manifest)
    }

    /// Returns when the version is in the store, complete and verified.
    ///
    /// # Errors
    /// [`PullError`], with a reason in one word; the next call goes on where this one stopped.
    pub async fn pull(&self, request: PullRequest) -> Result<Progress, PullError> {
        let digest = request.manifest_digest;
        let cancel = request.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(PullError::Cancelled),
            done = self.pull_alone(digest, request) => done,
        }
    }

    async fn pull_alone(&self, digest: Digest, request: PullRequest) -> Result<Progress, PullError> {
        let turn = self.turn(digest);
        let _alone = turn.lock().await;
        let recovery = self.recovery(request);
        if self.store.has(&digest) {
            recovery.meter.already_held(&self.store.manifest(&digest)?);
            return Ok(recovery.meter.now());
        }
        run(self.store.clone(), recovery, digest, self.neighbourhood.as_ref()).await
    }

    /// Whoever works on a version locks this while it does.
    pub(crate) fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(running.entry(digest).or_default())
    }

    /// The means for a request; the site's limits as it brings them count from now on.
    pub(super) fn recovery(&self, request: PullRequest) -> Recovery {
        self.limiter.set_limits(&request.limits);
        let rank = Rank { priority: request.priority, size: 0 };
        self.recovery_for(request.source, rank, request.patience, request.progress)
    }

    fn recovery_for(
        &self,
        source: Arc<dyn UrlSource>,
        rank: Rank,
        patience: Duration,
        progress: watch::Sender<Progress>,
    ) -> Recovery {
        Recovery {
            clients: self.clients.clone(),
            limiter: Arc::clone(&self.limiter),
            urls: Urls::new(source),
            meter: Meter::new(progress),
            rank,
            patience,
            stall: self.stall,
        }
    }
}
