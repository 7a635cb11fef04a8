//! From a plan to requests: which object is written how. Pure but for the sending at the end.
//!
//! Every write is a patch with a `test`, or a create: one that was planned on an old state of an object fails instead
//! of undoing what another did. An assignment's spec is the planner's alone, so the test is on `metadata.generation`,
//! which only a spec moves: reports of spokes, which fill the status meanwhile, do not get in the way.
//!
//! Nobody but the hub writes assignments, so that who owns which of their fields is no question: they are stored without
//! `managedFields`, which would be half of the object and a third of what the API server does to write it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use nave_crds::{
    ClusterAssignment, ClusterAssignmentSpec, EdgeCluster, ModelVersion, ModelVersionClusters,
    PlacementPolicy, PlacementPolicyStatus,
};
use serde_json::json;

use crate::json_patch::{self, Operation, Part, Target, Written};

/// Who writes assignments' specs and policies' statuses.
pub const FIELD_MANAGER: &str = "nave-planner";

/// One assignment to write.
#[derive(Clone, Debug)]
pub enum AssignmentWrite {
    /// There is none yet.
    Create(Box<ClusterAssignment>),
    /// The spec changes.
    Update {
        /// The assignment's, and the cluster's, name.
        name: String,
        /// The patch.
        operations: Vec<Operation>,
    },
}

/// How the assignment of a cluster is written.
pub fn assignment_write(
    cluster: &EdgeCluster,
    stored: Option<&ClusterAssignment>,
    spec: &ClusterAssignmentSpec,
) -> AssignmentWrite {
    let name = cluster.name_any();
    let Some(stored) = stored else {
        let mut assignment = ClusterAssignment::new(&name, spec.clone());
        // The assignment goes with its cluster.
        assignment.metadata.owner_references = owner(cluster).map(|owner| vec![owner]);
        return AssignmentWrite::Create(Box::new(assignment));
    };
    let operations = vec![
        Operation::Test { path: "/metadata/generation", value: json!(stored.metadata.generation) },
        Operation::Add { path: "/spec", value: json!(spec) },
        // One empty entry is how the API server is told to forget them; it does not begin again by itself.
        Operation::Add { path: "/metadata/managedFields", value: json!([{}]) },
    ];
    AssignmentWrite::Update { name, operations }
}

fn owner(cluster: &EdgeCluster) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: EdgeCluster::api_version(&()).into_owned(),
        kind: EdgeCluster::kind(&()).into_owned(),
        name: cluster.metadata.name.clone()?,
        uid: cluster.metadata.uid.clone()?,
        controller: None,
        block_owner_deletion: None,
    })
}

impl AssignmentWrite {
    /// The assignment's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Create(assignment) => assignment.metadata.name.as_deref().unwrap_or_default(),
            Self::Update { name, .. } => name,
        }
    }

    /// Sends it.
    pub async fn send(&self, client: &Client) -> Written<ClusterAssignment> {
        match self {
            Self::Create(assignment) => {
                let api: Api<ClusterAssignment> = Api::all(client.clone());
                let options =
                    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                api.create(&options, assignment).await.into()
            }
            Self::Update { name, operations } => {
                let target = Target { namespace: None, name, part: Part::Main, field_manager: FIELD_MANAGER };
                json_patch::send(client, target, operations).await
            }
        }
    }
}

/// Writes a policy's whole status.
pub async fn send_policy_status(
    client: &Client,
    policy: &PlacementPolicy,
    status: &PlacementPolicyStatus,
) -> Written<PlacementPolicy> {
    let (namespace, name) = (policy.namespace(), policy.name_any());
    let operations = [
        Operation::Test { path: "/metadata/uid", value: json!(policy.metadata.uid) },
        Operation::Add { path: "/status", value: json!(status) },
    ];
    let target = Target {
        namespace: namespace.as_deref(),
        name: &name,
        part: Part::Status,
        field_manager: FIELD_MANAGER,
    };
    json_patch::send(client, target, &operations).await
}

/// Writes on how many clusters a version is; the rest of its status is the resolver's.
pub async fn send_version_counts(
    client: &Client,
    version: &ModelVersion,
    clusters: ModelVersionClusters,
) -> Written<ModelVersion> {
    let api: Api<ModelVersion> =
        Api::namespaced(client.clone(), version.metadata.namespace.as_deref().unwrap_or_default());
    let patch = Patch::Merge(json!({ "status": { "clusters": clusters } }));
    let options = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&version.name_any(), &options, &patch).await.into()
}

#[cfg(test)]
mod tests {
    use nave_crds::EdgeClusterSpec;

    use super::*;

    fn cluster() -> EdgeCluster {
        let mut cluster = EdgeCluster::new("bridge-a12", EdgeClusterSpec::default());
        cluster.metadata.uid = Some("u-1".into());
        cluster
    }

    #[test]
    fn a_new_assignment_belongs_to_its_cluster() {
        let write = assignment_write(&cluster(), None, &ClusterAssignmentSpec::default());
        let AssignmentWrite::Create(assignment) = write else { panic!("{write:?}") };
        let owner = &assignment.owner_references()[0];
        assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("EdgeCluster", "bridge-a12", "u-1"));
        assert_eq!(owner.api_version, "nave.dev/v1alpha1");
    }

    #[test]
    fn an_update_fails_when_the_spec_is_no_longer_the_one_planned_on() {
        let mut stored = ClusterAssignment::new("bridge-a12", ClusterAssignmentSpec::default());
        stored.metadata.generation = Some(7);
        let write = assignment_write(&cluster(), Some(&stored), &ClusterAssignmentSpec::default());
        let AssignmentWrite::Update { operations, .. } = write else { panic!("{write:?}") };
        let patch = serde_json::to_value(operations).unwrap();
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/generation", "value": 7}));
        assert_eq!(patch[1]["path"], "/spec");
        assert_eq!(patch[2], json!({"op": "add", "path": "/metadata/managedFields", "value": [{}]}));
    }
}
