//! What becomes of sessions whose gateway died: the leader gives those spokes the grace period to reconnect to another
//! replica, and marks the EdgeClusters that did not. A live gateway looks after its own sessions.
//!
//! [`Suspects`] decides, from the objects and the time; [`run`] looks at the stores at intervals (memory only, no
//! request) and writes what was decided.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use nave_crds::{
    EdgeCluster,
    view::conditions::{self, Status, Update},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use super::{Leadership, gateway, lease};
use crate::{
    json_patch::{self, Operation, Part, Target, Written},
    watch::World,
};

/// Who writes the status of a cluster whose gateway is gone: as the gateway, in its place.
const FIELD_MANAGER: &str = "nave-gateway";
/// A Lease without renewals is removed after this many of its durations, so that names of former pods do not pile up;
/// its gateway's sessions were given up long before.
const FORGOTTEN_AFTER: u32 = 20;

/// Sweeps while this replica leads; ends with `stop`.
pub async fn run(
    world: World,
    leases: Api<Lease>,
    leadership: Leadership,
    grace_period: Duration,
    stop: CancellationToken,
) {
    let (store, writer) = reflector::store::<Lease>();
    let only_gateways =
        watcher::Config::default().labels(&format!("{}={}", lease::ROLE_LABEL, gateway::ROLE));
    let reflected =
        reflector::reflector(writer, watcher::watcher(leases.clone(), only_gateways).default_backoff());
    let reflected = futures::StreamExt::for_each(reflected, |event| {
        if let Err(error) = event {
            tracing::debug!(%error, "watch of the gateways' Leases interrupted");
        }
        std::future::ready(())
    });
    let sweep = async {
        if store.wait_until_ready().await.is_err() || world.all_synced().await.is_err() {
            return;
        }
        let mut suspects = Suspects::new(grace_period);
        // Often enough that the grace period is kept within a tenth, and 10,000 clusters cost a millisecond each time.
        let every = (grace_period / 10).clamp(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            tokio::time::sleep(every).await;
            let now = Instant::now();
            let lost = suspects.look(&store.state(), &world.clusters.state(), now);
            for cluster in lost.clusters {
                give_up(&world, &leadership, &cluster).await;
            }
            for lease in lost.leases {
                forget(&leases, &leadership, &lease).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = reflected => {}
        () = sweep => {}
    }
}

/// What is to be cleaned up now.
#[derive(Debug, Default)]
pub struct Lost {
    /// Clusters whose session's gateway is gone for the grace period.
    pub clusters: Vec<std::sync::Arc<EdgeCluster>>,
    /// Leases that nobody renews any more.
    pub leases: Vec<std::sync::Arc<Lease>>,
}

/// Which gateways are not renewing, and which clusters' sessions hang on them, since when by our own clock.
#[derive(Debug)]
pub struct Suspects {
    grace_period: Duration,
    renewed: HashMap<String, (Option<String>, Instant)>,
    clusters: BTreeMap<String, Instant>,
}

impl Suspects {
    /// With nobody suspected.
    pub fn new(grace_period: Duration) -> Self {
        Self { grace_period, renewed: HashMap::new(), clusters: BTreeMap::new() }
    }

    /// Looks at all Leases and clusters; returns what was suspected for long enough.
    pub fn look(
        &mut self,
        leases: &[std::sync::Arc<Lease>],
        clusters: &[std::sync::Arc<EdgeCluster>],
        now: Instant,
    ) -> Lost {
        let alive = self.alive(leases, now);
        let mut lost = Lost::default();
        let before = std::mem::take(&mut self.clusters);
        for cluster in clusters.iter().filter(|cluster| hangs(cluster, &alive)) {
            let name = cluster.name_any();
            let since = before.get(&name).copied().unwrap_or(now);
            if now.duration_since(since) >= self.grace_period {
                lost.clusters.push(cluster.clone());
            }
            self.clusters.insert(name, since);
        }
        for lease in leases {
            let since = self.renewed.get(&lease.name_any()).map_or(now, |(_, since)| *since);
            let duration = lease::holder_duration(lease).unwrap_or(self.grace_period);
            if now.duration_since(since) >= duration * FORGOTTEN_AFTER {
                lost.leases.push(lease.clone());
            }
        }
        lost
    }

    /// The gateways that renew, each with the time since when it is this very process.
    fn alive(
        &mut self,
        leases: &[std::sync::Arc<Lease>],
        now: Instant,
    ) -> BTreeMap<String, Option<jiff::Timestamp>> {
        self.renewed.retain(|name, _| leases.iter().any(|l| l.metadata.name.as_deref() == Some(name)));
        let mut alive = BTreeMap::new();
        for lease in leases {
            let Some(gateway) = gateway::gateway_of(lease) else { continue };
            let version = lease.metadata.resource_version.clone();
            let seen = self.renewed.entry(lease.name_any()).or_insert_with(|| (version.clone(), now));
            if seen.0 != version {
                *seen = (version, now);
            }
            let duration = lease::holder_duration(lease).unwrap_or(self.grace_period);
            if now.duration_since(seen.1) < duration {
                let acquired = lease.spec.as_ref().and_then(|s| s.acquire_time.as_ref()).map(|t| t.0);
                alive.insert(gateway.to_owned(), acquired);
            }
        }
        alive
    }
}

/// The cluster's status names a session that no live gateway can hold.
fn hangs(cluster: &EdgeCluster, alive: &BTreeMap<String, Option<jiff::Timestamp>>) -> bool {
    let Some(status) = &cluster.status else { return false };
    let Some(session) = &status.session else {
        return conditions::is_true(&status.conditions, conditions::CONNECTED);
    };
    match alive.get(&session.gateway) {
        None => true,
        // Session times have whole seconds in the API; a session of the process's first second is not older than it.
        Some(Some(started)) => session.since.0.as_second() < started.as_second(),
        Some(None) => false,
    }
}

/// The status of a cluster that nobody hears any more: not connected, and all that was reported is unknown.
fn without_session(cluster: &EdgeCluster, now: jiff::Timestamp) -> EdgeCluster {
    let mut cluster = cluster.clone();
    let observed_generation = cluster.metadata.generation;
    let status = cluster.status.get_or_insert_default();
    let gateway = status.session.take().map_or_else(|| "unknown".to_owned(), |session| session.gateway);
    let message =
        format!("gateway {gateway} is gone and the spoke did not reconnect within the grace period");
    let disconnected = Update {
        type_: conditions::CONNECTED,
        status: Status::False,
        reason: "GatewayLost",
        message,
        observed_generation,
    };
    conditions::set(&mut status.conditions, disconnected, now);
    let reported = [
        conditions::ACCELERATORS_HEALTHY,
        conditions::STORAGE_HEALTHY,
        conditions::SERVING_HEALTHY,
        conditions::READY,
    ];
    for type_ in reported {
        if conditions::find(&status.conditions, type_).is_some() {
            let message = "the spoke is not connected".to_owned();
            let unknown = Update {
                type_,
                status: Status::Unknown,
                reason: "NotConnected",
                message,
                observed_generation,
            };
            conditions::set(&mut status.conditions, unknown, now);
        }
    }
    cluster
}

async fn give_up(world: &World, leadership: &Leadership, cluster: &EdgeCluster) {
    if !leadership.held() {
        return;
    }
    let name = cluster.name_any();
    let marked = without_session(cluster, jiff::Timestamp::now());
    // The resourceVersion is the one that was looked at: a spoke that reconnects in this moment wins.
    let operations = [
        Operation::Test {
            path: "/metadata/resourceVersion",
            value: json!(cluster.metadata.resource_version),
        },
        Operation::Add { path: "/status", value: json!(marked.status) },
    ];
    let target = Target { namespace: None, name: &name, part: Part::Status, field_manager: FIELD_MANAGER };
    match json_patch::send::<EdgeCluster>(&world.client, target, &operations).await {
        Written::Stored(_) => {
            tracing::warn!(cluster = name, "spoke did not reconnect after its gateway went away")
        }
        Written::Conflict(_) | Written::Gone | Written::NotSent => {}
        Written::Failed(error) => {
            tracing::warn!(cluster = name, error = %chain(&error), "cannot mark the cluster as disconnected");
        }
    }
}

async fn forget(leases: &Api<Lease>, leadership: &Leadership, lease: &Lease) {
    if !leadership.held() {
        return;
    }
    let name = lease.name_any();
    let unchanged = Preconditions {
        resource_version: lease.metadata.resource_version.clone(),
        uid: lease.metadata.uid.clone(),
    };
    match leases.delete(&name, &DeleteParams::default().preconditions(unchanged)).await {
        Ok(_) => tracing::info!(lease = name, "removed the Lease of a gateway that is gone"),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            tracing::warn!(lease = name, error = %chain(&error), "cannot remove a dead gateway's Lease")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{
        api::coordination::v1::LeaseSpec,
        apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
    };
    use nave_crds::{EdgeClusterSpec, EdgeClusterStatus, SessionStatus};

    use super::*;
    use crate::watch::testing::{self, Asked, refusal};

    const GRACE: Duration = Duration::from_secs(40);

    fn lease(version: &str, acquired: i64) -> Arc<Lease> {
        let mut lease = Lease::default();
        lease.metadata.name = Some("nave-gateway-hub-0".into());
        lease.metadata.resource_version = Some(version.into());
        lease.spec = Some(LeaseSpec {
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(jiff::Timestamp::from_second(acquired).unwrap())),
            ..LeaseSpec::default()
        });
        Arc::new(lease)
    }

    fn connected(since: i64) -> Arc<EdgeCluster> {
        let mut cluster = EdgeCluster::new("bridge-a12", EdgeClusterSpec::default());
        let session = SessionStatus {
            gateway: "hub-0".into(),
            since: Time(jiff::Timestamp::from_second(since).unwrap()),
        };
        cluster.status = Some(EdgeClusterStatus { session: Some(session), ..EdgeClusterStatus::default() });
        Arc::new(cluster)
    }

    #[test]
    fn a_dead_gateways_spokes_get_the_grace_period_after_its_lease_ran_out() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut suspects = Suspects::new(GRACE);
        let look = |suspects: &mut Suspects, version: &str, seconds| {
            suspects.look(&[lease(version, 100)], &[connected(200)], at(seconds)).clusters.len()
        };
        assert_eq!(look(&mut suspects, "1", 0), 0);
        assert_eq!(look(&mut suspects, "2", 10), 0, "renewed");
        assert_eq!(look(&mut suspects, "2", 25), 0, "15 s without renewal: suspected from here on");
        assert_eq!(look(&mut suspects, "2", 64), 0);
        assert_eq!(look(&mut suspects, "2", 65), 1);
        assert_eq!(look(&mut suspects, "3", 66), 0, "it was alive after all");
        assert_eq!(look(&mut suspects, "3", 82), 0, "and the count starts anew");
    }

    #[test]
    fn a_session_older_than_its_gateways_process_is_lost() {
        let start = Instant::now();
        let mut suspects = Suspects::new(GRACE);
        let leases = |version: u32| [lease(&version.to_string(), 300)];
        for (seconds, lost) in [(0, 0), (14, 0), (28, 0), (39, 0), (40, 1)] {
            let now = start + Duration::from_secs(seconds);
            let version = u32::try_from(seconds).unwrap() + 1;
            assert_eq!(
                suspects.look(&leases(version), &[connected(200)], now).clusters.len(),
                lost,
                "{seconds}"
            );
        }
        let now = start + Duration::from_secs(41);
        assert!(suspects.look(&leases(42), &[connected(301)], now).clusters.is_empty(), "reconnected");
    }

    #[test]
    fn a_cluster_that_nobody_hears_is_not_connected_and_otherwise_unknown() {
        let mut cluster = EdgeCluster::clone(&connected(200));
        let now = jiff::Timestamp::from_second(500).unwrap();
        let ready = Update {
            type_: conditions::READY,
            status: Status::True,
            reason: "AllHealthy",
            message: String::new(),
            observed_generation: None,
        };
        conditions::set(&mut cluster.status.get_or_insert_default().conditions, ready, now);
        let status = without_session(&cluster, now).status.unwrap();
        assert_eq!(conditions::status(&status.conditions, conditions::CONNECTED), Status::False);
        assert_eq!(conditions::status(&status.conditions, conditions::READY), Status::Unknown);
        assert!(
            conditions::find(&status.conditions, conditions::STORAGE_HEALTHY).is_none(),
            "never reported"
        );
        assert_eq!(status.session, None);
    }

    #[tokio::test]
    async fn a_spoke_that_reconnects_in_the_last_moment_wins() {
        let (mut world, mut stores) = testing::world();
        let asked = Asked::default();
        world.client = testing::server(&asked, |_, _| refusal(422));
        let mut looked_at = EdgeCluster::clone(&connected(200));
        looked_at.metadata.resource_version = Some("5".into());
        let mut since = looked_at.clone();
        since.metadata.resource_version = Some("6".into());
        stores.clusters.apply_watcher_event(&watcher::Event::Apply(since));
        give_up(&world, &Leadership::held_for(Duration::ZERO), &looked_at).await;
        assert!(asked.lock().unwrap().is_empty(), "only the leader writes");
        give_up(&world, &Leadership::held_for(GRACE), &looked_at).await;
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].0, "PATCH /apis/nave.dev/v1alpha1/edgeclusters/bridge-a12/status");
        assert_eq!(asked[0].1[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "5"}));
    }
}
