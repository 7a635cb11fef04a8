//! Between the wire's messages and the planner's types. Everything from outside is checked here.

use nave_agent_plan::{Action, Desired, Entry, EntryKey, EntryRefusal, Refusal, Transfer, Window};
use nave_names::{Generation, ModelName, Namespace, PolicyName, VersionName};
use nave_proto::v1;

/// What an entry without a runtime is served by.
const DEFAULT_RUNTIME: &str = "files";
/// For an entry that does not say.
const DEFAULT_PROBE_SECONDS: u32 = 60;

/// A desired set from the wire.
///
/// # Errors
/// [`Refusal::Malformed`] names the entry and what is wrong with it. One bad entry refuses the whole set: leaving it
/// out would look as if it had been removed.
pub(super) fn read_desired(desired: v1::Desired) -> Result<Desired, Refusal> {
    Ok(Desired {
        generation: Generation(desired.generation),
        base: (desired.base_generation != 0).then_some(Generation(desired.base_generation)),
        entries: desired.entries.into_iter().map(read_entry).collect::<Result<_, _>>()?,
        removed: desired.removed.into_iter().map(|key| read_key(Some(key))).collect::<Result<_, _>>()?,
    })
}

fn read_entry(entry: v1::DesiredEntry) -> Result<Entry, Refusal> {
    let key = read_key(entry.key)?;
    let malformed = |problem: &dyn std::fmt::Display| Refusal::Malformed(format!("{key}: {problem}"));
    let manifest_digest = entry.manifest_digest.parse().map_err(|error| malformed(&error))?;
    let serving = entry.serving.unwrap_or_default();
    let transfer = read_transfer(entry.transfer.unwrap_or_default());
    for window in &transfer.windows {
        crate::pull::Window::parse(&window.days, &window.start, &window.end, &window.time_zone)
            .map_err(|error| malformed(&error))?;
    }
    let previous_version = Some(entry.previous_version).filter(|version| !version.is_empty());
    let previous_version =
        previous_version.map(VersionName::new).transpose().map_err(|error| malformed(&error))?;
    Ok(Entry {
        manifest_digest,
        action: match v1::desired_entry::Action::try_from(entry.action) {
            Ok(v1::desired_entry::Action::Prefetch) => Action::Prefetch,
            Ok(v1::desired_entry::Action::Serve) => Action::Serve,
            Ok(v1::desired_entry::Action::Unspecified) | Err(_) => Action::Unknown(entry.action),
        },
        runtime: if serving.runtime.is_empty() { DEFAULT_RUNTIME.to_owned() } else { serving.runtime },
        probe_timeout_seconds: match serving.probe_timeout_seconds {
            0 => DEFAULT_PROBE_SECONDS,
            seconds => seconds,
        },
        transfer,
        keep_on_removal: entry.keep_on_removal,
        signature_public_key: entry.signature_public_key,
        previous_version,
        format: entry.format,
        key,
    })
}

fn read_key(key: Option<v1::EntryKey>) -> Result<EntryKey, Refusal> {
    let key = key.ok_or_else(|| Refusal::Malformed("an entry has no key".to_owned()))?;
    let malformed = |error: nave_names::NameError| Refusal::Malformed(error.to_string());
    Ok(EntryKey {
        namespace: Namespace::new(key.namespace).map_err(malformed)?,
        policy: PolicyName::new(key.policy).map_err(malformed)?,
        model: ModelName::new(key.model).map_err(malformed)?,
        version: VersionName::new(key.version).map_err(malformed)?,
    })
}

fn read_transfer(transfer: v1::Transfer) -> Transfer {
    let window = |window: v1::Window| Window {
        days: window.days,
        start: window.start,
        end: window.end,
        time_zone: window.time_zone,
    };
    Transfer {
        max_bytes_per_second: transfer.max_bytes_per_second,
        windows: transfer.windows.into_iter().map(window).collect(),
    }
}

pub(crate) fn write_key(key: &EntryKey) -> v1::EntryKey {
    v1::EntryKey {
        namespace: key.namespace.to_string(),
        policy: key.policy.to_string(),
        model: key.model.to_string(),
        version: key.version.to_string(),
    }
}

/// The answer to a desired set.
pub(super) fn write_ack(
    generation: u64,
    outcome: Result<Vec<(EntryKey, EntryRefusal)>, Refusal>,
) -> v1::DesiredAck {
    match outcome {
        Ok(refused) => v1::DesiredAck {
            generation,
            accepted: true,
            reason: String::new(),
            message: String::new(),
            refused: refused
                .into_iter()
                .map(|(key, refusal)| v1::EntryRefusal {
                    key: Some(write_key(&key)),
                    reason: refusal.reason,
                    message: refusal.message,
                })
                .collect(),
        },
        Err(refusal) => v1::DesiredAck {
            generation,
            accepted: false,
            reason: refusal.reason().to_owned(),
            message: refusal.to_string(),
            refused: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> v1::DesiredEntry {
        v1::DesiredEntry {
            key: Some(v1::EntryKey {
                namespace: "vision".into(),
                policy: "line".into(),
                model: "defects".into(),
                version: "1".into(),
            }),
            manifest_digest: nave_names::Digest::of(b"x").to_string(),
            action: v1::desired_entry::Action::Serve.into(),
            ..v1::DesiredEntry::default()
        }
    }

    fn read(entry: v1::DesiredEntry) -> Result<Desired, Refusal> {
        read_desired(v1::Desired { generation: 1, entries: vec![entry], ..v1::Desired::default() })
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let entry = &read(entry()).unwrap().entries[0];
        assert_eq!((entry.runtime.as_str(), entry.probe_timeout_seconds), ("files", 60));
        assert_eq!(entry.action, Action::Serve);
    }

    #[test]
    fn an_action_of_a_newer_hub_is_kept_as_what_it_is() {
        let newer = v1::DesiredEntry { action: 17, ..entry() };
        assert_eq!(read(newer).unwrap().entries[0].action, Action::Unknown(17));
    }

    #[test]
    fn names_that_would_leave_their_folder_refuse_the_whole_set() {
        let bad = |change: fn(&mut v1::DesiredEntry)| {
            let mut entry = entry();
            change(&mut entry);
            read(entry).unwrap_err()
        };
        let key = |entry: &mut v1::DesiredEntry| entry.key.clone().unwrap_or_default();
        for refusal in [
            bad(|entry| entry.key = None),
            bad(|entry| entry.manifest_digest = "sha256:12".into()),
            bad(|entry| entry.previous_version = "../1".into()),
            bad(|entry| {
                entry.transfer =
                    Some(v1::Transfer { windows: vec![v1::Window::default()], ..Default::default() });
            }),
        ] {
            assert_eq!(refusal.reason(), "Malformed");
        }
        let mut escaping = entry();
        escaping.key = Some(v1::EntryKey { model: "../../etc".into(), ..key(&mut escaping) });
        assert!(read(escaping).unwrap_err().to_string().contains("../../etc"));
    }
}
