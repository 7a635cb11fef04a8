//! The hub's metrics. Labels are bounded: kinds, outcomes, reasons from fixed lists; never names of objects.

use std::{fmt, sync::PoisonError};

use nave_crds::view::conditions::{self, Status};
use nave_runtime::admin::SharedRegistry;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

use crate::watch::{Kind, World};

/// Writes by kind and outcome.
pub type Writes = Family<WriteLabels, Counter>;

/// Which write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// The object's kind.
    pub kind: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs)]
pub enum Outcome {
    Stored,
    Conflict,
    Gone,
    Failed,
}

/// Why attempts to resolve a version ended as they did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResolveLabels {
    /// `Resolved`, a reason of the resolver's own or a well-known one of S3's, or `Other`.
    pub outcome: &'static str,
}

/// All metrics of a replica but the gateway's.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while this replica plans.
    pub leader: Gauge,
    /// Time of the pure planner.
    pub plan_seconds: Histogram,
    /// From the first change of a round until all its writes are answered.
    pub round_seconds: Histogram,
    /// The planner's writes.
    pub writes: Writes,
    /// Attempts to resolve versions.
    pub resolves: Family<ResolveLabels, Counter>,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &SharedRegistry, world: World) -> Self {
        // 0.25 ms to 8 s: the aims are 10 ms for a change and 1 s for 10,000 clusters from scratch.
        let seconds = || Histogram::new(exponential_buckets(0.00025, 2.0, 16));
        let metrics = Self {
            leader: Gauge::default(),
            plan_seconds: seconds(),
            round_seconds: seconds(),
            writes: Family::default(),
            resolves: Family::default(),
        };
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("nave_leader", "1 while this replica plans", metrics.leader.clone());
        registry.register("nave_planner_plan_seconds", "Time of one plan", metrics.plan_seconds.clone());
        registry.register(
            "nave_planner_round_seconds",
            "From the first change of a round until all its writes are answered",
            metrics.round_seconds.clone(),
        );
        registry.register("nave_planner_writes", "Writes to the API server", metrics.writes.clone());
        registry.register(
            "nave_resolve_attempts",
            "Attempts to resolve a ModelVersion",
            metrics.resolves.clone(),
        );
        registry.register_collector(Box::new(Fleet { world }));
        metrics
    }
}

/// A reason as a label: those that Nave or S3 are known to give; anything that a server makes up is `Other`.
pub fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 24] = [
        "AccessDenied",
        "BadObjectKey",
        "CredentialsMissing",
        "DigestMismatch",
        "DuplicateVersion",
        "EmptyPrefix",
        "InternalError",
        "Interrupted",
        "InvalidAccessKeyId",
        "ManifestChanged",
        "ManifestMalformed",
        "NoSuchBucket",
        "NoSuchKey",
        "NotFound",
        "ObjectChanged",
        "ObjectMissing",
        "S3Error",
        "SecretUnreadable",
        "ServerError",
        "SignatureDoesNotMatch",
        "SlowDown",
        "SourceInvalid",
        "Timeout",
        "Unreachable",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("Other")
}

/// What the stores hold, counted when somebody asks.
struct Fleet {
    world: World,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge =
            encoder.encode_descriptor("nave_objects", "Objects by kind", None, MetricType::Gauge)?;
        for kind in Kind::ALL {
            gauge.encode_family(&[("kind", kind.name())])?.encode_gauge(&count(self.world.count(kind)))?;
        }
        let undecodable = self.world.undecodable();
        let help = "Objects that this release cannot decode";
        let mut gauge =
            encoder.encode_descriptor("nave_undecodable_objects", help, None, MetricType::Gauge)?;
        for kind in Kind::ALL {
            let found = undecodable.keys().filter(|key| key.kind == kind).count();
            gauge.encode_family(&[("kind", kind.name())])?.encode_gauge(&count(found))?;
        }
        let help = "EdgeClusters by the status of their condition Connected";
        let mut gauge = encoder.encode_descriptor("nave_edge_clusters", help, None, MetricType::Gauge)?;
        for (status, clusters) in self.connected() {
            gauge.encode_family(&[("connected", status.as_str())])?.encode_gauge(&count(clusters))?;
        }
        Ok(())
    }
}

impl Fleet {
    fn connected(&self) -> [(Status, usize); 3] {
        let mut counts = [(Status::True, 0), (Status::False, 0), (Status::Unknown, 0)];
        for cluster in self.world.clusters.state() {
            let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice());
            let status = conditions::status(conditions.unwrap_or_default(), conditions::CONNECTED);
            counts.iter_mut().filter(|(of, _)| *of == status).for_each(|(_, count)| *count += 1);
        }
        counts
    }
}

fn count(found: usize) -> i64 {
    i64::try_from(found).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_a_server_makes_up_do_not_become_labels() {
        assert_eq!(known_reason("NoSuchBucket"), "NoSuchBucket");
        assert_eq!(known_reason("Bucket4711IsTired"), "Other");
    }
}
