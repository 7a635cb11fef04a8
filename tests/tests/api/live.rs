//! `kubectl nave plan --live` and `explain`: the hub's own planner on the objects that a real API server holds.

use std::{fs, path::Path};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use nave_crds::{EdgeCluster, ModelVersion, PlacementPolicy};
use serde_json::{Value, json};

use crate::server::{Server, nave, run};

/// Two connected clusters, a version that is ready, and a policy for them. The model's and the label's names are this
/// test's own, so that no other test's policy has to do with them.
pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) clusters: [String; 2],
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let api: Api<EdgeCluster> = Api::all(server.client.clone());
        let clusters = ["a", "b"].map(|name| format!("{}-{name}", server.namespace));
        for name in &clusters {
            let mut cluster =
                EdgeCluster::new(name, serde_json::from_value(json!({"accepted": true})).unwrap());
            cluster.labels_mut().insert("fleet".to_owned(), server.namespace.clone());
            api.create(&PostParams::default(), &cluster).await.unwrap();
            patch_status(&api, name, json!({"conditions": [condition("Connected")]})).await;
        }
        let fleet = Self { server, clusters };
        fleet.make_version().await;
        fleet.make_policy().await;
        fleet
    }

    async fn make_version(&self) {
        let namespace = &self.server.namespace;
        let api: Api<ModelVersion> = Api::namespaced(self.server.client.clone(), namespace);
        let spec = json!({"model": namespace, "version": "1", "source": {"s3": {"bucket": "models", "prefix": "x"}}});
        let version = ModelVersion::new("one", serde_json::from_value(spec).unwrap());
        api.create(&PostParams::default(), &version).await.unwrap();
        let digest = format!("sha256:{}", "1".repeat(64));
        patch_status(&api, "one", json!({"manifestDigest": digest, "conditions": [condition("Ready")]}))
            .await;
    }

    async fn make_policy(&self) {
        let api: Api<PlacementPolicy> = Api::namespaced(self.server.client.clone(), &self.server.namespace);
        let policy: PlacementPolicy = serde_json::from_value(self.policy(1)).unwrap();
        api.create(&PostParams::default(), &policy).await.unwrap();
    }

    fn policy(&self, number: i32) -> Value {
        let namespace = &self.server.namespace;
        json!({
            "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy",
            "metadata": {"name": "bridges", "namespace": namespace},
            "spec": {
                "model": {"name": namespace, "version": "1"},
                "placement": {"clusterSelector": {"matchLabels": {"fleet": namespace}}, "numberOfClusters": number}
            }
        })
    }
}

fn condition(type_: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-11-24T00:00:00Z"})
}

async fn patch_status<K>(api: &Api<K>, name: &str, status: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn api_a_live_plan_shows_what_applying_a_file_would_change() {
    let fleet = Fleet::new().await;
    let [a, b] = &fleet.clusters;
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = format!("{}/bridges", fleet.server.namespace);

    fs::write(file.path(), fleet.policy(1).to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let same = fleet.server.nave_json(&["plan", "--live", "--filename", path]);
    assert_eq!(same["difference"]["policies"].get(&key), None, "{}", same["difference"]);

    fs::write(file.path(), fleet.policy(2).to_string()).unwrap();
    let document = fleet.server.nave_json(&["plan", "--live", "--filename", path]);
    assert_eq!(document["policies"][&key]["selected"], json!([a, b]));
    let difference = &document["difference"];
    assert_eq!(difference["policies"][&key]["selected"], json!({"added": [b], "removed": []}));
    assert_eq!(difference["clusters"][b][0]["before"], json!([]));
    assert_eq!(difference["clusters"][b][0]["after"], json!(["Serve 1"]));
    let others = format!(
        "---\n{}\n---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: n}}}}\n",
        fleet.policy(2)
    );
    fs::write(file.path(), others).unwrap();
    let table = fleet.server.nave(&["plan", "--live", "--filename", path]).unwrap();
    assert!(table.contains(&format!("selected: + {b}")), "{table}");
    assert!(table.ends_with("Left out, because a plan does not read them: Namespace.\n"), "{table}");
    let live: Api<PlacementPolicy> = Api::namespaced(fleet.server.client.clone(), &fleet.server.namespace);
    assert_eq!(live.get("bridges").await.unwrap().spec.placement.number_of_clusters, Some(1));
}

#[tokio::test]
async fn api_objects_without_a_namespace_go_where_an_apply_would_put_them() {
    let fleet = Fleet::new().await;
    let namespace = &fleet.server.namespace;
    let mut policy = fleet.policy(2);
    policy["metadata"].as_object_mut().unwrap().remove("namespace");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), policy.to_string()).unwrap();
    let kubeconfig = fleet
        .server
        .kubeconfig_but(|config| config["contexts"][0]["context"]["namespace"] = namespace.clone().into());
    let changed = |kubeconfig: &Path, more: &[&str]| -> Value {
        let common = ["plan", "--live", "-o", "json", "-f", file.path().to_str().unwrap()];
        let text = run(nave().args(common).args(more).env("KUBECONFIG", kubeconfig)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["difference"]["policies"].clone()
    };
    let there = format!("{namespace}/bridges");
    for (kubeconfig, more) in
        [(kubeconfig.path(), &[][..]), (fleet.server.kubeconfig.as_path(), &["-n", namespace.as_str()])]
    {
        let changed = changed(kubeconfig, more);
        assert_eq!(changed[&there]["before"]["target"], "1", "{more:?}: {changed}");
    }
    let changed = changed(kubeconfig.path(), &["-n", "elsewhere"]);
    assert_eq!(changed.get(&there), None, "{changed}");
    let elsewhere = &changed["elsewhere/bridges"];
    assert_eq!((elsewhere.get("before"), &elsewhere["after"]["target"]), (None, &json!("1")), "{changed}");
}

#[tokio::test]
async fn api_a_live_plan_without_files_is_of_all_namespaces_or_of_the_one_that_is_named() {
    let (one, other) = (Fleet::new().await, Fleet::new().await);
    let [key, other_key] = [&one, &other].map(|fleet| format!("{}/bridges", fleet.server.namespace));
    let plan = |more: &[&str]| one.server.nave_json(&[&["plan", "--live"][..], more].concat());
    let all = plan(&[]);
    assert!(all["policies"].get(&key).is_some() && all["policies"].get(&other_key).is_some(), "{all}");
    let named = plan(&["-n", &one.server.namespace]);
    let keys: Vec<&String> = named["policies"].as_object().unwrap().keys().collect();
    assert_eq!(keys, [&key]);
    assert_eq!(named["policies"][&key]["selected"], all["policies"][&key]["selected"]);
    let table = one.server.nave(&["plan", "--live", "-n", &one.server.namespace]).unwrap();
    assert!(table.contains(&key) && !table.contains(&other_key), "{table}");
    let table = one.server.nave(&["plan", "--live", "-n", "empty"]).unwrap();
    assert!(table.contains("No policies."), "{table}");
}

#[tokio::test]
async fn api_explain_says_of_each_cluster_why_and_why_not() {
    let fleet = Fleet::new().await;
    let [a, b] = &fleet.clusters;
    let explain = |more: &[&str]| {
        let common = ["explain", "policy", "bridges", "--namespace", &fleet.server.namespace];
        fleet.server.nave(&[&common[..], more].concat())
    };
    let whole = explain(&[]).unwrap();
    for part in [a.as_str(), b.as_str(), "step 1 of 1: Updating", "OutOfNumber", "Placed=True"] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let one = explain(&["--cluster", b]).unwrap();
    assert!(one.contains("not chosen") && one.contains("OutOfNumber") && one.contains("rank 2"), "{one}");
    let json: Value = serde_json::from_str(&explain(&["--cluster", a, "-o", "json"]).unwrap()).unwrap();
    assert_eq!(
        (&json["clusters"][0]["selected"], &json["clusters"][0]["toldNow"]),
        (&json!(true), &json!(true))
    );
    let error = explain(&["--cluster", "nobody"]).unwrap_err();
    assert!(error.contains("EdgeCluster nobody not found"), "{error}");
}
