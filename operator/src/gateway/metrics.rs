//! The gateway's metrics. Labels are from fixed lists, never names.

use std::sync::PoisonError;

use nave_runtime::admin::SharedRegistry;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
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

    pub(super) fn wrote(&self, kind: &'static str, outcome: Outcome) {
        self.writes.get_or_create(&WriteLabels { kind, outcome }).inc();
    }
}
