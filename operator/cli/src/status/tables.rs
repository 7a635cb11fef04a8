//! The fleet for people: three tables.

use std::io::Write;

use indicatif::BinaryBytes;
use jiff::Timestamp;
use nave_crds::{Capacity, view::short_digest};

use super::fleet::{ClusterRow, EntryRow, Fleet, PolicyRow};
use crate::{text_table::TextTable, time::age};

/// Rules that a policy's cell names at most; `rollout status` names them all.
const MOST_RULES: usize = 3;

impl Fleet {
    pub(super) fn write(&self, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
        write_clusters(&self.clusters, now, out)?;
        writeln!(out)?;
        write_policies(&self.policies, out)?;
        writeln!(out)?;
        write_entries(&self.entries, now, out)
    }
}

fn write_clusters(rows: &[ClusterRow], now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = TextTable::new([
        "CLUSTER",
        "ACCEPTED",
        "CONNECTED",
        "SINCE",
        "READY",
        "SERVING",
        "FAILED",
        "AGENT",
        "CAPACITY",
    ]);
    for row in rows {
        let accepted = if row.revoked {
            "revoked"
        } else if row.accepted {
            "yes"
        } else {
            "no"
        };
        let models = row.models.unwrap_or_default();
        table.row([
            row.name.clone(),
            accepted.to_owned(),
            row.connected.to_owned(),
            row.since.map(|since| age(since, now)).unwrap_or_default(),
            row.ready.to_owned(),
            format!("{}/{}", models.serving, models.desired),
            models.failed.to_string(),
            row.agent_version.clone().unwrap_or_default(),
            row.capacity.as_ref().map(capacity).unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        return writeln!(out, "No clusters. Let one join: kubectl nave token create");
    }
    table.write(out, "")
}

/// `amd64, 4 cpu, 7.6 GiB, 50 GiB free, 1 nvidia`.
fn capacity(capacity: &Capacity) -> String {
    let bytes = |bytes: i64| BinaryBytes(bytes.try_into().unwrap_or(0)).to_string();
    let available = capacity.storage.as_ref().and_then(|storage| storage.available_bytes);
    let usable = capacity.accelerators.iter().filter(|accelerator| accelerator.usable).count();
    let parts = [
        capacity.architecture.clone(),
        capacity.cpu.map(|cpu| format!("{cpu} cpu")),
        capacity.memory_bytes.map(bytes),
        available.map(|available| format!("{} free", bytes(available))),
        (!capacity.accelerators.is_empty())
            .then(|| format!("{usable}/{} accelerators", capacity.accelerators.len())),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn write_policies(rows: &[PolicyRow], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = TextTable::new([
        "NAMESPACE",
        "POLICY",
        "MODEL",
        "VERSION",
        "STEP",
        "SELECTED",
        "SERVING",
        "FAILED",
        "DEFERRED",
        "AVAILABLE",
        "WAITS FOR",
    ]);
    for row in rows {
        let counts = row.clusters.unwrap_or_default();
        let step = row.step.as_ref().map(|step| format!("{}/{} {:?}", step.index, step.of, step.state));
        table.row([
            row.namespace.clone(),
            row.name.clone(),
            row.model.clone(),
            row.version.clone(),
            step.unwrap_or_default(),
            counts.selected.to_string(),
            counts.serving.to_string(),
            counts.failed.to_string(),
            counts.deferred.to_string(),
            row.available.to_owned(),
            rules(row),
        ]);
    }
    if table.is_empty() {
        return writeln!(out, "No policies.");
    }
    table.write(out, "")
}

/// `Pulling 42%`.
fn phase(row: &EntryRow) -> String {
    let phase = row.phase.map(|phase| phase.to_string()).unwrap_or_default();
    match row.progress.filter(|progress| progress.bytes_total > 0) {
        Some(progress) => {
            format!("{phase} {}%", u128::from(progress.bytes_done) * 100 / u128::from(progress.bytes_total))
        }
        None => phase,
    }
}

fn rules(row: &PolicyRow) -> String {
    let mut named: Vec<String> =
        row.waiting_on.iter().take(MOST_RULES).map(|waiting| format!("{:?}", waiting.rule)).collect();
    if row.waiting_on.len() > MOST_RULES {
        named.push("...".to_owned());
    }
    named.join(", ")
}

fn write_entries(rows: &[EntryRow], now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = TextTable::new([
        "CLUSTER", "POLICY", "MODEL", "VERSION", "ASKED", "PHASE", "DIGEST", "SINCE", "MESSAGE",
    ]);
    for row in rows {
        let policy = row.policy.as_ref().map(|policy| format!("{}/{policy}", row.namespace));
        let message = [row.reason.as_str(), row.message.as_str()].into_iter().filter(|text| !text.is_empty());
        table.row([
            row.cluster.clone(),
            policy.unwrap_or_default(),
            row.model.clone(),
            row.version.clone(),
            row.action.map(|action| action.to_string()).unwrap_or_default(),
            phase(row),
            short_digest(&row.digest).to_owned(),
            row.since.map(|since| age(since, now)).unwrap_or_default(),
            message.collect::<Vec<_>>().join(": "),
        ]);
    }
    if table.is_empty() {
        return writeln!(out, "Nothing is assigned.");
    }
    table.write(out, "")
}
