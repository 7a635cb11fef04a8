//! The wiring of `nave-agent run`, and nothing else: who gets what, in which order they start, and how they end.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use axum::Router;
use nave_runtime::{
    address,
    admin::{self, SharedRegistry},
    drain::Drain,
    readiness::Readiness,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    activate::{Activator, Hook},
    config::Config,
    execute::{Executor, Parts, Spoke},
    facts::{self, Roots},
    identity::IdentityStore,
    import::{Door, Running},
    metrics::Metrics,
    peers::{self, Neighbourhood},
    pull::Puller,
    session,
    store::{Store, StoreError},
};

/// Ranged requests at once, all pulls together, unless the site says otherwise: enough to fill a gigabit link at 100 ms.
const DEFAULT_RANGES: u32 = 16;

/// Where a running agent listens.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Addresses {
    /// The admin port.
    pub http: SocketAddr,
    /// The door for the other spokes of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
}

/// An agent whose parts run.
#[derive(Debug)]
pub struct App {
    /// Where it listens.
    pub addresses: Addresses,
    tasks: JoinSet<anyhow::Result<()>>,
    drain: Drain,
}

impl App {
    /// Starts everything. Whatever is wrong on this machine is an error now; a hub that is away is not.
    ///
    /// # Errors
    /// What could not be opened, bound or read.
    pub async fn start(
        mut config: Config,
        address_file: Option<PathBuf>,
        drain: Drain,
    ) -> anyhow::Result<Self> {
        let peer_listener = listen_for_peers(&mut config).await?;
        let config = Arc::new(config);
        fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("cannot create the state folder {}", config.state_dir.display()))?;
        let listener = TcpListener::bind(config.http_listen)
            .await
            .with_context(|| format!("cannot listen on {} (httpListen)", config.http_listen))?;
        let peer = peer_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let addresses = Addresses { http: listener.local_addr()?, peer };
        if let Some(path) = address_file {
            address::write(&path, &addresses)?;
        }
        let readiness = Readiness::new();
        let inventory_guard = readiness.guard("inventory of store and models");
        let registry = SharedRegistry::default();
        let metrics = Metrics::new(&registry);
        let mut tasks = JoinSet::new();
        let served = admin::serve(listener, readiness.clone(), registry, Router::new(), drain.clone());
        tasks.spawn(async move { served.await.context("the admin port broke") });

        let identities = IdentityStore::open(&config.state_dir)?;
        let (desk, desk_end) = session::desk();
        let parts = open(&config, desk, metrics.clone(), drain.clone()).await?;
        let store = parts.activator.store().clone();
        let puller = Arc::clone(&parts.puller);
        let neighbourhood = puller.neighbourhood().cloned();
        if let (Some(listener), Some(neighbourhood)) = (peer_listener, neighbourhood.clone()) {
            tasks.spawn(peers::serve(listener, neighbourhood, drain.clone()));
        }
        let (executor, spoke, observed) = tokio::task::spawn_blocking(|| Executor::begin(parts)).await??;
        inventory_guard.release();
        if let Some(door) = open_door(&config, &store, &spoke, puller) {
            let drain = drain.clone();
            tasks.spawn(async move {
                door.serve(drain).await;
                Ok(())
            });
        }
        tasks.spawn(async move {
            executor.run().await;
            Ok(())
        });

        let looked = {
            let (config, store) = (Arc::clone(&config), store.clone());
            tokio::task::spawn_blocking(move || facts::look(&config, &store, &Roots::default())).await?
        };
        let (site_sender, site) = watch::channel(Arc::new(looked));
        let looking =
            facts::keep_looking(Arc::clone(&config), store, site_sender, observed.clone(), drain.clone());
        tasks.spawn(async move {
            looking.await;
            Ok(())
        });

        // A spoke that was told before serves without its hub: it does not wait for a session to be ready.
        let was_told = observed.borrow().generation.0 > 0;
        let joined = identities.load()?.is_none().then(|| readiness.guard("joining the hub"));
        let first_session = (!was_told).then(|| readiness.guard("first session with the hub"));
        let context = session::Context {
            config,
            identities,
            spoke,
            observed,
            site,
            desk: desk_end,
            neighbourhood,
            metrics,
            drain: drain.clone(),
        };
        tasks.spawn(async move {
            session::run(context, joined, first_session).await;
            Ok(())
        });
        Ok(Self { addresses, tasks, drain })
    }

    /// Waits for the end: the drain, or the first part that ends by itself.
    ///
    /// # Errors
    /// Why a part ended.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended
                .unwrap_or_else(|error| Err(anyhow::anyhow!(error).context("a part of the agent broke off")));
            if outcome.is_ok() {
                outcome = ended;
            }
            // One part alone is no agent.
            self.drain.start();
        }
        outcome
    }
}

/// Opens the door for the site's peers, if one is configured, and settles where they are told to find it.
async fn listen_for_peers(config: &mut Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(peer) = &mut config.peer else { return Ok(None) };
    let listener = TcpListener::bind(peer.listen)
        .await
        .with_context(|| format!("cannot listen on {} (peer.listen)", peer.listen))?;
    let address = listener.local_addr()?;
    peer.advertise.get_or_insert_with(|| address.to_string());
    Ok(Some(listener))
}

/// The door for `nave-agent import`. Without it an import waits until the agent is stopped; nothing else does.
fn open_door(config: &Config, store: &Store, spoke: &Spoke, puller: Arc<Puller>) -> Option<Door> {
    let custody = Running::new(&config.state_dir, spoke.clone(), puller);
    let door = Door::open(&config.state_dir, config.bundle_trust_file.clone(), store.clone(), custody);
    match door {
        Ok(door) => Some(door),
        Err(error) => {
            tracing::warn!(%error, "cannot take imports while running");
            None
        }
    }
}

async fn open(
    config: &Arc<Config>,
    desk: session::UrlDesk,
    metrics: Metrics,
    drain: Drain,
) -> anyhow::Result<Parts> {
    let (dir, cold) = (config.state_dir.join("store"), config.cold.clone());
    let opening = move || {
        let store = Store::open(dir)?;
        cold.map_or(Ok(()), |cold| store.use_cold(cold))?;
        Ok::<_, StoreError>(store)
    };
    let store = tokio::task::spawn_blocking(opening).await?.context("cannot open the store")?;
    store.set_quota(config.quota.unwrap_or(u64::MAX));
    store.set_watermarks(config.watermarks.high, config.watermarks.low);
    let hook = config.hook.clone().map(Hook::new).transpose()?;
    let ranges = config.max_concurrent_ranges.unwrap_or(DEFAULT_RANGES);
    let mut puller = Puller::new(store.clone(), ranges, config.s3_ca_file.as_deref())?;
    if config.peer.is_some() {
        puller = puller.with_neighbourhood(Neighbourhood::new(store.clone(), metrics.clone()));
    }
    Ok(Parts {
        config: Arc::clone(config),
        activator: Activator::new(store, config.models_dir.clone(), hook),
        puller: Arc::new(puller),
        desk,
        metrics,
        drain,
    })
}
