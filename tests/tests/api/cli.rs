//! `kubectl nave` as a user runs it, against a real API server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use nave_crds::{EdgeCluster, ModelVersion, PlacementPolicy, join_token::JoinToken};
use serde_json::{Value, json};

use crate::server::Server;

const CA: &str = include_str!("../../../operator/cli/tests/ca.crt");
const CA_HASH: &str = include_str!("../../../operator/cli/tests/ca.spki.sha256");

async fn make_ca(server: &Server) {
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), &server.namespace);
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "nave-ca"}, "type": "nave.dev/ca", "stringData": {"ca.crt": CA}
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}

async fn make_cluster(server: &Server, name: &str) -> String {
    let name = format!("{}-{name}", server.namespace);
    let clusters: Api<EdgeCluster> = Api::all(server.client.clone());
    let cluster = EdgeCluster::new(&name, serde_json::from_value(json!({})).unwrap());
    clusters.create(&PostParams::default(), &cluster).await.unwrap();
    name
}

#[tokio::test]
async fn api_token_create_leaves_a_hash_and_shows_the_token_once() {
    let server = Server::start().await;
    let namespace = server.namespace.clone();
    let without = server.nave(&["token", "create", "--namespace", &namespace]).unwrap_err();
    assert!(without.contains(&format!("Secret {namespace}/nave-ca not found")), "{without}");

    make_ca(&server).await;
    let created = server.nave_json(&[
        "token",
        "create",
        "--namespace",
        &namespace,
        "--cluster",
        "bridge-a12",
        "--uses",
        "3",
        "--ttl",
        "2h",
        "--auto-accept",
        "--hub-address",
        "hub.example.com",
    ]);
    let text = created["token"].as_str().unwrap();
    let token = JoinToken::parse(text).unwrap();
    let ca_hash = format!("sha256:{}", CA_HASH.trim());
    assert_eq!(created["caHash"], ca_hash);
    assert_eq!(created["hubAddress"], "hub.example.com:7443");
    for command in [&created["helm"], &created["shell"]] {
        for part in [text, &ca_hash, "hub.example.com:7443", "bridge-a12"] {
            assert!(command.as_str().unwrap().contains(part), "{part}: {command}");
        }
    }

    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), &namespace);
    let secret = secrets.get(&token.secret_name()).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("nave.dev/join-token"));
    assert_eq!(secret.labels().get("nave.dev/join-token").map(String::as_str), Some("true"));
    let data: BTreeMap<String, String> = secret
        .data
        .unwrap()
        .into_iter()
        .map(|(key, value)| (key, String::from_utf8(value.0).unwrap()))
        .collect();
    assert_eq!(data["hash"], token.hash());
    assert_eq!((data["uses"].as_str(), data["cluster"].as_str()), ("3", "bridge-a12"));
    assert_eq!(data["autoAccept"], "true");
    assert_eq!(data["expiresAt"], created["expiresAt"]);
    let secret_part = text.split_once('.').unwrap().1;
    assert!(data.values().all(|value| !value.contains(secret_part)), "the token itself is stored");

    let listed = server.nave(&["token", "list", "--namespace", &namespace]).unwrap();
    assert!(listed.contains(token.id()) && !listed.contains(secret_part), "{listed}");
    server.nave(&["token", "delete", token.id(), "--namespace", &namespace]).unwrap();
    assert_eq!(server.nave_json(&["token", "list", "--namespace", &namespace]), json!([]));
    let again = server.nave(&["token", "delete", token.id(), "--namespace", &namespace]).unwrap_err();
    assert!(again.contains(token.id()) && again.contains("not found"), "{again}");
}

#[tokio::test]
async fn api_token_delete_takes_tokens_only() {
    let server = Server::start().await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), &server.namespace);
    let other: Secret = serde_json::from_value(json!({"metadata": {"name": "nave-token-abcd1234"}})).unwrap();
    secrets.create(&PostParams::default(), &other).await.unwrap();
    let refused =
        server.nave(&["token", "delete", "abcd1234", "--namespace", &server.namespace]).unwrap_err();
    assert!(refused.contains("nave-token-abcd1234 is not of type nave.dev/join-token"), "{refused}");
    secrets.get("nave-token-abcd1234").await.unwrap();
}

#[tokio::test]
async fn api_accept_and_revoke_say_what_became_of_each() {
    let server = Server::start().await;
    let clusters: Api<EdgeCluster> = Api::all(server.client.clone());
    let (a, b) = (make_cluster(&server, "a").await, make_cluster(&server, "b").await);
    let error = server.nave(&["accept", &a, "nobody", &b]).unwrap_err();
    assert!(error.contains("EdgeCluster nobody not found"), "{error}");
    for name in [&a, &b] {
        assert!(clusters.get(name).await.unwrap().spec.accepted, "{name}");
    }
    assert_eq!(server.nave(&["revoke", &a]).unwrap(), format!("edgecluster.nave.dev/{a} revoked\n"));
    let spec = clusters.get(&a).await.unwrap().spec;
    assert_eq!((spec.accepted, spec.revoked), (false, true));
    assert_eq!(
        server.nave_json(&["accept", &a]),
        json!([{"cluster": a, "accepted": true, "revoked": false}])
    );

    let fleet = server.nave_json(&["status", &a, &b]);
    let names: Vec<&Value> = fleet["clusters"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, [&a, &b]);
    let table = server.nave(&["status", &a]).unwrap();
    assert!(table.contains(&a) && !table.contains(&b), "{table}");
    assert!(server.nave(&["status", "nobody"]).unwrap_err().contains("EdgeCluster nobody not found"));
}

/// A policy whose status says what the hub would say.
pub(crate) async fn make_policy(server: &Server, status: Value) -> Api<PlacementPolicy> {
    let policies = make_new_policy(server).await;
    set_status(&policies, status).await;
    policies
}

/// A version of the policy's model.
pub(crate) async fn make_version(server: &Server, name: &str, version: &str) -> Api<ModelVersion> {
    let versions: Api<ModelVersion> = Api::namespaced(server.client.clone(), &server.namespace);
    let spec = json!({"model": "defects", "version": version, "source": {"s3": {"bucket": "models", "prefix": version}}});
    let object = ModelVersion::new(name, serde_json::from_value(spec).unwrap());
    versions.create(&PostParams::default(), &object).await.unwrap();
    versions
}

/// A policy that no hub has looked at.
pub(crate) async fn make_new_policy(server: &Server) -> Api<PlacementPolicy> {
    let policies: Api<PlacementPolicy> = Api::namespaced(server.client.clone(), &server.namespace);
    let policy = json!({
        "apiVersion": "nave.dev/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "bridges"},
        "spec": {"model": {"name": "defects", "version": "2"}, "rollout": {"steps": [{"clusters": 1, "approval": true}]}}
    });
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    policies
}

pub(crate) async fn set_status(policies: &Api<PlacementPolicy>, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    policies.patch_status("bridges", &PatchParams::default(), &patch).await.unwrap();
}

pub(crate) fn run_in(phase: &str, state: &str) -> Value {
    json!({
        "observedGeneration": 1,
        "previousVersion": "1",
        "targetVersion": "2",
        "step": {"index": 1, "of": 2, "state": state},
        "run": {"target": "2", "startedAt": "2026-11-24T12:00:00Z", "phase": phase, "step": 1}
    })
}

#[tokio::test]
async fn api_rollout_verbs_write_what_the_planner_reads() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "AwaitingApproval")).await;
    let rollout = |verb: &str| server.nave(&["rollout", verb, "bridges", "--namespace", &server.namespace]);
    let annotation =
        async |name: &str| policies.get("bridges").await.unwrap().annotations().get(name).cloned();

    assert!(rollout("status").unwrap().contains("step 1 of 2: AwaitingApproval"));
    rollout("approve").unwrap();
    assert_eq!(annotation("nave.dev/approve").await.as_deref(), Some("1/1"));

    assert!(rollout("resume").unwrap_err().contains("neither paused nor stopped by its failure budget"));
    rollout("pause").unwrap();
    assert!(policies.get("bridges").await.unwrap().spec.rollout.paused);
    assert!(rollout("pause").unwrap().contains("paused already"));
    rollout("resume").unwrap();
    assert!(!policies.get("bridges").await.unwrap().spec.rollout.paused);
    assert_eq!(annotation("nave.dev/resume").await, None);

    let over = json!([{"type": "Degraded", "status": "True", "reason": "FailureBudget", "message": "",
                       "lastTransitionTime": "2026-11-24T12:00:00Z"}]);
    set_status(&policies, json!({"conditions": over})).await;
    rollout("pause").unwrap();
    rollout("resume").unwrap();
    let generation = policies.get("bridges").await.unwrap().metadata.generation.unwrap();
    assert_eq!(annotation("nave.dev/resume").await, Some(generation.to_string()));

    assert!(rollout("retry").unwrap_err().contains("was not rolled back"));
    set_status(&policies, run_in("RolledBack", "RolledBack")).await;
    assert!(rollout("resume").unwrap_err().contains("rollout retry"));
    rollout("retry").unwrap();
    let first = annotation("nave.dev/retry").await.unwrap();
    rollout("retry").unwrap();
    assert_ne!(annotation("nave.dev/retry").await.unwrap(), first);

    make_version(&server, "defects-1", "1").await;
    rollout("undo").unwrap();
    assert_eq!(policies.get("bridges").await.unwrap().spec.model.version, "1");
    assert!(rollout("undo").unwrap_err().contains("names version 1 already"));
}

#[tokio::test]
async fn api_what_is_missing_is_named() {
    let server = Server::start().await;
    let namespace = server.namespace.clone();
    for verb in ["status", "pause", "resume", "approve", "undo", "retry"] {
        let error = server.nave(&["rollout", verb, "nothing", "--namespace", &namespace]).unwrap_err();
        assert!(error.contains(&format!("PlacementPolicy {namespace}/nothing not found")), "{verb}: {error}");
    }
    let error = server.nave(&["explain", "policy", "nothing", "--namespace", &namespace]).unwrap_err();
    assert!(error.contains(&format!("PlacementPolicy {namespace}/nothing not found")), "{error}");
}
