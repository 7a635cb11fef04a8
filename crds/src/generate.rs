//! From the types to the CRDs that are installed: what `kube` derives, made fit for the API server. The committed YAML
//! in `crds/yaml` is this, printed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{ClusterAssignment, EdgeCluster, FineTuneJob, ModelVersion, PlacementPolicy};

/// Every CRD, in the order in which people read them.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut assignment = ClusterAssignment::crd();
    each_schema(&mut assignment, &mut leave_entries_unruled);
    let mut crds =
        vec![EdgeCluster::crd(), ModelVersion::crd(), PlacementPolicy::crd(), assignment, FineTuneJob::crd()];
    for crd in &mut crds {
        each_schema(crd, &mut |schema| walk(schema, &mut prune_nulls));
    }
    crds
}

fn each_schema(crd: &mut CustomResourceDefinition, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            change(schema);
        }
    }
}

/// An assignment repeats what the policies and clusters that it comes from were checked for, and has as many entries as
/// a cluster has models: checking each again would cost more than the API server grants a CRD.
fn leave_entries_unruled(root: &mut JSONSchemaProps) {
    let entries = root
        .properties
        .as_mut()
        .and_then(|properties| properties.get_mut("spec")?.properties.as_mut()?.get_mut("entries"));
    if let Some(entries) = entries {
        walk(entries, &mut |schema| schema.x_kubernetes_validations = None);
    }
}

/// Where nothing is nullable the API server drops an explicit `null` as if the field were absent, which is what someone
/// who writes it means; a nullable one would be stored, and every rule would have to allow for it.
fn prune_nulls(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
}

fn walk(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        walk(property, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => walk(item, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                walk(item, change);
            }
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        walk(value, change);
    }
}
