//! Watched: what the watch of a kind asks of its objects.

use std::fmt::Debug;

use kube::Resource;
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use serde::de::DeserializeOwned;

use super::sharing::Sharing;

/// A kind that the hub watches.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Holds what other objects hold already, and says the same as before.
    fn share(&mut self, _sharing: &mut Sharing) {}

    /// The object as the version of a model that it claims to be.
    fn as_version(&self) -> Option<&ModelVersion> {
        None
    }
}

impl Watched for EdgeCluster {}
impl Watched for PlacementPolicy {}
impl Watched for ClusterAssignment {
    fn share(&mut self, sharing: &mut Sharing) {
        sharing.share(self);
    }
}
impl Watched for ModelVersion {
    fn as_version(&self) -> Option<&ModelVersion> {
        Some(self)
    }
}
