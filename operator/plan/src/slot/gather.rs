//! Gather: policies with everything to decide, and the clusters that concern each. A cluster is shown to all of them before the
//! next one is: to read what it says from memory is what many clusters and many policies cost most. What one policy finds out,
//! those that ask the same take over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Slot;
use crate::{
    input::{Catalogue, Policy, Spoke},
    placement::{Beside, Member, Signature, Stored},
    tally::Tally,
};

/// A policy whose members are being gathered.
struct Begun {
    slot: Slot,
    /// The number of its expressions among different ones.
    expressions: usize,
    /// And of its spread.
    spread: usize,
    /// What the last member holds.
    held: Option<Stored>,
}

impl Slot {
    /// The slots of these policies. Clusters come by name.
    pub(crate) fn some<'a>(
        policies: &[Arc<Policy>],
        catalogue: &Catalogue,
        spokes: impl Iterator<Item = &'a Spoke>,
    ) -> Vec<Self> {
        let (mut expressions, mut spreads) = (BTreeMap::new(), BTreeMap::new());
        let begun = policies.iter().map(|policy| Begun {
            slot: Self::new(Arc::clone(policy), catalogue),
            expressions: number(&mut expressions, policy.object.spec.placement.cel.iter()),
            spread: number(&mut spreads, policy.spread().iter().map(|one| &one.topology_key)),
            held: None,
        });
        let mut begun: Vec<Begun> = begun.collect();
        let mut said = vec![None; expressions.len()];
        let mut signatures = vec![None; spreads.len()];
        let mut known: BTreeSet<Signature> = BTreeSet::new();
        for spoke in spokes {
            said.fill(None);
            signatures.fill(None);
            for Begun { slot, expressions, spread, held } in &mut begun {
                let beside = Beside {
                    said: &mut said[*expressions],
                    signature: &mut signatures[*spread],
                    known: &mut known,
                    held,
                };
                let member = Member::beside(&slot.policy, slot.version.as_deref(), spoke, beside);
                if let Some(member) = member {
                    slot.members.push(member);
                }
            }
        }
        let filled = |Begun { mut slot, .. }: Begun| {
            slot.tally = Tally::of(&slot.policy, &slot.members);
            slot
        };
        begun.into_iter().map(filled).collect()
    }
}

/// The number of a list among different ones.
fn number<'k>(known: &mut BTreeMap<Vec<&'k str>, usize>, list: impl Iterator<Item = &'k String>) -> usize {
    let next = known.len();
    *known.entry(list.map(String::as_str).collect()).or_insert(next)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::staged::spoke, *};
    use crate::PolicyKey;

    #[test]
    fn policies_take_over_where_a_cluster_lies_for_the_very_same_spread_only() {
        let spreads = [vec!["region"], vec!["region", "load"], vec!["load"], vec![], vec!["region", "load"]];
        let policies = spreads.clone().map(|keys| {
            let spread: Vec<_> = keys.iter().map(|key| json!({"topologyKey": key})).collect();
            let object = json!({"metadata": {"namespace": "n", "name": keys.join("-")},
                "spec": {"model": {"name": "m", "version": "1"}, "placement": {"spread": spread}}});
            let object = Arc::new(serde_json::from_value(object).unwrap());
            Arc::new(Policy::new(PolicyKey::of(&object), object))
        });
        let spokes = [spoke(1, 10, false), spoke(2, 20, false)];
        let slots = Slot::some(&policies, &Catalogue::default(), spokes.iter());
        for (slot, keys) in slots.iter().zip(spreads) {
            for (member, spoke) in slot.members.iter().zip(&spokes) {
                let labels = keys.iter().map(|key| spoke.cluster.labels().get(*key).map(String::as_str));
                assert!(member.signature.iter().map(Option::as_deref).eq(labels), "{keys:?}");
            }
        }
    }
}
