//! What the gateway knows of one spoke: its last report, merged, and since when each row of it is so. No I/O; the time is
//! an argument.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{Activation, ClusterAssignment, EntryStatus, Phase};
use nave_names::Digest;
use nave_proto::v1::{self, DesiredAck, EntryRefusal, EntryReport, Report, entry_report};

/// Activations that are kept.
const HISTORY: usize = 20;
/// Longest message of a spoke that is stored, bytes: it ends up in etcd.
const MAX_MESSAGE: usize = 1024;
/// Most rows of one spoke: a broken agent must not fill etcd.
const MAX_ROWS: usize = 1_000;

/// A DNS name has at most 253 characters; a colon and five digits follow.
const MAX_ADDRESS: usize = 259;

/// (namespace, model, version).
type RowKey = (String, String, String);

/// Whether there is a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Yes.
    Up,
    /// Not now; within the grace period this changes nothing.
    Down,
    /// Not for the grace period.
    Lost,
}

/// The spoke's answer to the last desired set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) generation: u64,
    pub(super) accepted: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What the gateway knows of one spoke.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) link: Link,
    pub(super) since: Timestamp,
    pub(super) agent_version: String,
    pub(super) not_after: Timestamp,
    pub(super) key: Digest,
    pub(super) capacity: Option<v1::Capacity>,
    pub(super) facts: Option<BTreeMap<String, String>>,
    pub(super) health: Option<v1::Health>,
    /// Where the others of its site reach it; empty = nowhere. None = this session has not said.
    pub(super) peer_address: Option<String>,
    /// Of the ledger that the rows speak of. An answer to a desired set does not move it: the rows come after.
    pub(super) generation: u64,
    pub(super) answer: Option<Answer>,
    /// None = this session has not said yet: what is stored stays.
    reported: Option<BTreeMap<RowKey, EntryStatus>>,
    refused: BTreeMap<RowKey, EntryStatus>,
    pub(super) history: Vec<Activation>,
}

/// What a session begins with.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) agent_version: String,
    pub(super) generation: u64,
    pub(super) not_after: Timestamp,
    pub(super) key: Digest,
}

impl Observed {
    /// A spoke that this gateway did not know, with what is stored of it.
    pub(super) fn new(opening: Opening, stored: Option<&ClusterAssignment>, now: Timestamp) -> Self {
        let history = stored.and_then(|a| a.status.as_ref()).map(|status| status.history.clone());
        Self {
            link: Link::Up,
            since: now,
            agent_version: opening.agent_version,
            not_after: opening.not_after,
            key: opening.key,
            capacity: None,
            facts: None,
            health: None,
            peer_address: None,
            generation: opening.generation,
            answer: None,
            reported: None,
            refused: BTreeMap::new(),
            history: history.unwrap_or_default(),
        }
    }

    /// The spoke came back within the grace period: for everybody else it was never away.
    pub(super) fn reopen(&mut self, opening: Opening) {
        self.link = Link::Up;
        self.agent_version = opening.agent_version;
        self.not_after = opening.not_after;
        self.key = opening.key;
        self.generation = opening.generation;
    }

    /// Takes a report in. Parts that are absent are as they were. A row keeps its `since` as long as its phase and
    /// digest stay, over a restart of the hub too.
    pub(super) fn hear(&mut self, report: Report, stored: Option<&ClusterAssignment>, now: Timestamp) {
        if let Some(capacity) = report.capacity {
            self.capacity = Some(capacity);
        }
        if let Some(facts) = report.facts {
            self.facts = Some(facts.values);
        }
        if let Some(health) = report.health {
            self.health = Some(health);
        }
        if let Some(peer) = report.peer {
            self.peer_address = Some(if is_address(&peer.address) { peer.address } else { String::new() });
        }
        let Some(entries) = report.entries else { return };
        self.generation = entries.generation;
        let before = self.reported.take().unwrap_or_else(|| stored_rows(stored));
        let mut rows = BTreeMap::new();
        for row in entries.rows.into_iter().take(MAX_ROWS) {
            let Some(mut row) = row_of(row, &before, now) else { continue };
            if told_since(&row, stored, entries.generation) {
                row.since = Time(now);
            }
            rows.insert((row.namespace.clone(), row.model.clone(), row.version.clone()), row);
        }
        for row in rows.values() {
            remember(&mut self.history, row);
        }
        self.reported = Some(rows);
    }

    /// Takes the answer to a desired set in.
    pub(super) fn answered(&mut self, ack: DesiredAck, now: Timestamp) {
        self.refused = if ack.accepted { refusals(ack.refused, now) } else { BTreeMap::new() };
        self.answer = Some(Answer {
            generation: ack.generation,
            accepted: ack.accepted,
            reason: ack.reason,
            message: bounded(ack.message),
        });
    }

    /// The rows as they are to be stored, sorted; None = nothing was reported yet.
    pub(super) fn rows(&self) -> Option<Vec<EntryStatus>> {
        let mut rows = self.reported.clone()?;
        rows.extend(self.refused.clone());
        Some(rows.into_values().collect())
    }
}

/// Something that spokes may be told to dial: `host:port`, and no longer than a DNS name can be.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !host.is_empty() && text.len() <= MAX_ADDRESS && host.bytes().all(known) && port.parse::<u16>().is_ok()
}

fn stored_rows(stored: Option<&ClusterAssignment>) -> BTreeMap<RowKey, EntryStatus> {
    let rows = stored.and_then(|assignment| assignment.status.as_ref()).map(|status| status.entries.iter());
    rows.into_iter()
        .flatten()
        .map(|row| ((row.namespace.clone(), row.model.clone(), row.version.clone()), row.clone()))
        .collect()
}

/// A row that says nothing of where it is, is none.
fn row_of(
    report: EntryReport,
    before: &BTreeMap<RowKey, EntryStatus>,
    now: Timestamp,
) -> Option<EntryStatus> {
    let phase = phase(report.phase())?;
    let key = (report.namespace, report.model, report.version);
    let same = before.get(&key).filter(|row| row.phase == phase && row.digest == report.digest);
    let since = same.map_or(Time(now), |row| row.since.clone());
    let (namespace, model, version) = key;
    Some(EntryStatus {
        namespace,
        model,
        version,
        phase,
        digest: report.digest,
        since,
        message: bounded(report.message),
        reason: report.reason,
    })
}

/// The spoke was told this version after the row's `since`, knows it, and holds or serves it all the same: it has nothing to
/// do, and its old row is the answer to the new entry. A failure is not: another attempt is under way.
fn told_since(row: &EntryStatus, stored: Option<&ClusterAssignment>, generation: u64) -> bool {
    let Some(assignment) = stored else { return false };
    let knows = i64::try_from(generation).is_ok_and(|generation| generation >= assignment.spec.generation);
    knows
        && row.phase.is_verified()
        && assignment.spec.entries.iter().any(|entry| {
            (&entry.namespace, &entry.model, &entry.version) == (&row.namespace, &row.model, &row.version)
                && entry.told_at.as_ref().is_some_and(|told| told.0.as_second() > row.since.0.as_second())
        })
}

fn refusals(refused: Vec<EntryRefusal>, now: Timestamp) -> BTreeMap<RowKey, EntryStatus> {
    let rows = refused.into_iter().filter_map(|refusal| {
        let key = refusal.key?;
        let row = EntryStatus {
            namespace: key.namespace.clone(),
            model: key.model.clone(),
            version: key.version.clone(),
            phase: Phase::Rejected,
            digest: String::new(),
            since: Time(now),
            message: bounded(refusal.message),
            reason: refusal.reason,
        };
        Some(((key.namespace, key.model, key.version), row))
    });
    rows.collect()
}

/// Notes an activation, newest first.
fn remember(history: &mut Vec<Activation>, row: &EntryStatus) {
    if row.phase != Phase::Serving {
        return;
    }
    let latest = history.iter().find(|a| a.namespace == row.namespace && a.model == row.model);
    if latest.is_some_and(|a| a.version == row.version && a.digest == row.digest) {
        return;
    }
    let activation = Activation {
        namespace: row.namespace.clone(),
        model: row.model.clone(),
        version: row.version.clone(),
        digest: row.digest.clone(),
        at: row.since.clone(),
    };
    history.insert(0, activation);
    history.truncate(HISTORY);
}

fn phase(phase: entry_report::Phase) -> Option<Phase> {
    match phase {
        entry_report::Phase::Unspecified => None,
        entry_report::Phase::Pending => Some(Phase::Pending),
        entry_report::Phase::Pulling => Some(Phase::Pulling),
        entry_report::Phase::Verifying => Some(Phase::Verifying),
        entry_report::Phase::Staged => Some(Phase::Staged),
        entry_report::Phase::Activating => Some(Phase::Activating),
        entry_report::Phase::Serving => Some(Phase::Serving),
        entry_report::Phase::Failed => Some(Phase::Failed),
        entry_report::Phase::Rejected => Some(Phase::Rejected),
        entry_report::Phase::Removing => Some(Phase::Removing),
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
#[path = "observed_tests.rs"]
mod tests;
