//! Slots that have decided, for tests.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Slot;
use crate::{
    PolicyKey,
    input::{Assignment, Catalogue, Cluster, Policy, Spoke},
};

/// One with this number as its load, so many bytes of room, and an entry of the policy or none.
pub(super) fn spoke(number: u64, bytes: u64, chosen: bool) -> Spoke {
    let name = format!("c{number}");
    let entries = if chosen {
        json!([{"namespace": "n", "policy": "p", "model": "m", "version": "1", "manifestDigest": "sha256:1", "action": "Prefetch"}])
    } else {
        json!([])
    };
    let assignment = json!({"metadata": {"name": name}, "spec": {"generation": 1, "entries": entries}});
    let object = json!({
        "metadata": {"name": name, "labels": {"region": "a", "load": number.to_string()}},
        "spec": {"accepted": true},
        "status": {"capacity": {"storage": {"totalBytes": 1000, "availableBytes": bytes}}},
    });
    Spoke {
        cluster: Arc::new(Cluster::new(&name, Arc::new(serde_json::from_value(object).unwrap()))),
        assignment: Arc::new(Assignment::new(Arc::new(serde_json::from_value(assignment).unwrap()), None)),
    }
}

/// A policy that chose some of five clusters, with 10 to 50 bytes.
pub(super) fn decided(placement: &Value, chosen: u64) -> Slot {
    decided_of(5, placement, chosen)
}

/// The same of so many clusters, each with ten bytes more than the one before.
pub(super) fn decided_of(count: u64, placement: &Value, chosen: u64) -> Slot {
    let object = json!({"metadata": {"namespace": "n", "name": "p"},
        "spec": {"model": {"name": "m", "version": "1"}, "placement": placement}});
    let object = Arc::new(serde_json::from_value(object).unwrap());
    let policies = [Arc::new(Policy::new(PolicyKey::of(&object), object))];
    let mut spokes: Vec<Spoke> =
        (1..=count).map(|number| spoke(number, 10 * number, number <= chosen)).collect();
    spokes.sort_by(|a, b| a.cluster.name.cmp(&b.cluster.name));
    let catalogue = Catalogue::default();
    let mut slot = Slot::some(&policies, &catalogue, spokes.iter()).remove(0);
    slot.decide(&catalogue, Timestamp::UNIX_EPOCH, false);
    slot
}

/// The names of those that are selected.
pub(super) fn selected(slot: &Slot) -> Vec<&str> {
    let members = slot.members.iter().filter(|member| member.is_selected());
    members.map(|member| &**member.name()).collect()
}
