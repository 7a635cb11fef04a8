//! The CRDs at a real API server: what is admitted, what is refused and in which words, what `kubectl get` shows.

use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use nave_crds::{ClusterAssignment, EdgeCluster, ModelVersion, PlacementPolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::{Server, example};

/// One change of an example.
#[derive(Debug, Deserialize)]
struct Row {
    of: String,
    /// JSON pointer.
    set: String,
    /// None = take the field away.
    #[serde(default, deserialize_with = "present")]
    to: Option<Value>,
    #[serde(default)]
    says: Vec<String>,
}

/// `to: null` is a value too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Row {
    fn object(&self) -> Value {
        let mut object = example(&self.of);
        let (parent, last) = self.set.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{self:?}: no such field"));
        match (parent, &self.to) {
            (Value::Object(fields), Some(value)) => {
                fields.insert(last.to_owned(), value.clone());
            }
            (Value::Object(fields), None) => {
                assert!(fields.remove(last).is_some(), "{self:?}: no such field");
            }
            (Value::Array(items), Some(value)) => items[last.parse::<usize>().unwrap()] = value.clone(),
            (parent, _) => panic!("{self:?}: cannot be set in {parent}"),
        }
        object
    }
}

async fn dry_create(server: &Server, object: Value) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    server.dynamic(&object).create(&parameters, &object).await
}

#[tokio::test]
async fn api_what_must_be_refused_is_refused_and_the_field_is_named() {
    let server = Server::start().await;
    let rows: Vec<Row> = serde_yaml::from_str(include_str!("refused.yaml")).unwrap();
    assert!(rows.len() > 100);
    let mut wrong = Vec::new();
    for row in &rows {
        match dry_create(&server, server.in_namespace(row.object())).await {
            Ok(_) => wrong.push(format!("{row:?}\n    was admitted")),
            Err(kube::Error::Api(status)) => {
                if let Some(missing) = row.says.iter().find(|part| !status.message.contains(*part)) {
                    wrong.push(format!("{row:?}\n    lacks {missing:?}: {}", status.message));
                }
            }
            Err(error) => panic!("{row:?}: {error}"),
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[tokio::test]
async fn api_what_is_allowed_is_admitted() {
    let server = Server::start().await;
    let rows: Vec<Row> = serde_yaml::from_str(include_str!("admitted.yaml")).unwrap();
    for row in &rows {
        if let Err(error) = dry_create(&server, server.in_namespace(row.object())).await {
            panic!("{row:?}: {error}");
        }
    }
}

#[tokio::test]
async fn api_examples_apply_unchanged_and_show_their_columns() {
    let server = Server::start().await;
    server.kubectl.run(&["create", "namespace", "vision"]).await.ok();
    for file in ["edgecluster", "modelversion", "placementpolicy", "finetunejob"] {
        let path = crate::server::example_path(file);
        let said = server.kubectl.run(&["apply", "-f", path.to_str().unwrap()]).await.unwrap();
        assert!(said.contains("nave.dev/"), "{said}");
    }
    for (short, columns) in [
        ("ec", "NAME ACCEPTED CONNECTED READY SERVING DESIRED AGENT AGE"),
        ("mv", "NAME MODEL VERSION READY REASON SIZE SERVING AGE"),
        ("pp", "NAME MODEL VERSION SELECTED SERVING FAILED DEFERRED STATE AVAILABLE AGE"),
        ("ftj", "NAME BASE DATASET PHASE PUBLISHED AGE"),
    ] {
        let shown = server.kubectl.run(&["get", short, "--namespace", "vision"]).await.unwrap();
        let head: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head.join(" "), columns);
    }
    let all = server.kubectl.run(&["get", "nave", "--all-namespaces", "--output", "name"]).await.unwrap();
    for name in [
        "edgecluster.nave.dev/bridge-a12",
        "modelversion.nave.dev/bridge-defects-1.2.0",
        "placementpolicy.nave.dev/bridge-defects",
        "finetunejob.nave.dev/defects-a12",
    ] {
        assert!(all.contains(name), "{name} is not in the category nave:\n{all}");
    }
}

#[tokio::test]
async fn api_a_model_version_changes_in_withdrawn_alone() {
    let server = Server::start().await;
    let object: ModelVersion = serde_json::from_value(server.in_namespace(example("modelversion"))).unwrap();
    let versions: Api<ModelVersion> = Api::namespaced(server.client.clone(), &server.namespace);
    versions.create(&PostParams::default(), &object).await.unwrap();
    let name = object.name_any();
    let change = async |spec: Value| {
        versions.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await
    };
    for (field, value) in [
        ("model", json!("other")),
        ("version", json!("9.9.9")),
        ("format", json!("gguf")),
        ("source", json!({"s3": {"prefix": "elsewhere/"}})),
        ("manifestDigest", Value::Null),
        ("requirements", json!({"accelerator": {"minMemory": "9Gi"}})),
        ("requirements", Value::Null),
        ("signature", Value::Null),
        ("lineage", json!({"cluster": "bridge-b7"})),
    ] {
        let error = change(json!({field: value})).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("spec.{field}")) && error.contains("is immutable"),
            "{field}: {error}"
        );
    }
    assert!(change(json!({"withdrawn": true})).await.unwrap().spec.withdrawn);
    assert!(!change(json!({"withdrawn": false})).await.unwrap().spec.withdrawn);
}

#[tokio::test]
async fn api_an_absent_field_of_a_version_cannot_be_added() {
    let server = Server::start().await;
    let mut object = server.in_namespace(example("modelversion"));
    object["spec"].as_object_mut().unwrap().remove("manifestDigest");
    let object: ModelVersion = serde_json::from_value(object).unwrap();
    let versions: Api<ModelVersion> = Api::namespaced(server.client.clone(), &server.namespace);
    versions.create(&PostParams::default(), &object).await.unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let patch = Patch::Merge(json!({"spec": {"manifestDigest": digest}}));
    let error =
        versions.patch(&object.name_any(), &PatchParams::default(), &patch).await.unwrap_err().to_string();
    assert!(error.contains("spec.manifestDigest"), "{error}");
}

#[tokio::test]
async fn api_status_is_a_subresource_and_generations_only_grow() {
    let server = Server::start().await;
    let policies: Api<PlacementPolicy> = Api::namespaced(server.client.clone(), &server.namespace);
    let object: PlacementPolicy =
        serde_json::from_value(server.in_namespace(example("placementpolicy"))).unwrap();
    let created = policies.create(&PostParams::default(), &object).await.unwrap();
    let status =
        json!({"status": {"targetVersion": "1.2.0", "step": {"index": 1, "of": 3, "state": "Updating"}}});
    let (name, parameters) = (object.name_any(), PatchParams::default());
    let through_spec = policies.patch(&name, &parameters, &Patch::Merge(&status)).await.unwrap();
    assert_eq!(through_spec.status, None);
    let through_status = policies.patch_status(&name, &parameters, &Patch::Merge(&status)).await.unwrap();
    assert_eq!(through_status.status.unwrap().target_version.as_deref(), Some("1.2.0"));
    assert_eq!(through_status.metadata.generation, created.metadata.generation);

    let assignments: Api<ClusterAssignment> = Api::all(server.client.clone());
    let name = format!("{}-spoke", server.namespace);
    let assignment: ClusterAssignment = serde_json::from_value(json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "ClusterAssignment", "metadata": {"name": name},
        "spec": {"generation": 3, "entries": []}
    }))
    .unwrap();
    assignments.create(&PostParams::default(), &assignment).await.unwrap();
    let generation = |generation: i64| Patch::Merge(json!({"spec": {"generation": generation}}));
    assignments.patch(&name, &parameters, &generation(4)).await.unwrap();
    let error = assignments.patch(&name, &parameters, &generation(2)).await.unwrap_err().to_string();
    assert!(error.contains("spec.generation") && error.contains("never goes down"), "{error}");
}

#[tokio::test]
async fn api_defaults_are_filled_in() {
    let server = Server::start().await;
    let clusters: Api<EdgeCluster> = Api::all(server.client.clone());
    let name = format!("{}-bare", server.namespace);
    let bare = json!({"apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster", "metadata": {"name": name}, "spec": {}});
    let created: Value = serde_json::to_value(
        clusters.create(&PostParams::default(), &serde_json::from_value(bare).unwrap()).await.unwrap(),
    )
    .unwrap();
    assert_eq!(created["spec"]["accepted"], false);
    let policy = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "bare"},
        "spec": {"model": {"name": "m", "version": "1"}}
    });
    let object: DynamicObject = serde_json::from_value(server.in_namespace(policy)).unwrap();
    let created = server.dynamic(&object).create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(created.data["spec"]["rollout"]["onFailure"], "Pause");
    assert_eq!(created.data["spec"]["priority"], 0);
    assert_eq!(created.data["spec"]["onRemoval"], "Delete");
}
