//! Where a spoke stands with the hub: the decision over its EdgeCluster and its certificate. No I/O.

use nave_crds::EdgeCluster;
use nave_proto::v1::{Standing, standing::State};

use super::admission::key_on_record;
use crate::pki::Peer;

/// Decides.
pub(super) fn of(cluster: Option<&EdgeCluster>, peer: &Peer) -> Standing {
    let (state, message) = match cluster {
        None => (
            State::NotAccepted,
            format!(
                "there is no EdgeCluster {}: create it, or let the spoke join anew with a token",
                peer.cluster
            ),
        ),
        Some(cluster) if cluster.spec.revoked => {
            (State::Revoked, format!("cluster {} is revoked: ask the platform team", peer.cluster))
        }
        Some(cluster) if is_another_key(cluster, peer) => (
            State::Revoked,
            format!(
                "cluster {} has joined with another key: this one is not listened to any more",
                peer.cluster
            ),
        ),
        Some(cluster) if !cluster.spec.accepted => (
            State::NotAccepted,
            format!("cluster {0} waits for consent: kubectl nave accept {0}", peer.cluster),
        ),
        Some(_) => (State::Accepted, String::new()),
    };
    Standing { state: state.into(), message }
}

fn is_another_key(cluster: &EdgeCluster, peer: &Peer) -> bool {
    key_on_record(cluster).is_some_and(|recorded| recorded != peer.public_key_digest.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use nave_crds::{EdgeClusterSpec, EdgeClusterStatus, Identity};
    use nave_names::{ClusterName, Digest};

    use super::*;

    fn cluster(accepted: bool, revoked: bool, key: &[u8]) -> EdgeCluster {
        let mut cluster =
            EdgeCluster::new("a", EdgeClusterSpec { accepted, revoked, ..EdgeClusterSpec::default() });
        let identity = Identity { public_key_digest: Digest::of(key).to_string(), enrolled_at: None };
        cluster.status = Some(EdgeClusterStatus { identity: Some(identity), ..EdgeClusterStatus::default() });
        cluster
    }

    #[test]
    fn only_an_accepted_cluster_with_the_key_on_record_is_accepted() {
        let peer = Peer {
            cluster: ClusterName::new("a").unwrap(),
            not_after: Timestamp::MAX,
            public_key_digest: Digest::of(b"own"),
        };
        let state = |cluster: Option<EdgeCluster>| of(cluster.as_ref(), &peer).state();
        assert_eq!(state(None), State::NotAccepted);
        assert_eq!(state(Some(cluster(true, false, b"own"))), State::Accepted);
        assert_eq!(state(Some(cluster(false, false, b"own"))), State::NotAccepted);
        assert_eq!(state(Some(cluster(true, true, b"own"))), State::Revoked);
        assert_eq!(state(Some(cluster(true, false, b"another"))), State::Revoked);
        let unknown_key =
            EdgeCluster::new("a", EdgeClusterSpec { accepted: true, ..EdgeClusterSpec::default() });
        assert_eq!(state(Some(unknown_key)), State::Accepted);
    }
}
