//! Which spokes share a site, and so may fetch weights from one another: an index over EdgeClusters and assignments, kept
//! by the feed and read by sessions. A fleet without peers costs it nothing. No I/O.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nave_crds::{Action, ClusterAssignment, EdgeCluster};
use nave_proto::v1::{Peer, Peers};

/// Spokes with the same value of this label are one site.
pub(super) const SITE_LABEL: &str = "site";
/// Most peers that a spoke is named; of a larger site the first by name share, and the others fetch from them.
const MAX_PEERS: usize = 100;
/// Most versions that one peer is named with: 100 peers then fit into a message. More are fetched from S3.
const MAX_VERSIONS: usize = 250;

/// The index. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct SitePeers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Every cluster that takes part.
    members: BTreeMap<Arc<str>, Member>,
    sites: BTreeMap<String, BTreeMap<Arc<str>, Peer>>,
}

#[derive(Debug, PartialEq)]
struct Member {
    site: String,
    peer: Peer,
}

impl SitePeers {
    /// Takes in how a cluster is now. Returns the clusters whose peers are others now: all of the site.
    pub(super) fn update(
        &self,
        name: &str,
        cluster: Option<&EdgeCluster>,
        assignment: Option<&ClusterAssignment>,
    ) -> Vec<Arc<str>> {
        let now = cluster.and_then(|cluster| member(name, cluster, assignment));
        let mut state = self.state();
        if state.members.get(name) == now.as_ref() {
            return Vec::new();
        }
        let mut concerned = Vec::new();
        if let Some(before) = state.members.remove(name) {
            if let Some(site) = state.sites.get_mut(&before.site) {
                concerned.extend(site.keys().cloned());
                site.remove(name);
            }
            state.sites.retain(|_, site| !site.is_empty());
        }
        if let Some(member) = now {
            let name: Arc<str> = name.into();
            let site = state.sites.entry(member.site.clone()).or_default();
            site.insert(name.clone(), member.peer.clone());
            concerned.extend(site.keys().cloned());
            state.members.insert(name, member);
        }
        concerned
    }

    /// The peers of a cluster, without itself. One that does not take part has none.
    pub(super) fn of(&self, name: &str) -> Peers {
        let state = self.state();
        let site = state.members.get(name).and_then(|member| state.sites.get(&member.site));
        let first = site.into_iter().flatten().take(MAX_PEERS);
        let others = first.filter(|(other, _)| ***other != *name);
        Peers { peers: others.map(|(_, peer)| peer.clone()).collect() }
    }

    /// Every cluster that takes part.
    pub(super) fn clusters(&self) -> Vec<Arc<str>> {
        self.state().members.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster as a peer: it has a site and an address, and the hub trusts it.
fn member(name: &str, cluster: &EdgeCluster, assignment: Option<&ClusterAssignment>) -> Option<Member> {
    if cluster.spec.revoked || !cluster.spec.accepted {
        return None;
    }
    let site = cluster.metadata.labels.as_ref()?.get(SITE_LABEL).filter(|site| !site.is_empty())?;
    let address = cluster.status.as_ref()?.peer_address.clone()?;
    let entries = assignment.map(|assignment| assignment.spec.entries.as_slice()).unwrap_or_default();
    let told = entries.iter().filter(|entry| entry.action != Action::Wait);
    let mut assigned: Vec<_> = told.map(|entry| entry.manifest_digest.clone()).collect();
    assigned.sort_unstable();
    assigned.dedup();
    assigned.truncate(MAX_VERSIONS);
    Some(Member { site: site.clone(), peer: Peer { cluster: name.to_owned(), address, assigned } })
}

#[cfg(test)]
mod tests {
    use nave_crds::{EdgeClusterSpec, EdgeClusterStatus};

    use super::*;

    fn cluster(name: &str, site: &str, address: Option<&str>) -> EdgeCluster {
        let spec = EdgeClusterSpec { accepted: true, ..EdgeClusterSpec::default() };
        let mut cluster = EdgeCluster::new(name, spec);
        cluster.metadata.labels = Some([(SITE_LABEL.to_owned(), site.to_owned())].into());
        let peer_address = address.map(str::to_owned);
        cluster.status = Some(EdgeClusterStatus { peer_address, ..EdgeClusterStatus::default() });
        cluster
    }

    fn add(index: &SitePeers, cluster: &EdgeCluster) -> Vec<Arc<str>> {
        index.update(cluster.metadata.name.as_deref().unwrap(), Some(cluster), None)
    }

    fn names(index: &SitePeers, of: &str) -> Vec<String> {
        index.of(of).peers.into_iter().map(|peer| peer.cluster).collect()
    }

    #[test]
    fn the_accepted_of_one_site_that_take_part_are_peers() {
        let index = SitePeers::default();
        add(&index, &cluster("a", "north", Some("10.0.0.1:7445")));
        let concerned = add(&index, &cluster("b", "north", Some("10.0.0.2:7445")));
        assert_eq!(concerned, ["a".into(), "b".into()], "both hear of it");
        add(&index, &cluster("c", "south", Some("10.0.1.1:7445")));
        add(&index, &cluster("d", "north", None));
        add(&index, &cluster("e", "", Some("10.0.0.5:7445")));
        let mut unknown = cluster("f", "north", Some("10.0.0.6:7445"));
        unknown.spec.accepted = false;
        assert!(add(&index, &unknown).is_empty());
        assert_eq!(names(&index, "a"), ["b"]);
        assert_eq!(names(&index, "d"), [""; 0], "who offers nothing is named nobody");
        assert_eq!(names(&index, "e"), [""; 0], "no site is not a site");

        let mut revoked = cluster("b", "north", Some("10.0.0.2:7445"));
        revoked.spec.revoked = true;
        assert_eq!(add(&index, &revoked), ["a".into(), "b".into()]);
        assert_eq!(names(&index, "a"), [""; 0]);
    }

    #[test]
    fn what_changes_nothing_wakes_nobody() {
        let index = SitePeers::default();
        let a = cluster("a", "north", Some("10.0.0.1:7445"));
        add(&index, &a);
        add(&index, &cluster("b", "north", Some("10.0.0.2:7445")));
        assert!(add(&index, &a).is_empty());
        let moved = add(&index, &cluster("a", "south", Some("10.0.0.1:7445")));
        assert_eq!(
            moved,
            ["a".into(), "b".into(), "a".into()],
            "the site that it left and the one that it came to"
        );
        assert!(!index.update("a", None, None).is_empty(), "deleted");
        assert_eq!(index.clusters(), ["b".into()]);
    }

    #[test]
    fn a_peer_is_named_with_what_it_is_told_to_have() {
        let index = SitePeers::default();
        let entry = |version: &str, action: &str| {
            serde_json::json!({
                "namespace": "vision", "policy": "p", "model": "m", "version": version, "action": action,
                "manifestDigest": format!("sha256:{version}")
            })
        };
        let entries = [entry("2", "Serve"), entry("1", "Prefetch"), entry("3", "Wait")];
        let spec = serde_json::json!({"generation": 1, "entries": entries});
        let assignment = ClusterAssignment::new("b", serde_json::from_value(spec).unwrap());
        add(&index, &cluster("a", "north", Some("10.0.0.1:7445")));
        index.update("b", Some(&cluster("b", "north", Some("10.0.0.2:7445"))), Some(&assignment));
        assert_eq!(index.of("a").peers[0].assigned, ["sha256:1", "sha256:2"]);
    }
}
