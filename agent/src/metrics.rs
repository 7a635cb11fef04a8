//! What `/metrics` shows of a spoke. Labels are words of our own lists, never names of models or errors' texts.

use std::sync::{PoisonError, atomic::AtomicU64};

use nave_runtime::admin::SharedRegistry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

/// All of them. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// 1 while there is a session.
    pub connected: Gauge,
    /// Of the ledger.
    pub generation: Gauge,
    /// Bytes of weights that came from S3.
    pub pulled_bytes: Counter<u64, AtomicU64>,
    /// Bytes of weights that deltas rebuilt.
    pub rebuilt_bytes: Counter<u64, AtomicU64>,
    /// Deltas, or blocks of them, that were refused.
    pub delta_refusals: Counter<u64, AtomicU64>,
    /// Bytes that peers of the site supplied.
    pub peer_read_bytes: Counter<u64, AtomicU64>,
    /// Bytes that were served to peers of the site.
    pub peer_served_bytes: Counter<u64, AtomicU64>,
    peer_troubles: Family<Cause, Counter>,
    sessions_ended: Family<Cause, Counter>,
    steps: Family<StepLabels, Counter>,
    rows: Family<PhaseLabel, Gauge>,
    storage: Family<StateLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl Metrics {
    /// Metrics that are shown by `registry`.
    pub fn new(registry: &SharedRegistry) -> Self {
        let metrics = Self::default();
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(
            "nave_agent_connected",
            "1 while there is a session with the hub",
            metrics.connected.clone(),
        );
        registry.register("nave_agent_generation", "Generation of the ledger", metrics.generation.clone());
        registry.register(
            "nave_agent_pulled_bytes",
            "Bytes of weights fetched from S3",
            metrics.pulled_bytes.clone(),
        );
        registry.register(
            "nave_agent_rebuilt_bytes",
            "Bytes of weights that were rebuilt from an earlier version by a delta",
            metrics.rebuilt_bytes.clone(),
        );
        registry.register(
            "nave_agent_delta_refusals",
            "Deltas and blocks of deltas that were refused; the whole chunks came instead",
            metrics.delta_refusals.clone(),
        );
        registry.register(
            "nave_agent_peer_read_bytes",
            "Bytes of weights that peers of the site supplied",
            metrics.peer_read_bytes.clone(),
        );
        registry.register(
            "nave_agent_peer_served_bytes",
            "Bytes of weights served to peers of the site",
            metrics.peer_served_bytes.clone(),
        );
        registry.register(
            "nave_agent_peer_troubles",
            "Reads from peers that brought nothing, by cause; WrongBytes is a peer that lies or has a bad disk",
            metrics.peer_troubles.clone(),
        );
        registry.register(
            "nave_agent_sessions_ended",
            "Sessions that ended or did not begin, by cause",
            metrics.sessions_ended.clone(),
        );
        registry.register("nave_agent_steps", "Steps taken, by kind and result", metrics.steps.clone());
        registry.register("nave_agent_versions", "Versions by phase", metrics.rows.clone());
        registry.register(
            "nave_agent_storage",
            "1 for the state of the store, 0 for the others; notice is a cold tier that is full or away",
            metrics.storage.clone(),
        );
        drop(registry);
        metrics
    }

    pub(crate) fn session_ended(&self, cause: &'static str) {
        self.sessions_ended.get_or_create(&Cause { cause }).inc();
    }

    pub(crate) fn peer_trouble(&self, cause: &'static str) {
        self.peer_troubles.get_or_create(&Cause { cause }).inc();
    }

    pub(crate) fn step(&self, step: &'static str, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.steps.get_or_create(&StepLabels { step, result }).inc();
    }

    pub(crate) fn storage(&self, states: impl Iterator<Item = (&'static str, bool)>) {
        for (state, is_so) in states {
            self.storage.get_or_create(&StateLabel { state }).set(is_so.into());
        }
    }

    pub(crate) fn versions(&self, phases: impl Iterator<Item = (&'static str, i64)>) {
        for (phase, count) in phases {
            self.rows.get_or_create(&PhaseLabel { phase }).set(count);
        }
    }
}
