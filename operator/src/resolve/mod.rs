//! The ModelVersion controller: gives each version its identity. It runs on the leader, looks at a version when it is
//! new or its spec or annotations change, at intervals later, and with backoff while something is wrong.
//!
//! This file schedules; `manifest` reads or computes, `signature` verifies, `source` opens S3, `status` and
//! `claims` decide.

pub mod claims;
pub mod error;
pub mod manifest;
pub mod signature;
pub mod source;
pub mod status;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use nave_crds::{ModelVersion, ModelVersionStatus};
use object_store::path::Path;
use tokio::{
    sync::{Semaphore, broadcast},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use nave_runtime::error_text::chain;

use self::{
    claims::ObjectName,
    error::ResolveError,
    manifest::{Memory, Prefix},
    source::SourceError,
    status::{Outcome, Signed, status_after},
};
use crate::{
    leader::Leadership,
    metrics::{self, Metrics, ResolveLabels},
    watch::{Change, Kind, World},
};

/// Who writes a ModelVersion's conditions and digest.
const FIELD_MANAGER: &str = "nave-resolver";
/// Versions worked on at once. Each hashes two objects at most, so this bounds the processor time that is taken away
/// from the sessions.
const AT_ONCE: usize = 4;
/// First and longest wait after an attempt that failed. The longest is what a user waits after mending a bucket.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Resolves versions while this replica leads; ends with `stop`.
pub async fn run(
    world: World,
    leadership: Leadership,
    recheck: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut changes = world.changes.subscribe();
    if stop.run_until_cancelled(world.synced(Kind::Version)).await.is_none_or(|synced| synced.is_err()) {
        return;
    }
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut resolver = Resolver {
        world,
        leadership,
        recheck,
        metrics,
        slots,
        versions: BTreeMap::new(),
        attempts: JoinSet::new(),
    };
    resolver.refresh(Instant::now());
    loop {
        let now = Instant::now();
        resolver.start_due(now);
        let next = resolver.next_due().unwrap_or(now + recheck);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
            Some(attempt) = resolver.attempts.join_next() => match attempt {
                Ok(attempt) => resolver.finish(attempt).await,
                Err(error) => tracing::error!(%error, "an attempt to resolve a version panicked"),
            },
            change = changes.recv() => match change {
                Ok(Change::Object(key) | Change::Deleted(key, _)) if key.kind != Kind::Version => {}
                Ok(Change::Relisted(kind)) if kind != Kind::Version => {}
                Ok(Change::Object(_) | Change::Deleted(..) | Change::Relisted(_))
                | Err(broadcast::error::RecvError::Lagged(_)) => {
                    resolver.refresh(Instant::now());
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// What makes a version worth another look before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trigger {
    uid: Option<String>,
    generation: Option<i64>,
    annotations: BTreeMap<String, String>,
    refused_for: Option<String>,
}

#[derive(Debug)]
struct Tracked {
    trigger: Trigger,
    /// Nothing while an attempt runs.
    due: Option<Instant>,
    failures: u32,
    memory: Memory,
    written: Option<ModelVersionStatus>,
}

struct Attempt {
    name: ObjectName,
    trigger: Trigger,
    outcome: Outcome,
    memory: Memory,
}

struct Resolver {
    world: World,
    leadership: Leadership,
    recheck: Duration,
    metrics: Metrics,
    slots: Arc<Semaphore>,
    versions: BTreeMap<ObjectName, Tracked>,
    attempts: JoinSet<Attempt>,
}

impl Resolver {
    /// Takes in what the store has: new versions, changed ones, and those that are gone.
    fn refresh(&mut self, now: Instant) {
        let versions = self.world.versions.state();
        let refused = claims::refused(&versions);
        let mut before = std::mem::take(&mut self.versions);
        for version in versions {
            let name = (version.namespace().unwrap_or_default(), version.name_any());
            let trigger = Trigger {
                uid: version.uid(),
                generation: version.metadata.generation,
                annotations: version.annotations().clone(),
                refused_for: refused.get(&name).cloned(),
            };
            let tracked = match before.remove(&name) {
                Some(mut tracked) if tracked.trigger.uid == trigger.uid => {
                    if tracked.trigger != trigger {
                        tracked.trigger = trigger;
                        tracked.failures = 0;
                        tracked.due = tracked.due.map(|_| now);
                    }
                    tracked
                }
                Some(_) | None => Tracked {
                    due: Some(now + self.first_look(&version, &trigger)),
                    trigger,
                    failures: 0,
                    memory: Memory::default(),
                    written: None,
                },
            };
            self.versions.insert(name, tracked);
        }
    }

    /// A new leader looks at once at what is not Ready, and at the rest in the course of a period.
    fn first_look(&self, version: &ModelVersion, trigger: &Trigger) -> Duration {
        let is_ready = version.status.as_ref().is_some_and(|status| {
            status.observed_generation == trigger.generation
                && nave_crds::view::conditions::is_true(
                    &status.conditions,
                    nave_crds::view::conditions::READY,
                )
        });
        if is_ready && trigger.refused_for.is_none() {
            self.recheck.mul_f64(rand::random::<f64>())
        } else {
            Duration::ZERO
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.versions.values().filter_map(|tracked| tracked.due).min()
    }

    fn start_due(&mut self, now: Instant) {
        for (name, tracked) in &mut self.versions {
            if tracked.due.is_none_or(|due| due > now) {
                continue;
            }
            let Some(version) = self.world.version(&name.0, &name.1) else { continue };
            tracked.due = None;
            let (world, slots) = (self.world.clone(), Arc::clone(&self.slots));
            let mut memory = std::mem::take(&mut tracked.memory);
            let (name, trigger) = (name.clone(), tracked.trigger.clone());
            self.attempts.spawn(async move {
                let outcome = match trigger.refused_for.clone() {
                    Some(winner) => Err(duplicate(&version, winner)),
                    None => {
                        let _slot = slots.acquire().await;
                        attempt(&world, &version, &mut memory).await
                    }
                };
                Attempt { name, trigger, outcome, memory }
            });
        }
    }

    async fn finish(&mut self, attempt: Attempt) {
        let Attempt { name, trigger, outcome, memory } = attempt;
        let Some(tracked) = self.versions.get_mut(&name) else { return };
        tracked.memory = memory;
        let now = Instant::now();
        let outcome_label =
            outcome.as_ref().map_or_else(|error| metrics::known_reason(error.reason()), |_| "Resolved");
        self.metrics.resolves.get_or_create(&ResolveLabels { outcome: outcome_label }).inc();
        if tracked.trigger != trigger {
            tracked.due = Some(now);
            return;
        }
        match &outcome {
            // A key or a signature may come any moment.
            Ok((_, Signed::Unverified { reason, .. })) => {
                tracked.failures = tracked.failures.saturating_add(1);
                tracked.due = Some(now + backoff(tracked.failures));
                tracing::debug!(namespace = name.0, version = name.1, reason, "signature not verified");
            }
            Ok((_, Signed::NotAsked | Signed::Verified(_))) => {
                tracked.failures = 0;
                tracked.due = Some(now + self.recheck);
            }
            Err(error) => {
                tracked.failures = tracked.failures.saturating_add(1);
                tracked.due = Some(now + backoff(tracked.failures));
                tracing::debug!(namespace = name.0, version = name.1, error = %chain(error), "not resolved");
            }
        }
        let Some(version) = self.world.version(&name.0, &name.1) else { return };
        if let Some(status) = self.write(&version, tracked_status(&self.versions, &name), &outcome).await
            && let Some(tracked) = self.versions.get_mut(&name)
        {
            tracked.written = Some(status);
        }
    }

    /// Writes the status where it says something new, and returns it.
    async fn write(
        &self,
        version: &ModelVersion,
        written: Option<ModelVersionStatus>,
        outcome: &Outcome,
    ) -> Option<ModelVersionStatus> {
        let mut seen = version.clone();
        // The store may not show yet what was written here a moment ago.
        if let Some(written) = written {
            let clusters = seen.status.take().and_then(|status| status.clusters);
            seen.status = Some(ModelVersionStatus { clusters, ..written });
        }
        let status = status_after(&seen, outcome, jiff::Timestamp::now());
        if seen.status.as_ref() == Some(&status) || !self.leadership.held() {
            return None;
        }
        let (namespace, name) = (version.namespace().unwrap_or_default(), version.name_any());
        let api: Api<ModelVersion> = Api::namespaced(self.world.client.clone(), &namespace);
        // The counts of clusters are the planner's.
        let ours = ModelVersionStatus { clusters: None, ..status.clone() };
        let patch = Patch::Merge(serde_json::json!({ "status": ours }));
        let options = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&name, &options, &patch).await {
            Ok(_) => {
                log(&namespace, &name, outcome);
                Some(status)
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => None,
            Err(error) => {
                tracing::warn!(namespace, version = name, error = %chain(&error), "cannot write the version's status");
                None
            }
        }
    }
}

fn tracked_status(versions: &BTreeMap<ObjectName, Tracked>, name: &ObjectName) -> Option<ModelVersionStatus> {
    versions.get(name).and_then(|tracked| tracked.written.clone())
}

fn log(namespace: &str, name: &str, outcome: &Outcome) {
    match outcome {
        Ok((resolved, _)) => tracing::info!(
            namespace,
            version = name,
            digest = %resolved.digest,
            files = resolved.files,
            bytes = resolved.size,
            "version resolved"
        ),
        Err(error) => {
            tracing::warn!(namespace, version = name, error = %chain(error), "version not resolved")
        }
    }
}

fn backoff(failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    // A tenth of jitter, so that versions that failed together do not come back together for ever.
    doubled.min(longest).mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

fn duplicate(version: &ModelVersion, winner: String) -> ResolveError {
    let (model, version) = (version.spec.model.clone(), version.spec.version.clone());
    ResolveError::DuplicateVersion { model, version, winner }
}

/// One attempt: opens the source, reads or computes the manifest, compares it to what is pinned, and checks the signature
/// where one is asked for.
async fn attempt(world: &World, version: &ModelVersion, memory: &mut Memory) -> Outcome {
    let namespace = version.namespace().unwrap_or_default();
    let source = &version.spec.source.s3;
    let store = source::open(&world.client, &namespace, source).await?;
    let prefix = Path::parse(source.prefix.trim_matches('/'))
        .map_err(|error| SourceError::Invalid(format!("prefix {:?}: {error}", source.prefix)))?;
    let prefix = Prefix { store: &store, bucket: &source.bucket, prefix };
    let (resolved, manifest) = prefix.resolve(memory).await?;
    let found = resolved.digest;
    if let Some(pinned) = version.spec.manifest_digest.as_ref().filter(|pinned| **pinned != found.to_string())
    {
        return Err(ResolveError::DigestMismatch { pinned: pinned.clone(), found });
    }
    let before = version.status.as_ref().and_then(|status| status.manifest_digest.as_ref());
    if let Some(before) = before.filter(|before| **before != found.to_string()) {
        return Err(ResolveError::ManifestChanged { resolved: before.clone(), found });
    }
    let signed = match &version.spec.signature {
        None => Signed::NotAsked,
        Some(asked) => {
            let reference = &asked.public_key_secret;
            signature::check(&world.client, &namespace, reference, &prefix, &manifest).await?
        }
    };
    Ok((resolved, signed))
}
