//! The hub against a real API server and a real S3 server, with the rights that its chart gives it, and without spokes.

use std::time::Duration;

use nave_tests::{Kubectl, Progress, Stack, eventually};
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
}
