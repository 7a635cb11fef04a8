//! What a spoke is told: its assignment in the wire's form, as a snapshot or as the difference to what it was told
//! before. No I/O: the session asks what to send next, and says what came back.

use std::collections::{BTreeMap, BTreeSet};

use nave_crds::{Action, AssignmentEntry, ClusterAssignment, OnRemoval};
use nave_operator_plan::whole_amount;
use nave_proto::v1::{self, Desired, DesiredEntry, EntryKey, HeldEntry, desired_entry};

/// An entry's key as something to sort by: namespace, policy, model, version.
pub(super) type Key = (String, String, String, String);

/// A serving probe may take this long where the policy does not say.
const DEFAULT_PROBE_SECONDS: u32 = 60;
/// The runtime of a policy that names none.
const DEFAULT_RUNTIME: &str = "files";

/// What a cluster shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) generation: u64,
    pub(super) entries: BTreeMap<Key, DesiredEntry>,
}

/// The assignment as the wire has it; `format` says what a version's files are. Wait entries are the hub's own business.
pub(super) fn wanted(assignment: &ClusterAssignment, format: impl Fn(&AssignmentEntry) -> String) -> Wanted {
    let mut entries = BTreeMap::new();
    for entry in &assignment.spec.entries {
        let action = match entry.action {
            Action::Wait => continue,
            Action::Prefetch => desired_entry::Action::Prefetch,
            Action::Serve => desired_entry::Action::Serve,
        };
        let key = key_of(entry);
        entries.insert(sortable(&key), on_the_wire(entry, key, action, format(entry)));
    }
    Wanted { generation: u64::try_from(assignment.spec.generation).unwrap_or_default(), entries }
}

fn key_of(entry: &AssignmentEntry) -> EntryKey {
    EntryKey {
        namespace: entry.namespace.clone(),
        policy: entry.policy.clone(),
        model: entry.model.clone(),
        version: entry.version.clone(),
    }
}

fn sortable(key: &EntryKey) -> Key {
    (key.namespace.clone(), key.policy.clone(), key.model.clone(), key.version.clone())
}

fn on_the_wire(
    entry: &AssignmentEntry,
    key: EntryKey,
    action: desired_entry::Action,
    format: String,
) -> DesiredEntry {
    let probe = entry.serving.probe.as_ref().and_then(|probe| probe.timeout.as_deref());
    DesiredEntry {
        key: Some(key),
        manifest_digest: entry.manifest_digest.clone(),
        action: action.into(),
        serving: Some(v1::Serving {
            runtime: entry.serving.runtime.clone().unwrap_or_else(|| DEFAULT_RUNTIME.into()),
            probe_timeout_seconds: probe.and_then(whole_seconds).unwrap_or(DEFAULT_PROBE_SECONDS),
        }),
        transfer: entry.transfer.as_ref().map(transfer),
        keep_on_removal: entry.on_removal == OnRemoval::Keep,
        signature_public_key: entry.signature_public_key.clone(),
        previous_version: entry.previous_version.clone().unwrap_or_default(),
        format,
    }
}

fn transfer(transfer: &nave_crds::Transfer) -> v1::Transfer {
    let limit = transfer.max_bandwidth.as_ref().and_then(|quantity| whole_amount(&quantity.0));
    let windows = transfer.windows.iter().map(|window| v1::Window {
        days: window.days.clone(),
        start: window.start.clone(),
        end: window.end.clone(),
        time_zone: window.time_zone.clone(),
    });
    v1::Transfer { max_bytes_per_second: limit.unwrap_or_default(), windows: windows.collect() }
}

fn whole_seconds(text: &str) -> Option<u32> {
    let duration: jiff::SignedDuration = text.parse().ok()?;
    u32::try_from(duration.as_secs()).ok().map(|seconds| seconds.max(1))
}

/// What one session was told, and so what is left to tell.
#[derive(Debug)]
pub(super) struct Told {
    last: Option<Wanted>,
    held: Held,
    snapshot: bool,
}

#[derive(Debug)]
struct Held {
    generation: u64,
    entries: BTreeSet<(Key, String)>,
}

impl Told {
    /// At the start of a session, from the spoke's hello.
    pub(super) fn resume(generation: u64, held: &[HeldEntry]) -> Self {
        let entries = held.iter().filter_map(|entry| {
            let key = entry.key.as_ref()?;
            Some((sortable(key), entry.manifest_digest.clone()))
        });
        Self { last: None, held: Held { generation, entries: entries.collect() }, snapshot: false }
    }

    /// What to send; None where the spoke has it, or has it on its way.
    pub(super) fn next(&mut self, wanted: Wanted) -> Option<Desired> {
        let desired = match &self.last {
            None if self.holds(&wanted) => None,
            Some(last) if !self.snapshot && last.generation == wanted.generation => None,
            Some(last) if !self.snapshot && last.generation < wanted.generation => Some(delta(last, &wanted)),
            None | Some(_) => Some(snapshot(&wanted)),
        };
        self.snapshot = false;
        self.last = Some(wanted);
        desired
    }

    /// The spoke could not take over a difference: the next answer is the whole set.
    pub(super) fn wrong_base(&mut self) {
        self.snapshot = true;
    }

    fn holds(&self, wanted: &Wanted) -> bool {
        self.held.generation == wanted.generation
            && self.held.entries.len() == wanted.entries.len()
            && wanted
                .entries
                .iter()
                .all(|(key, entry)| self.held.entries.contains(&(key.clone(), entry.manifest_digest.clone())))
    }
}

fn snapshot(wanted: &Wanted) -> Desired {
    Desired {
        generation: wanted.generation,
        base_generation: 0,
        entries: wanted.entries.values().cloned().collect(),
        removed: Vec::new(),
    }
}

/// The difference; the whole where that is not longer, or where generation 0 would read as a snapshot.
fn delta(last: &Wanted, wanted: &Wanted) -> Desired {
    let entries: Vec<_> = wanted
        .entries
        .iter()
        .filter(|(key, entry)| last.entries.get(*key) != Some(*entry))
        .map(|(_, entry)| entry.clone())
        .collect();
    if entries.len() >= wanted.entries.len() || last.generation == 0 {
        return snapshot(wanted);
    }
    let removed = last.entries.iter().filter(|(key, _)| !wanted.entries.contains_key(*key));
    let removed = removed.filter_map(|(_, entry)| entry.key.clone()).collect();
    Desired { generation: wanted.generation, base_generation: last.generation, entries, removed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(generation: u64, versions: &[(&str, &str)]) -> Wanted {
        let entries = versions.iter().map(|(model, version)| {
            let key = EntryKey {
                namespace: "vision".into(),
                policy: (*model).into(),
                model: (*model).into(),
                version: (*version).into(),
            };
            let digest = format!("sha256:{model}-{version}");
            (
                sortable(&key),
                DesiredEntry { key: Some(key), manifest_digest: digest, ..DesiredEntry::default() },
            )
        });
        Wanted { generation, entries: entries.collect() }
    }

    fn held(wanted: &Wanted) -> Vec<HeldEntry> {
        let entries = wanted.entries.values();
        entries
            .map(|e| HeldEntry { key: e.key.clone(), manifest_digest: e.manifest_digest.clone() })
            .collect()
    }

    #[test]
    fn a_spoke_that_holds_it_is_told_nothing() {
        let wanted = set(4, &[("a", "1"), ("b", "1")]);
        assert_eq!(Told::resume(4, &held(&wanted)).next(wanted.clone()), None);
        let sent = Told::resume(4, &[]).next(wanted.clone()).unwrap();
        assert_eq!(
            (sent.base_generation, sent.entries.len()),
            (0, 2),
            "same number, other content: all of it"
        );
        let mut other = held(&wanted);
        other[1].manifest_digest = "sha256:of-another-object-of-that-name".into();
        let sent = Told::resume(4, &other).next(wanted.clone()).unwrap();
        assert_eq!(
            (sent.base_generation, sent.entries.len()),
            (0, 2),
            "same names, other weights: all of it"
        );
        let mut behind = Told::resume(3, &held(&wanted));
        assert_eq!(behind.next(wanted).unwrap().base_generation, 0);
    }

    #[test]
    fn later_only_the_difference_goes_out() {
        let mut told = Told::resume(0, &[]);
        assert_eq!(told.next(set(4, &[("a", "1"), ("b", "1"), ("c", "1")])).unwrap().base_generation, 0);
        let sent = told.next(set(5, &[("a", "2"), ("b", "1")])).unwrap();
        assert_eq!((sent.generation, sent.base_generation, sent.entries.len()), (5, 4, 1));
        let removed: Vec<_> = sent.removed.iter().map(|k| format!("{}@{}", k.model, k.version)).collect();
        assert_eq!(removed, ["a@1", "c@1"]);
        assert_eq!(told.next(set(5, &[("a", "2"), ("b", "1")])), None);
        told.wrong_base();
        assert_eq!(told.next(set(5, &[("a", "2"), ("b", "1")])).unwrap().base_generation, 0);
    }

    #[test]
    fn limits_of_the_site_go_along_and_waiting_does_not() {
        let entry = |version: &str, action| {
            serde_json::json!({
                "namespace": "vision", "policy": "p", "model": "m", "version": version, "action": action,
                "manifestDigest": "sha256:1", "onRemoval": "Keep", "signaturePublicKey": "PEM",
                "serving": {"runtime": "hook", "probe": {"timeout": "1m30s"}},
                "transfer": {"maxBandwidth": "20Mi", "windows": [{"start": "22:00", "end": "06:00", "timeZone": "UTC"}]}
            })
        };
        let entries = [entry("1", "Serve"), entry("2", "Prefetch"), entry("", "Wait")];
        let spec = serde_json::json!({"generation": 3, "entries": entries});
        let assignment = ClusterAssignment::new("a", serde_json::from_value(spec).unwrap());
        let wanted = wanted(&assignment, |_| "onnx".to_owned());
        assert_eq!((wanted.generation, wanted.entries.len()), (3, 2));
        let serve = wanted.entries.values().next().unwrap();
        let transfer = serve.transfer.as_ref().unwrap();
        assert_eq!((transfer.max_bytes_per_second, transfer.windows.len()), (20 << 20, 1));
        assert_eq!(serve.serving.as_ref().unwrap().probe_timeout_seconds, 90);
        assert!(serve.keep_on_removal);
        assert_eq!(serve.signature_public_key, "PEM");
        assert_eq!(serve.format, "onnx");
    }

    #[test]
    fn generations_that_were_skipped_do_not_matter() {
        let mut told = Told::resume(0, &[]);
        told.next(set(1, &[("a", "1"), ("b", "1")]));
        let sent = told.next(set(9, &[("a", "1"), ("b", "2")])).unwrap();
        assert_eq!((sent.base_generation, sent.entries.len(), sent.removed.len()), (1, 1, 1));
    }
}
