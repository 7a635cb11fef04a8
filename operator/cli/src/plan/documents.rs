//! Reads objects from files: YAML of several documents, JSON, Lists, and what `plan -o json` printed. Every error names
//! the file, the document, the object and the field.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, anyhow, bail};
use kube::{Resource, ResourceExt as _, core::NamespaceResourceScope};
use nave_crds::{ClusterAssignment, EdgeCluster, FineTuneJob, GROUP, ModelVersion, PlacementPolicy, VERSION};
use nave_operator_plan::{PolicyKey, World};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::admission::Admission;

/// Where objects without a namespace belong unless another is named, as `kubectl apply` has it.
const DEFAULT_NAMESPACE: &str = "default";

/// The objects of some files; of two with one name the later counts.
#[derive(Default)]
pub(crate) struct Documents {
    pub(super) clusters: BTreeMap<String, Arc<EdgeCluster>>,
    pub(super) versions: BTreeMap<(String, String), Arc<ModelVersion>>,
    pub(super) policies: BTreeMap<(String, String), Arc<PlacementPolicy>>,
    pub(super) assignments: BTreeMap<String, Arc<ClusterAssignment>>,
    /// Kinds that were left out because a plan does not read them.
    pub(super) left_out: BTreeSet<String>,
    admission: Admission,
}

impl Documents {
    /// Reads one file; `-` is the standard input.
    pub(super) fn read(&mut self, file: &Path, namespace: Option<&str>) -> anyhow::Result<()> {
        let (named, text) = if file == Path::new("-") {
            ("standard input".to_owned(), std::io::read_to_string(std::io::stdin()))
        } else {
            (file.display().to_string(), std::fs::read_to_string(file))
        };
        let text = text.with_context(|| format!("reading {named}"))?;
        self.take_text(&text, namespace).context(named)
    }

    fn take_text(&mut self, text: &str, namespace: Option<&str>) -> anyhow::Result<()> {
        // JSON is YAML too, but its own reader takes a fleet of thousands in a fraction of the time.
        if text.trim_start().starts_with(['{', '['])
            && let Ok(value) = serde_json::from_str(text)
        {
            return self.take(&value, namespace);
        }
        for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
            let place = || format!("document {}", index + 1);
            let value = Value::deserialize(document).with_context(place)?;
            self.take(&value, namespace).with_context(place)?;
        }
        Ok(())
    }

    /// One object, or what holds several.
    fn take(&mut self, value: &Value, namespace: Option<&str>) -> anyhow::Result<()> {
        let several = match value {
            Value::Null => return Ok(()),
            Value::Array(_) => Some(value),
            // A List of Kubernetes, or the document that `plan -o json` prints.
            Value::Object(fields) if !fields.contains_key("metadata") || is_list(value) => {
                fields.get("items").or_else(|| fields.get("objects"))
            }
            Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        let Some(several) = several else { return self.take_object(value, namespace) };
        let Value::Array(objects) = several else { bail!("items or objects is not a list") };
        for (index, object) in objects.iter().enumerate() {
            self.take(object, namespace).with_context(|| format!("object {}", index + 1))?;
        }
        Ok(())
    }

    fn take_object(&mut self, value: &Value, namespace: Option<&str>) -> anyhow::Result<()> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            bail!("not a Kubernetes object: apiVersion and kind are missing");
        };
        if api_version.split('/').next() != Some(GROUP) {
            self.left_out.insert(kind);
            return Ok(());
        }
        if api_version != format!("{GROUP}/{VERSION}") {
            bail!("{kind} has apiVersion {api_version}; this version of Nave reads {GROUP}/{VERSION}");
        }
        let object = Object { kind: &kind, value, admission: &self.admission };
        match kind.as_str() {
            "EdgeCluster" => self.put_cluster(object.decode()?),
            "ClusterAssignment" => self.put_assignment(object.decode()?),
            "ModelVersion" => self.put_version(in_namespace(object.decode()?, namespace)),
            "PlacementPolicy" => self.put_policy(in_namespace(object.decode()?, namespace)),
            "FineTuneJob" => {
                object.decode::<FineTuneJob>()?;
                self.left_out.insert(kind);
            }
            _ => bail!("{GROUP} has no kind {kind}"),
        }
        Ok(())
    }

    pub(super) fn put_cluster(&mut self, cluster: EdgeCluster) {
        self.clusters.insert(cluster.name_any(), Arc::new(cluster));
    }

    pub(super) fn put_assignment(&mut self, assignment: ClusterAssignment) {
        self.assignments.insert(assignment.name_any(), Arc::new(assignment));
    }

    pub(super) fn put_version(&mut self, version: ModelVersion) {
        self.versions.insert(key(&version), Arc::new(version));
    }

    pub(super) fn put_policy(&mut self, policy: PlacementPolicy) {
        self.policies.insert(key(&policy), Arc::new(policy));
    }

    /// Whether there is a cluster of this name.
    pub(crate) fn has_cluster(&self, name: &str) -> bool {
        self.clusters.contains_key(name)
    }

    /// Whether there is a policy of this name.
    pub(super) fn has_policy(&self, key: &PolicyKey) -> bool {
        self.policies.contains_key(&(key.namespace.clone(), key.name.clone()))
    }

    /// The planner's snapshot of them.
    pub(crate) fn world(&self) -> World {
        World::new(
            self.clusters.values().cloned(),
            self.versions.values().cloned(),
            self.policies.values().cloned(),
            self.assignments.values().cloned(),
        )
    }
}

pub(super) fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn is_list(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
}

fn in_namespace<K: Resource<Scope = NamespaceResourceScope>>(mut object: K, namespace: Option<&str>) -> K {
    object.meta_mut().namespace.get_or_insert_with(|| namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned());
    object
}

/// One object as it was written.
struct Object<'a> {
    kind: &'a str,
    value: &'a Value,
    admission: &'a Admission,
}

impl Object<'_> {
    /// The object, or an error with its kind, its name and the path of the field.
    fn decode<K: DeserializeOwned>(&self) -> anyhow::Result<K> {
        let kind = self.kind;
        let metadata = &self.value["metadata"];
        let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) else {
            bail!("{kind} without metadata.name");
        };
        let named = match metadata["namespace"].as_str() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        self.admission.check(kind, self.value).with_context(|| named.clone())?;
        serde_path_to_error::deserialize(self.value)
            .map_err(|error| anyhow!("{named}: {}: {}", error.path(), error.inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Documents> {
        let mut documents = Documents::default();
        documents.take_text(text, None)?;
        Ok(documents)
    }

    const CLUSTER: &str = "{apiVersion: nave.dev/v1alpha1, kind: EdgeCluster, metadata: {name: a}, spec: {}}";
    const POLICY: &str = "{apiVersion: nave.dev/v1alpha1, kind: PlacementPolicy, metadata: {name: p}, spec: {model: {name: m, version: '1'}}}";

    #[test]
    fn documents_lists_and_plans_are_read() {
        let documents = read(&format!("# first\n---\n{CLUSTER}\n---\n---\n{POLICY}\n")).unwrap();
        assert_eq!((documents.clusters.len(), documents.policies.len()), (1, 1));
        assert!(documents.policies.contains_key(&("default".to_owned(), "p".to_owned())));
        for holder in [
            "{apiVersion: v1, kind: List, metadata: {}, items: [X]}",
            "{at: now, policies: {}, objects: [X]}",
            "[X]",
        ] {
            let documents = read(&format!("---\n{}", holder.replace('X', CLUSTER))).unwrap();
            assert_eq!(documents.clusters.len(), 1, "{holder}");
        }
    }

    #[test]
    fn the_later_of_two_counts() {
        let newer = CLUSTER.replace("spec: {}", "spec: {accepted: true}");
        let documents = read(&format!("{CLUSTER}\n---\n{newer}")).unwrap();
        assert!(documents.clusters["a"].spec.accepted);
    }

    #[test]
    fn what_a_plan_does_not_read_is_left_out() {
        let documents = read("apiVersion: v1\nkind: Namespace\nmetadata: {name: vision}\n").unwrap();
        assert!(documents.left_out.contains("Namespace"));
    }

    #[test]
    fn errors_name_document_object_and_field() {
        for (text, expected) in [
            ("a: b\n", "document 1: not a Kubernetes object: apiVersion and kind are missing"),
            (
                "---\n{apiVersion: nave.dev/v2, kind: EdgeCluster}",
                "document 1: EdgeCluster has apiVersion nave.dev/v2; this version of Nave reads nave.dev/v1alpha1",
            ),
            ("---\n{apiVersion: nave.dev/v1alpha1, kind: Hub}", "document 1: nave.dev has no kind Hub"),
            (
                "---\n{apiVersion: nave.dev/v1alpha1, kind: EdgeCluster}",
                "document 1: EdgeCluster without metadata.name",
            ),
            (
                "x: &a 1\n---\napiVersion: nave.dev/v1alpha1\nkind: EdgeCluster\nmetadata: {name: a}\nspec: {accepted: maybe}\n",
                "document 1: not a Kubernetes object",
            ),
            (
                "apiVersion: nave.dev/v1alpha1\nkind: PlacementPolicy\nmetadata: {name: p, namespace: n}\nspec: {model: {name: m, version: '1'}, rollout: {steps: [{clusters: 1}, {soak: 5m}]}}\n",
                "document 1: PlacementPolicy n/p: spec.rollout.steps[1]: missing field `clusters`",
            ),
            ("{", "document 1: "),
            ("a: [", "document 1"),
        ] {
            let error = format!("{:#}", read(text).err().unwrap());
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
