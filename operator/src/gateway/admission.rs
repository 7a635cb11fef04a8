//! Who may join: the decision over what is known of the cluster and what the spoke brought. No I/O.

use nave_crds::EdgeCluster;
use nave_names::Digest;
use tonic::Status;

/// How the spoke proves that it may have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A token that lets it in.
    Token,
    /// Nothing but the key that its request is signed with.
    Key,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A first contact: the key becomes the cluster's, a use of the token is taken.
    Join,
    /// The cluster's own key again: no token is needed, and no use is taken.
    Rejoin,
}

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The platform team said so.
    #[error("cluster {0} is revoked: ask the platform team")]
    Revoked(String),
    /// Two machines, one name.
    #[error(
        "cluster {0} has joined already with another key: choose another name, or have the platform team delete its \
         EdgeCluster if that machine is gone"
    )]
    NameTaken(String),
    /// No token, and the hub never saw the cluster.
    #[error("cluster {0} is not known to this hub and came without a join token")]
    UnknownCluster(String),
    /// No token, and not the key on record.
    #[error("the key is not the one that cluster {0} joined with: join anew with a token")]
    OtherKey(String),
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::Revoked(_) => Self::permission_denied(text),
            Denied::NameTaken(_) => Self::failed_precondition(text),
            Denied::UnknownCluster(_) | Denied::OtherKey(_) => Self::unauthenticated(text),
        }
    }
}

/// The key on record, as `sha256:<hex>`.
pub(super) fn key_on_record(cluster: &EdgeCluster) -> Option<&str> {
    let identity = cluster.status.as_ref()?.identity.as_ref()?;
    Some(identity.public_key_digest.as_str())
}

/// Decides.
pub(super) fn admit(
    name: &str,
    known: Option<&EdgeCluster>,
    key: Digest,
    proof: Proof,
) -> Result<Admission, Denied> {
    if known.is_some_and(|cluster| cluster.spec.revoked) {
        return Err(Denied::Revoked(name.to_owned()));
    }
    match (known.and_then(key_on_record), proof) {
        (Some(recorded), _) if recorded == key.to_string() => Ok(Admission::Rejoin),
        (Some(_), Proof::Token) => Err(Denied::NameTaken(name.to_owned())),
        (Some(_), Proof::Key) => Err(Denied::OtherKey(name.to_owned())),
        (None, Proof::Token) => Ok(Admission::Join),
        (None, Proof::Key) => Err(Denied::UnknownCluster(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use nave_crds::{EdgeClusterSpec, EdgeClusterStatus, Identity};

    use super::*;

    fn cluster(key: Option<Digest>, revoked: bool) -> EdgeCluster {
        let mut cluster = EdgeCluster::new("a", EdgeClusterSpec { revoked, ..EdgeClusterSpec::default() });
        let identity = key.map(|k| Identity { public_key_digest: k.to_string(), enrolled_at: None });
        cluster.status = Some(EdgeClusterStatus { identity, ..EdgeClusterStatus::default() });
        cluster
    }

    #[test]
    fn who_may_join() {
        let (own, other) = (Digest::of(b"own"), Digest::of(b"other"));
        let decide = |known: Option<EdgeCluster>, proof| admit("a", known.as_ref(), own, proof);
        let name = || "a".to_owned();
        assert_eq!(decide(None, Proof::Token), Ok(Admission::Join));
        assert_eq!(decide(None, Proof::Key), Err(Denied::UnknownCluster(name())));
        assert_eq!(decide(Some(cluster(None, false)), Proof::Token), Ok(Admission::Join), "made beforehand");
        assert_eq!(decide(Some(cluster(None, false)), Proof::Key), Err(Denied::UnknownCluster(name())));
        assert_eq!(decide(Some(cluster(Some(own), false)), Proof::Key), Ok(Admission::Rejoin));
        assert_eq!(decide(Some(cluster(Some(own), false)), Proof::Token), Ok(Admission::Rejoin));
        assert_eq!(decide(Some(cluster(Some(other), false)), Proof::Token), Err(Denied::NameTaken(name())));
        assert_eq!(decide(Some(cluster(Some(other), false)), Proof::Key), Err(Denied::OtherKey(name())));
        assert_eq!(decide(Some(cluster(Some(own), true)), Proof::Key), Err(Denied::Revoked(name())));
        assert_eq!(decide(Some(cluster(None, true)), Proof::Token), Err(Denied::Revoked(name())));
    }
}
