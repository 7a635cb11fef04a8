//! The only wiring file: which parts a replica has, in which order they start, and how it ends.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use kube::{Api, Client};
use nave_runtime::{
    address, admin,
    drain::Drain,
    readiness::{Guard, Readiness},
};
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use nave_runtime::error_text::chain;

use crate::{
    args::RunArgs,
    gateway::{self, Gateway, GatewayMetrics},
    http,
    leader::{self, Leadership, sweep},
    metrics::Metrics,
    pki::{self, Authority},
    planner,
    precedence::Precedence,
    progress::ProgressTable,
    resolve,
    watch::{Kind, World},
};

/// How long tasks get after the drain began. Kubernetes kills a pod 30 s after SIGTERM by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a replica listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// Spokes.
    pub grpc: SocketAddr,
    /// Health, metrics and the read-only API.
    pub http: SocketAddr,
}

/// A replica that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub bound: Bound,
    drain: Drain,
    tasks: JoinSet<anyhow::Result<()>>,
    /// The watches outlive the parts: what is written last is written against what is stored.
    _watches: DropGuard,
}

impl Running {
    /// Waits until the replica ends: after a drain, or with the error of the part that broke.
    ///
    /// # Errors
    /// A part of the hub ended that should not have.
    pub async fn finished(mut self) -> anyhow::Result<()> {
        let mut failure = None;
        let tasks = &mut self.tasks;
        tokio::select! {
            () = self.drain.started() => {}
            Some(ended) = tasks.join_next() => {
                failure = ended.context("a part of the hub panicked").and_then(|result| result).err();
                self.drain.start();
            }
        }
        let rest = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, rest).await.is_err() {
            tracing::warn!(seconds = DRAIN_TIMEOUT.as_secs(), "some parts did not finish in time");
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Starts a replica.
///
/// # Errors
/// No way to the API server is configured, an address is taken, or the address file cannot be written.
pub async fn start(args: RunArgs, drain: &Drain) -> anyhow::Result<Running> {
    let name = replica_name(args.name.as_deref());
    let identity = format!("{name}_{:08x}", rand::random::<u32>());
    tracing::info!(version = nave_runtime::build::VERSION, name, namespace = args.namespace, "hub starts");
    let client = connect().await?;
    let readiness = Readiness::new();
    let registry = admin::SharedRegistry::default();
    let mut tasks = JoinSet::new();

    let stop = drain.token();
    let watching = CancellationToken::new();
    let world = World::start(client.clone(), &watching);
    let watches = watching.drop_guard();
    for kind in Kind::ALL {
        let guard = readiness.guard(format!("list of {}", kind.name()));
        tasks.spawn(release_when_synced(world.clone(), kind, guard, stop.clone()));
    }

    let http_listener = TcpListener::bind(args.http_listen)
        .await
        .with_context(|| format!("cannot listen for HTTP on {}", args.http_listen))?;
    let grpc_listener = TcpListener::bind(args.grpc_listen)
        .await
        .with_context(|| format!("cannot listen for spokes on {}", args.grpc_listen))?;
    let bound = Bound { grpc: grpc_listener.local_addr()?, http: http_listener.local_addr()? };

    let keeper = leader::gateway::keep(
        client.clone(),
        args.namespace.clone(),
        name.clone(),
        identity.clone(),
        args.lease_duration,
        stop.clone(),
    );
    tasks.spawn(async {
        keeper.await;
        Ok(())
    });
    let (leadership, election) =
        leader::start(&client, &args.namespace, &identity, args.lease_duration, stop.clone());
    tasks.spawn(async { Ok(election.await?) });
    let metrics = Metrics::register(&registry, world.clone());
    let precedence = Precedence::default();
    let leader = Leader {
        world: world.clone(),
        leadership,
        identity,
        args: args.clone(),
        precedence: precedence.clone(),
        metrics,
    };
    tasks.spawn(leader.run(stop.clone()));

    let progress = ProgressTable::default();
    let spokes = Spokes {
        world: world.clone(),
        name: name.clone(),
        args: args.clone(),
        progress: progress.clone(),
        precedence,
        metrics: GatewayMetrics::register(&registry),
    };
    let guard = readiness.guard("certificate authority");
    tasks.spawn(spokes.run(grpc_listener, guard, stop.clone()));

    let api = http::router(&name, world.clone(), progress);
    let admin = admin::serve(http_listener, readiness, registry, api, drain.clone());
    tasks.spawn(async { admin.await.context("the HTTP server broke") });

    if let Some(path) = &args.address_file {
        address::write(path, &bound)?;
    }
    tracing::info!(grpc = %bound.grpc, http = %bound.http, "hub listens");
    Ok(Running { bound, drain: drain.clone(), tasks, _watches: watches })
}

/// What every replica runs for spokes.
struct Spokes {
    world: World,
    name: String,
    args: RunArgs,
    progress: ProgressTable,
    precedence: Precedence,
    metrics: GatewayMetrics,
}

impl Spokes {
    /// Connections wait in the listener's queue until the stores are complete: a spoke must not be told that it is
    /// unknown by a hub that has not looked yet.
    async fn run(self, listener: TcpListener, guard: Guard, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { world, name, args, progress, precedence, metrics } = self;
        let begin = async {
            world.all_synced().await?;
            anyhow::Ok(authority(&world.client, &args).await)
        };
        let Some(authority) = stop.run_until_cancelled(begin).await else { return Ok(()) };
        let authority = authority?;
        guard.release();
        tracing::info!(ca_hash = %authority.hash(), "certificate authority ready");
        let config = gateway::Config {
            gateway: name,
            server_names: args.server_names(),
            namespace: args.namespace,
            heartbeat: args.heartbeat,
            grace_period: args.grace_period,
            certificate_life: args.certificate_ttl,
            url_life: args.url_ttl,
        };
        let gateway = Gateway { config, world, authority, progress, precedence, metrics };
        gateway::serve(gateway, listener, stop).await.context("the gateway broke")
    }
}

/// The CA, however long the API server takes to give it out.
async fn authority(client: &Client, args: &RunArgs) -> Authority {
    let mut wait = Duration::from_millis(500);
    loop {
        match pki::load_or_create(client.clone(), &args.namespace, &args.ca_secret).await {
            Ok(authority) => return authority,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "no certificate authority yet; trying again");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(15));
    }
}

/// What only the leader runs.
struct Leader {
    world: World,
    leadership: Leadership,
    identity: String,
    args: RunArgs,
    precedence: Precedence,
    metrics: Metrics,
}

impl Leader {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        while stop.run_until_cancelled(self.leadership.acquired()).await == Some(true) {
            self.metrics.leader.set(1);
            let term = stop.child_token();
            let mut parts = self.start_term(&term);
            tokio::select! {
                () = self.leadership.lost() => {}
                () = stop.cancelled() => {}
            }
            term.cancel();
            while let Some(ended) = parts.join_next().await {
                ended.context("a part of the leader panicked")?;
            }
            self.metrics.leader.set(0);
        }
        stop.cancelled().await;
        Ok(())
    }

    fn start_term(&self, term: &CancellationToken) -> JoinSet<()> {
        let Self { world, leadership, identity, args, precedence, metrics } = self;
        let (world, leadership) = (|| world.clone(), || leadership.clone());
        let leases = Api::namespaced(world().client, &args.namespace);
        let mut parts = JoinSet::new();
        parts.spawn(sweep::run(world(), leases, leadership(), args.grace_period, term.clone()));
        let recheck = args.source_recheck;
        parts.spawn(resolve::run(world(), leadership(), recheck, metrics.clone(), term.clone()));
        let planner = planner::Term {
            world: world(),
            leadership: leadership(),
            instance: identity.clone(),
            lease_duration: args.lease_duration,
            precedence: precedence.clone(),
            metrics: metrics.clone(),
        };
        parts.spawn(planner.run(term.clone()));
        parts
    }
}

async fn release_when_synced(
    world: World,
    kind: Kind,
    guard: Guard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(Ok(())) = stop.run_until_cancelled(world.synced(kind)).await {
        guard.release();
    }
    stop.cancelled().await;
    Ok(())
}

async fn connect() -> anyhow::Result<Client> {
    let config = kube::Config::infer().await.context(
        "no way to an API server: neither a pod's ServiceAccount nor a kubeconfig (KUBECONFIG) was found",
    )?;
    tracing::info!(server = %config.cluster_url, "API server");
    Client::try_from(config).context("the configuration of the API server cannot be used")
}

fn replica_name(given: Option<&str>) -> String {
    match given {
        Some(name) => name.to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase(),
    }
}
