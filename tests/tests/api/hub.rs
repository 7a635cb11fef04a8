//! The hub against a real API server and a real S3 server, with the rights that its chart gives it, and without spokes:
//! versions are resolved or say why not, one replica plans and another takes over, a quiet hub writes Leases only.

use std::{collections::BTreeMap, time::Duration};

use nave_tests::{Hub, HubSettings, Kubectl, Progress, SYSTEM_NAMESPACE, Stack, StackSettings, eventually};
use serde_json::Value;

/// Generous: tests share two cores with others.
const LIMIT: Duration = Duration::from_secs(90);

fn version(stack: &Stack, name: &str, bucket: &str, prefix: &str, secret: &str) -> String {
    let endpoint = stack.s3.endpoint();
    format!(
        "---\n\
         apiVersion: nave.dev/v1alpha1\n\
         kind: ModelVersion\n\
         metadata: {{name: {name}, namespace: default}}\n\
         spec:\n\
         \x20 model: {name}\n\
         \x20 version: 1.0.0\n\
         \x20 source:\n\
         \x20   s3: {{bucket: {bucket}, prefix: {prefix}, endpoint: \"{endpoint}\", credentialsSecret: {{name: {secret}}}}}\n"
    )
}

fn secret(name: &str, access: &str, key: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\n\
         stringData: {{accessKeyId: {access}, secretAccessKey: {key}}}\n"
    )
}

/// The condition of that type, once its reason is the wanted one.
async fn condition(kubectl: &Kubectl, object: &[&str], type_: &str, reason: &str) -> Value {
    let what = format!("{}: {type_} for reason {reason}", object.join(" "));
    let found = eventually(&what, LIMIT, async || {
        let object = kubectl.json(&[&["get"], object].concat()).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default();
        Ok(Progress::when(found["reason"] == reason, found.clone(), found))
    });
    found.await.unwrap()
}

#[tokio::test]
async fn api_versions_are_resolved_or_say_why_not() {
    let stack = Stack::start().await.unwrap();
    let (s3, kubectl, bucket) = (&stack.s3, &stack.kubectl, stack.bucket());
    s3.put(bucket, "good/model.onnx", "weights").await.unwrap();
    s3.put(bucket, "good/labels.txt", "crack").await.unwrap();
    s3.put(bucket, "foreign/manifest.json", "{}").await.unwrap();
    let objects = [
        secret("right", s3.access_key(), s3.secret_key()),
        secret("wrong", s3.access_key(), "not-the-key"),
        version(&stack, "good", bucket, "good", "right"),
        version(&stack, "no-bucket", &format!("{bucket}-none"), "good", "right"),
        version(&stack, "empty", bucket, "nothing/here", "right"),
        version(&stack, "wrong-key", bucket, "good", "wrong"),
        version(&stack, "no-secret", bucket, "good", "missing"),
        version(&stack, "foreign", bucket, "foreign", "right"),
    ];
    kubectl.apply(&objects.concat()).await.unwrap();

    let ready = async |name: &str, reason: &str| {
        condition(kubectl, &["modelversion", name], "Ready", reason).await["message"].to_string()
    };
    ready("good", "Resolved").await;
    let status = &kubectl.json(&["get", "modelversion", "good"]).await.unwrap()["status"];
    let manifest = s3.get(bucket, "good/manifest.json").await.unwrap();
    assert_eq!(status["manifestDigest"], nave_names::Digest::of(&manifest).to_string());
    assert_eq!((&status["fileCount"], &status["sizeBytes"]), (&2.into(), &12.into()));

    assert!(ready("no-bucket", "NoSuchBucket").await.contains(&format!("s3://{bucket}-none/")));
    assert!(ready("empty", "EmptyPrefix").await.contains("nothing/here"));
    ready("wrong-key", "SignatureDoesNotMatch").await;
    assert!(ready("no-secret", "CredentialsMissing").await.contains("Secret default/missing"));
    ready("foreign", "ManifestMalformed").await;

    // What was the matter is mended, and the version comes up without a touch.
    kubectl.apply(&secret("missing", s3.access_key(), s3.secret_key())).await.unwrap();
    ready("no-secret", "Resolved").await;

    // The bytes under a version that was resolved change: it says which object, and keeps its identity.
    s3.put(bucket, "good/labels.txt", "cracks everywhere").await.unwrap();
    kubectl.run(&["annotate", "modelversion", "good", "look=again"]).await.unwrap();
    assert!(ready("good", "ObjectChanged").await.contains("good/labels.txt"));
    let after = &kubectl.json(&["get", "modelversion", "good"]).await.unwrap()["status"];
    assert_eq!(after["manifestDigest"], status["manifestDigest"]);

    // A second object for the same version of the same model is refused, and names the first.
    let second =
        version(&stack, "second", bucket, "good", "right").replace("model: second", "model: no-secret");
    tokio::time::sleep(Duration::from_secs(1)).await; // ages are compared in whole seconds
    kubectl.apply(&second).await.unwrap();
    assert!(ready("second", "DuplicateVersion").await.contains("no-secret"));
    // Once the first is gone, the second stands for the version, and is looked at without a touch.
    kubectl.run(&["delete", "modelversion", "no-secret"]).await.unwrap();
    assert!(ready("second", "ObjectChanged").await.contains("good/labels.txt"));
}

/// Installed for one namespace, the hub runs with those rights and no more, and says which it would need.
#[tokio::test]
async fn api_a_hub_that_is_installed_for_one_namespace_reads_secrets_there_alone() {
    let settings = StackSettings { model_namespace: Some("vision"), ..StackSettings::default() };
    let stack = Stack::start_with(settings).await.unwrap();
    let (s3, kubectl) = (&stack.s3, &stack.kubectl);
    s3.put(stack.bucket(), "m/model.onnx", "weights").await.unwrap();
    let there = |text: String| text.replace("namespace: default", "namespace: vision");
    let objects = [
        there(secret("right", s3.access_key(), s3.secret_key())),
        there(version(&stack, "m", stack.bucket(), "m", "right")),
        secret("right", s3.access_key(), s3.secret_key()),
        version(&stack, "m", stack.bucket(), "m", "right"),
    ];
    kubectl.apply(&objects.concat()).await.unwrap();
    condition(kubectl, &["-n", "vision", "modelversion", "m"], "Ready", "Resolved").await;
    let refused = condition(kubectl, &["modelversion", "m"], "Ready", "SecretUnreadable").await;
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("Secret default/right") && said.contains("ServiceAccount"), "{said}");
}

#[tokio::test]
async fn api_one_replica_plans_another_takes_over_and_both_are_quiet() {
    let mut stack = Stack::start().await.unwrap();
    let settings = HubSettings { name: "hub-1".to_owned(), ..HubSettings::default() };
    let mut other = Hub::start(&stack.tools, &stack.plane, stack.folder(), settings).await.unwrap();
    let kubectl = stack.kubectl.clone();
    stack.s3.put(stack.bucket(), "m/model.onnx", "weights").await.unwrap();
    let objects = [
        secret("right", stack.s3.access_key(), stack.s3.secret_key()),
        version(&stack, "m", stack.bucket(), "m", "right"),
        cluster("site-1"),
        cluster("site-2"),
        policy("first", "m"),
    ];
    kubectl.apply(&objects.concat()).await.unwrap();
    let first = wait_chosen(&kubectl, "site-1", &["first"]).await;
    wait_chosen(&kubectl, "site-2", &["first"]).await;
    assert_eq!(first["metadata"]["ownerReferences"][0]["name"], "site-1");
    condition(&kubectl, &["placementpolicy", "first"], "Placed", "Placed").await;

    let leader = wait_holder(&kubectl, |_| true).await;
    let names = if leader.starts_with("hub-0") { ["hub-0", "hub-1"] } else { ["hub-1", "hub-0"] };
    assert!(leader.starts_with(names[0]), "{leader}");
    if names[0] == "hub-0" {
        stack.hub.kill()
    } else {
        other.kill()
    }
    wait_holder(&kubectl, |holder| holder.starts_with(names[1])).await;
    kubectl
        .apply(&[version(&stack, "other", stack.bucket(), "m", "right"), policy("second", "other")].concat())
        .await
        .unwrap();
    let both = wait_chosen(&kubectl, "site-1", &["first", "second"]).await;
    assert!(both["spec"]["generation"].as_i64() > first["spec"]["generation"].as_i64());

    // A spoke whose gateway never comes back is not connected, and nothing is known of its health.
    let report = r#"{"status": {"session": {"gateway": "gone", "since": "2026-01-01T00:00:00Z"}, "conditions": [
        {"type": "Connected", "status": "True", "reason": "SessionOpen", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "True", "reason": "AllHealthy", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;
    let patch = ["patch", "edgecluster", "site-2", "--subresource=status", "--type=merge", "-p", report];
    kubectl.run(&patch).await.unwrap();
    condition(&kubectl, &["edgecluster", "site-2"], "Connected", "GatewayLost").await;
    let ready = condition(&kubectl, &["edgecluster", "site-2"], "Ready", "NotConnected").await;
    assert_eq!(ready["status"], "Unknown");

    wait_quiet(&kubectl).await;
}

fn cluster(name: &str) -> String {
    format!(
        "---\napiVersion: nave.dev/v1alpha1\nkind: EdgeCluster\nmetadata: {{name: {name}}}\nspec: {{accepted: true}}\n"
    )
}

fn policy(name: &str, model: &str) -> String {
    format!(
        "---\napiVersion: nave.dev/v1alpha1\nkind: PlacementPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{model: {{name: {model}, version: 1.0.0}}, placement: {{}}}}\n"
    )
}

/// The cluster's assignment, once exactly these policies have entries in it.
async fn wait_chosen(kubectl: &Kubectl, cluster: &str, policies: &[&str]) -> Value {
    let what = format!("{cluster} chosen by {policies:?}");
    let found = eventually(&what, LIMIT, async || {
        let assignment = kubectl.json(&["get", "clusterassignment", cluster]).await?;
        let entries = assignment["spec"]["entries"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<_> = entries.iter().filter_map(|entry| entry["policy"].as_str()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Progress::when(names == policies, assignment.clone(), &assignment["spec"]))
    });
    found.await.unwrap()
}

/// Who holds the planner's Lease, once it is somebody wanted.
async fn wait_holder(kubectl: &Kubectl, wanted: impl Fn(&str) -> bool) -> String {
    let found = eventually("another holder of the planner's Lease", LIMIT, async || {
        let lease = kubectl.json(&["get", "lease", "nave-planner", "-n", SYSTEM_NAMESPACE]).await?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        Ok(Progress::when(!holder.is_empty() && wanted(&holder), holder.clone(), holder))
    });
    found.await.unwrap()
}

/// For six seconds nothing of Nave's is written but Leases, by the API server's own count.
async fn wait_quiet(kubectl: &Kubectl) {
    eventually("six quiet seconds", LIMIT, async || {
        let before = writes(kubectl).await?;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut after = writes(kubectl).await?;
        let leases = |counts: &BTreeMap<String, u64>| counts.get("leases").copied().unwrap_or(0);
        assert!(leases(&after) > leases(&before), "the Leases are renewed");
        after.retain(|resource, count| resource != "leases" && before.get(resource) != Some(&*count));
        Ok(Progress::when(after.is_empty(), (), format!("written: {after:?}")))
    })
    .await
    .unwrap();
}

/// Writes that the API server has answered since it started, by resource: Nave's kinds, Events and Leases.
async fn writes(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, u64>> {
    let metrics = kubectl.run(&["get", "--raw", "/metrics"]).await?;
    let mut counts = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let is_write = matches!(label("verb"), Some("POST" | "PUT" | "PATCH" | "APPLY" | "DELETE"));
        let is_ours = matches!(label("group"), Some("nave.dev" | "events.k8s.io" | "coordination.k8s.io"));
        let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<u64>().ok());
        if let (true, true, Some(resource), Some(count)) = (is_write, is_ours, label("resource"), count) {
            *counts.entry(resource.to_owned()).or_default() += count;
        }
    }
    Ok(counts)
}
