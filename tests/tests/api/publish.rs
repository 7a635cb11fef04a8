//! `kubectl nave publish` against a real S3 server and a real API server.

use std::{fs, path::Path, process::Command};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use nave_crds::ModelVersion;
use nave_manifest::Manifest;
use nave_names::Digest;
use serde_json::{Value, json};

use crate::server::{Bucket, Server, nave, run};

/// More than one request can take, so that parts are uploaded.
const LARGE: usize = (20 << 20) + 7;

struct Case {
    server: Server,
    bucket: Bucket,
    folder: tempfile::TempDir,
}

impl Case {
    async fn new() -> Self {
        let server = Server::start().await;
        let bucket = Bucket::new(&server.namespace).await;
        let folder = tempfile::tempdir().unwrap();
        let weights: Vec<u8> = (0..LARGE).map(|index| (index * 31 % 251) as u8).collect();
        fs::write(folder.path().join("model.onnx"), weights).unwrap();
        fs::create_dir(folder.path().join("labels")).unwrap();
        fs::write(folder.path().join("labels/größe 1.txt"), "crack\nspalling\n").unwrap();
        Self { server, bucket, folder }
    }

    fn publish(&self, version: &str) -> Command {
        let mut command = nave();
        command
            .arg("publish")
            .arg(self.folder.path())
            .args(["--model", "defects", "--version", version, "--bucket", &self.bucket.name])
            .args(["--endpoint", self.bucket.server.endpoint(), "--namespace", &self.server.namespace])
            .env("KUBECONFIG", &self.server.kubeconfig);
        command
    }

    /// With the S3 keys in the environment.
    fn with_keys(&self, version: &str) -> Command {
        let mut command = self.publish(version);
        command
            .env("AWS_ACCESS_KEY_ID", self.bucket.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.bucket.server.secret_key());
        command
    }

    async fn fetch(&self, key: &str) -> Vec<u8> {
        self.bucket.get(key).await
    }
}

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&run(command.args(["-o", "json"])).unwrap()).unwrap()
}

#[tokio::test]
async fn api_a_folder_becomes_a_version_that_is_never_written_over() {
    let case = Case::new().await;
    let dry = json_of(case.publish("1.0.0").arg("--dry-run"));
    let published = json_of(&mut case.with_keys("1.0.0"));
    assert_eq!((&published["uploaded"], &published["created"]), (&json!(true), &json!(true)));
    assert_eq!(published["manifestDigest"], dry["manifestDigest"]);

    let bytes = case.fetch("defects/1.0.0/manifest.json").await;
    assert_eq!(Digest::of(&bytes).to_string(), published["manifestDigest"]);
    let manifest = Manifest::parse(&bytes).unwrap();
    assert_eq!(manifest.files().len(), 2);
    for file in manifest.files() {
        let stored = case.fetch(&format!("defects/1.0.0/{}", file.path)).await;
        assert_eq!(Digest::of(&stored), file.sha256, "{}", file.path);
    }
    let versions: Api<ModelVersion> = Api::namespaced(case.server.client.clone(), &case.server.namespace);
    let spec = versions.get("defects-1.0.0").await.unwrap().spec;
    assert_eq!(spec.manifest_digest, Some(manifest.digest().to_string()));
    assert_eq!(
        (spec.source.s3.bucket, spec.source.s3.prefix),
        (case.bucket.name.clone(), "defects/1.0.0/".into())
    );
    assert_eq!(spec.format, nave_crds::Format::Onnx);

    let again = json_of(&mut case.with_keys("1.0.0"));
    assert_eq!((&again["uploaded"], &again["created"]), (&json!(false), &json!(false)));

    fs::write(case.folder.path().join("labels/größe 1.txt"), "other\n").unwrap();
    let error = run(&mut case.with_keys("1.0.0")).unwrap_err();
    assert!(error.contains("defects-1.0.0 exists with another spec"), "{error}");
    let error = run(case.with_keys("1.0.0").args(["--name", "another"])).unwrap_err();
    assert!(error.contains("holds another version already"), "{error}");
    assert_eq!(case.fetch("defects/1.0.0/manifest.json").await, bytes);
    let stored = case.fetch("defects/1.0.0/labels/größe 1.txt").await;
    assert_eq!(stored, b"crack\nspalling\n");
}

#[tokio::test]
async fn api_the_hubs_secret_serves_the_upload_too() {
    let case = Case::new().await;
    let error = run(&mut case.publish("1.0.0")).unwrap_err();
    assert!(error.contains("no S3 credentials") && error.contains("--credentials-secret"), "{error}");
    let error = run(case.publish("1.0.0").args(["--credentials-secret", "models-s3"])).unwrap_err();
    let secret_name = format!("Secret {}/models-s3", case.server.namespace);
    assert!(error.contains(&secret_name), "{error}");

    let secrets: Api<Secret> = Api::namespaced(case.server.client.clone(), &case.server.namespace);
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "models-s3"}, "stringData": {
        "accessKeyId": case.bucket.server.access_key(), "secretAccessKey": case.bucket.server.secret_key()
    }}))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let published = json_of(case.publish("1.0.0").args([
        "--credentials-secret",
        "models-s3",
        "--architectures",
        "amd64,arm64",
        "--accelerator",
        "nvidia",
        "--accelerator-memory",
        "8Gi",
        "--prefix",
        "elsewhere",
    ]));
    let spec = &published["modelVersion"]["spec"];
    assert_eq!(spec["source"]["s3"]["credentialsSecret"]["name"], "models-s3");
    assert_eq!(spec["source"]["s3"]["prefix"], "elsewhere/");
    assert_eq!(spec["requirements"]["accelerator"], json!({"vendor": "nvidia", "minMemory": "8Gi"}));

    let error =
        run(case.publish("2.0.0").env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing"))
            .unwrap_err();
    assert!(
        error.contains(&format!("s3://{}/defects/2.0.0/: InvalidAccessKeyId", case.bucket.name)),
        "{error}"
    );
}

#[tokio::test]
async fn api_what_cannot_be_published_is_named_before_anything_is_sent() {
    let case = Case::new().await;
    let at = |name: &str| case.folder.path().join(name);
    fs::write(at(".env"), "SECRET=1").unwrap();
    fs::write(at("manifest.json"), "{}").unwrap();
    std::os::unix::fs::symlink(Path::new("/etc/passwd"), at("link")).unwrap();
    let error = run(&mut case.with_keys("1.0.0")).unwrap_err();
    for name in
        ["\".env\" is hidden", "\"link\" is a symbolic link", "\"manifest.json\" has a name that Nave keeps"]
    {
        assert!(error.contains(name), "{name}: {error}");
    }
    let versions: Api<ModelVersion> = Api::namespaced(case.server.client.clone(), &case.server.namespace);
    assert!(versions.get_opt("defects-1.0.0").await.unwrap().is_none());
}
