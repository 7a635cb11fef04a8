//! The gateway's metrics. Labels are from fixed lists, never names.

use std::{sync::PoisonError, time::Duration};

use nave_runtime::admin::SharedRegistry;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::metrics::{Outcome, WriteLabels, Writes};

/// How an attempt to join ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum EnrolmentOutcome {
    /// It has a certificate.
    Admitted,
    /// It may not.
    Refused,
    /// It failed too often before.
    Limited,
    /// The hub could not.
    Failed,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum SessionEnd {
    /// The spoke ended it, or its connection broke.
    Closed,
    /// Three heartbeats were missed.
    Silent,
    /// The same cluster connected again.
    Replaced,
    /// The cluster was revoked or has another key.
    Refused,
    /// The certificate ended.
    Expired,
    /// The spoke does not speak the protocol.
    Protocol,
    /// The hub stops.
    Drained,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnrolmentLabels {
    outcome: EnrolmentOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    reason: SessionEnd,
}

/// Parts of a heartbeat's period: a spoke beats at two thirds of it, and past the third one it counts as gone.
const BEAT_BUCKETS: [f64; 8] = [0.5, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0];

#[derive(Clone, Debug)]
struct Beats(Histogram);

impl Default for Beats {
    fn default() -> Self {
        Self(Histogram::new(BEAT_BUCKETS))
    }
}

/// The gateway's metrics.
#[derive(Clone, Debug, Default)]
pub struct GatewayMetrics {
    enrolments: Family<EnrolmentLabels, Counter>,
    ends: Family<EndLabels, Counter>,
    /// Sessions that are open.
    pub(super) sessions: Gauge,
    /// Desired sets told.
    pub(super) told: Counter,
    /// Presigned URLs handed out.
    pub(super) urls: Counter,
    beats: Beats,
    writes: Writes,
}

impl GatewayMetrics {
    /// Registers everything.
    pub fn register(registry: &SharedRegistry) -> Self {
        let metrics = Self::default();
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("nave_gateway_sessions", "Sessions that are open", metrics.sessions.clone());
        registry.register(
            "nave_gateway_session_ends",
            "Sessions that ended, by reason",
            metrics.ends.clone(),
        );
        registry.register(
            "nave_gateway_enrolments",
            "Attempts to join, by outcome",
            metrics.enrolments.clone(),
        );
        registry.register("nave_gateway_told", "Desired sets sent to spokes", metrics.told.clone());
        registry.register("nave_gateway_urls", "Presigned URLs handed out", metrics.urls.clone());
        registry.register(
            "nave_gateway_heartbeat_gap_periods",
            "Time from one heartbeat of a spoke to its next, in periods; above 1 it came late",
            metrics.beats.0.clone(),
        );
        registry.register(
            "nave_gateway_status_writes",
            "Writes of statuses, by kind and outcome",
            metrics.writes.clone(),
        );
        drop(registry);
        metrics
    }

    pub(super) fn enrolment(&self, outcome: EnrolmentOutcome) {
        self.enrolments.get_or_create(&EnrolmentLabels { outcome }).inc();
    }

    pub(super) fn ended(&self, reason: SessionEnd) {
        self.ends.get_or_create(&EndLabels { reason }).inc();
    }

    /// A heartbeat came so long after the last; the period is the hub's.
    pub(super) fn beat(&self, gap: Duration, period: Duration) {
        self.beats.0.observe(gap.as_secs_f64() / period.as_secs_f64().max(f64::EPSILON));
    }

    pub(super) fn wrote(&self, kind: &'static str, outcome: Outcome) {
        self.writes.get_or_create(&WriteLabels { kind, outcome }).inc();
    }
}
