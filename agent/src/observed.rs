//! What the spoke sees of itself, as one value that is published whenever it changed, and its form on the wire.

use std::collections::BTreeMap;

use nave_agent_plan::{EntryKey, Phase, Row};
use nave_names::{Digest, Generation};
use nave_proto::v1;

/// A part's health. Unknown is never healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nobody looked yet, or there is nothing to look at.
    #[default]
    Unknown,
    /// Fine.
    Healthy,
    /// Fine for what comes next, and somebody should know this.
    Notice(String),
    /// Not fine, and why.
    Unhealthy(String),
}

/// One row with its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// As planned.
    pub row: Row,
    /// Bytes that are there and verified.
    pub bytes_done: u64,
    /// Bytes of the version; 0 = not known.
    pub bytes_total: u64,
}

/// What the executor publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Of the ledger.
    pub generation: Generation,
    /// Of the ledger.
    pub held: Vec<(EntryKey, Digest)>,
    /// One for each (namespace, model, version).
    pub rows: Vec<Reported>,
    /// The store.
    pub storage: Condition,
    /// What is served.
    pub serving: Condition,
}

/// What the site is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Architecture, processors, memory, disk, accelerators, runtimes.
    pub capacity: v1::Capacity,
    /// Configured and found facts.
    pub facts: BTreeMap<String, String>,
    /// Whether the accelerators that are there can be used.
    pub accelerators: Condition,
    /// Where the other spokes of the site reach this one; empty = nowhere.
    pub peer_address: String,
}

impl Observed {
    /// Whether only progress differs: that may wait longer than a change of phase.
    pub fn same_but_progress(&self, other: &Self) -> bool {
        let rows = |observed: &Self| -> Vec<Row> {
            observed.rows.iter().map(|reported| reported.row.clone()).collect()
        };
        self.generation == other.generation
            && self.storage == other.storage
            && self.serving == other.serving
            && rows(self) == rows(other)
    }

    /// The ledger's entries for a hello.
    pub fn write_held(&self) -> Vec<v1::HeldEntry> {
        let write = |(key, digest): &(EntryKey, Digest)| v1::HeldEntry {
            key: Some(crate::session::write_key(key)),
            manifest_digest: digest.to_string(),
        };
        self.held.iter().map(write).collect()
    }
}

/// A complete report.
pub fn write_report(observed: &Observed, site: &Site) -> v1::Report {
    let rows = observed.rows.iter().map(write_row).collect();
    v1::Report {
        capacity: Some(site.capacity.clone()),
        facts: Some(v1::Facts { values: site.facts.clone() }),
        entries: Some(v1::EntryReports { rows, generation: observed.generation.0 }),
        health: Some(write_health(observed, site)),
        peer: Some(v1::PeerEndpoint { address: site.peer_address.clone() }),
    }
}

/// The parts of `next` that `last` did not have; `None` = nothing is new.
pub fn difference(last: &v1::Report, next: &v1::Report) -> Option<v1::Report> {
    let report = v1::Report {
        capacity: next.capacity.clone().filter(|_| next.capacity != last.capacity),
        facts: next.facts.clone().filter(|_| next.facts != last.facts),
        entries: next.entries.clone().filter(|_| next.entries != last.entries),
        health: next.health.clone().filter(|_| next.health != last.health),
        peer: next.peer.clone().filter(|_| next.peer != last.peer),
    };
    (report != v1::Report::default()).then_some(report)
}

fn write_row(reported: &Reported) -> v1::EntryReport {
    let row = &reported.row;
    v1::EntryReport {
        namespace: row.namespace.to_string(),
        model: row.model.to_string(),
        version: row.version.to_string(),
        phase: write_phase(row.phase).into(),
        digest: row.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        reason: row.reason.clone(),
        message: row.message.clone(),
        bytes_done: reported.bytes_done,
        bytes_total: reported.bytes_total,
    }
}

fn write_phase(phase: Phase) -> v1::entry_report::Phase {
    match phase {
        Phase::Pending => v1::entry_report::Phase::Pending,
        Phase::Pulling => v1::entry_report::Phase::Pulling,
        Phase::Verifying => v1::entry_report::Phase::Verifying,
        Phase::Staged => v1::entry_report::Phase::Staged,
        Phase::Activating => v1::entry_report::Phase::Activating,
        Phase::Serving => v1::entry_report::Phase::Serving,
        Phase::Failed => v1::entry_report::Phase::Failed,
        Phase::Rejected => v1::entry_report::Phase::Rejected,
        Phase::Removing => v1::entry_report::Phase::Removing,
    }
}

fn write_health(observed: &Observed, site: &Site) -> v1::Health {
    let write = |condition: &Condition| match condition {
        Condition::Unknown => (v1::health::State::Unspecified.into(), String::new()),
        Condition::Healthy => (v1::health::State::Healthy.into(), String::new()),
        Condition::Notice(message) => (v1::health::State::Healthy.into(), message.clone()),
        Condition::Unhealthy(message) => (v1::health::State::Unhealthy.into(), message.clone()),
    };
    let (storage, storage_message) = write(&observed.storage);
    let (serving, serving_message) = write(&observed.serving);
    let (accelerators, accelerators_message) = write(&site.accelerators);
    v1::Health { storage, storage_message, serving, serving_message, accelerators, accelerators_message }
}
