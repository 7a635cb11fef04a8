//! Objects from the words of a scenario.

use std::sync::Arc;

use nave_crds::{ClusterAssignment, EdgeCluster, PlacementPolicy};
use nave_operator_plan::PolicyKey;
use serde_json::{Value, json};

use super::Stage;

pub(super) fn key(name: &str) -> PolicyKey {
    match name.split_once('/') {
        Some((namespace, name)) => PolicyKey::new(namespace, name),
        None => PolicyKey::new("ns", name),
    }
}

pub(super) fn assignment(stage: &Stage, name: &str) -> ClusterAssignment {
    let stored = stage.world.assignments().get(name);
    stored.map_or_else(|| ClusterAssignment::new(name, Default::default()), |stored| (**stored).clone())
}

fn edge_cluster(stage: &Stage, name: &str) -> Value {
    match stage.world.clusters().get(name) {
        Some(cluster) => serde_json::to_value(cluster).unwrap(),
        None => json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "EdgeCluster", "metadata": {"name": name, "labels": {}},
            "spec": {"accepted": true}, "status": {"conditions": [connection(stage, true)]},
        }),
    }
}

fn connection(stage: &Stage, connected: bool) -> Value {
    json!({"type": "Connected", "status": if connected { "True" } else { "False" }, "reason": "Session",
        "message": "", "lastTransitionTime": stage.stamp()})
}

fn storage(stage: &Stage, message: &str) -> Value {
    json!({"type": "StorageHealthy", "status": "False", "reason": "Unhealthy", "message": message,
        "lastTransitionTime": stage.stamp()})
}

fn put(stage: &mut Stage, cluster: Value) {
    let cluster: EdgeCluster = serde_json::from_value(cluster).unwrap();
    stage.world.upsert_cluster(Arc::new(cluster));
}

/// Sets a cluster up, or changes it: `label=value`, `label-`, `taint=key=value:Effect`, `gpu=vendor:bytes[:broken]` (several:
/// with `+` between them), `arch=`, `free=`, `full=` (StorageHealthy is False, with this message), `runtime=` (several as
/// well), `fact:name=`, `away`, `silent` (says nothing of its connection), `accepted`, `unaccepted`, `untainted`, `bandwidth=`.
pub(super) fn cluster(stage: &mut Stage, name: &str, words: &[&str]) {
    let mut object = edge_cluster(stage, name);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "away" => object["status"]["conditions"] = json!([connection(stage, false)]),
            "silent" => object["status"]["conditions"] = json!([]),
            "accepted" => object["spec"]["accepted"] = true.into(),
            "unaccepted" => object["spec"]["accepted"] = false.into(),
            "untainted" => object["spec"]["taints"] = json!([]),
            "bandwidth" => object["spec"]["transfer"] = json!({"maxBandwidth": value}),
            "arch" => object["status"]["capacity"]["architecture"] = value.into(),
            "free" => {
                object["status"]["capacity"]["storage"] =
                    json!({"availableBytes": value.parse::<i64>().unwrap()});
            }
            "full" => push(&mut object["status"]["conditions"], storage(stage, value)),
            "runtime" => {
                let runtimes = value.split('+').map(|name| json!({"name": name, "ready": false}));
                object["status"]["capacity"]["runtimes"] = runtimes.collect();
            }
            "gpu" => {
                object["status"]["capacity"]["accelerators"] = value.split('+').map(gpu).collect();
            }
            "taint" => push(&mut object["spec"]["taints"], taint(value)),
            fact if fact.starts_with("fact:") => object["status"]["facts"][&fact[5..]] = value.into(),
            label if label.ends_with('-') => {
                object["metadata"]["labels"].as_object_mut().unwrap().remove(label.trim_end_matches('-'));
            }
            label => object["metadata"]["labels"][label] = value.into(),
        }
    }
    put(stage, object);
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

/// `key=value:Effect`
fn taint(text: &str) -> Value {
    let (taint, effect) = text.split_once(':').unwrap();
    let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
    json!({"key": key, "value": value, "effect": effect})
}

/// `vendor:bytes` or `vendor:bytes:broken`
fn gpu(text: &str) -> Value {
    let parts: Vec<&str> = text.split(':').collect();
    json!({"vendor": parts[0], "model": "x", "usable": parts.len() < 3, "memoryBytes": parts[1].parse::<i64>().unwrap()})
}

pub(super) fn connected(stage: &Stage, name: &str) -> bool {
    let cluster = stage.world.clusters().get(name).map(|cluster| serde_json::to_value(cluster).unwrap());
    cluster.is_some_and(|cluster| cluster["status"]["conditions"][0]["status"] == "True")
}

pub(super) fn connect(stage: &mut Stage, name: &str, connected: bool) {
    let mut object = edge_cluster(stage, name);
    object["status"]["conditions"] = json!([connection(stage, connected)]);
    put(stage, object);
}

/// A ModelVersion: `unready`, `withdrawn`, `size=`, `digest=`, on how many clusters it is `serving=`; the block is `requirements`.
pub(super) fn version(stage: &mut Stage, model: &str, version: &str, words: &[&str], block: &str) {
    let (namespace, model) = model.split_once('/').unwrap_or(("ns", model));
    let ready = if words.contains(&"unready") { "False" } else { "True" };
    let text = |of: &str| words.iter().find_map(|word| word.strip_prefix(of));
    let number = |of: &str| text(of).map(|number| number.parse::<i64>().unwrap());
    let digest = text("digest=").map_or_else(|| format!("sha256:{model}-{version}"), ToOwned::to_owned);
    let mut object = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "ModelVersion",
        "metadata": {"namespace": namespace, "name": format!("{model}-{version}")},
        "spec": {"model": model, "version": version, "source": {"s3": {"bucket": "b", "prefix": "p"}},
            "withdrawn": words.contains(&"withdrawn")},
        "status": {"manifestDigest": digest, "sizeBytes": number("size="),
            "clusters": {"assigned": number("serving=").unwrap_or(0), "serving": number("serving=").unwrap_or(0)},
            "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "",
                "lastTransitionTime": "2026-11-01T00:00:00Z"}]},
    });
    if !block.trim().is_empty() {
        object["spec"]["requirements"] = serde_yaml::from_str(block).unwrap();
    }
    stage.world.upsert_version(Arc::new(serde_json::from_value(object).unwrap()));
}

/// Creates a policy, or merges what is written into its spec: top-level parts of the spec are replaced. Its model is `m`
/// unless the spec says otherwise; `version=`, `runtime=`, `priority=` and `created=` may stand on the line.
pub(super) fn policy(stage: &mut Stage, name: &str, words: &[&str], block: &str) {
    let key = key(name);
    let mut object = match stage.world.policies().get(&key) {
        Some(policy) => serde_json::to_value(policy).unwrap(),
        None => json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy",
            "metadata": {"namespace": key.namespace, "name": key.name, "generation": 0,
                "creationTimestamp": "2026-11-01T00:00:00Z"},
            "spec": {"model": {"name": "m", "version": "1"}},
        }),
    };
    let generation = object["metadata"]["generation"].as_i64().unwrap() + 1;
    object["metadata"]["generation"] = generation.into();
    for word in words {
        match word.split_once('=').unwrap() {
            ("version", version) => object["spec"]["model"]["version"] = version.into(),
            ("model", model) => object["spec"]["model"]["name"] = model.into(),
            ("runtime", runtime) => object["spec"]["serving"]["runtime"] = runtime.into(),
            ("created", time) => object["metadata"]["creationTimestamp"] = time.into(),
            ("priority", priority) => object["spec"]["priority"] = priority.parse::<i32>().unwrap().into(),
            other => panic!("policy word {other:?}"),
        }
    }
    if !block.trim().is_empty() {
        let spec: Value = serde_yaml::from_str(block).unwrap();
        for (part, value) in spec.as_object().unwrap() {
            object["spec"][part] = value.clone();
        }
    }
    let policy: PlacementPolicy = serde_json::from_value(object).unwrap();
    stage.world.upsert_policy(Arc::new(policy));
}

pub(super) fn annotate(stage: &mut Stage, name: &str, pair: &str) {
    let (annotation, value) = pair.split_once('=').unwrap();
    let mut policy = (**stage.world.policies().get(&key(name)).unwrap()).clone();
    let annotations = policy.metadata.annotations.get_or_insert_default();
    annotations.insert(format!("nave.dev/{annotation}"), value.to_owned());
    stage.world.upsert_policy(Arc::new(policy));
}
