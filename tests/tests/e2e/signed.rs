//! Versions that have to be signed, from `kubectl nave publish --sign` to the files under `current`: the hub verifies, and so
//! does the spoke, for between the two somebody may have written to the bucket.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nave_tests::{Progress, eventually};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::site::{CLUSTER, MODEL, Site, Version};

/// `release-keys/models.pub`, as `--public-key-secret` writes it.
const SECRET: &str = "release-keys/models.pub";
const LIMIT: Duration = Duration::from_secs(90);

/// A private key in a file of the stack's folder, and its public key.
fn make_key(site: &Site, name: &str) -> Result<(String, String)> {
    let pair = KeyPair::generate()?;
    let path = site.stack.folder().join(name);
    fs::write(&path, pair.serialize_pem())?;
    Ok((path.to_string_lossy().into_owned(), pair.public_key_pem()))
}

/// Waits until the ModelVersion's Ready has this reason; what Verified says.
async fn verified(site: &Site, version: &str, reason: &str) -> Result<Value> {
    eventually(&format!("{version} to be Ready or not for {reason}"), LIMIT, || async {
        let name = format!("{MODEL}-{version}");
        let object = site.stack.kubectl.json(&["get", "modelversion", &name]).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let find =
            |kind: &str| conditions.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
        Ok(Progress::when(find("Ready")["reason"] == reason, find("Verified"), object["status"].clone()))
    })
    .await
}

async fn rejected(site: &Site, version: &Version, reason: &str) -> Result<()> {
    site.stack
        .wait_reported(CLUSTER, MODEL, &format!("to reject {} for {reason}", version.name), |row| {
            row["version"] == version.name && row["phase"] == "Rejected" && row["reason"] == reason
        })
        .await
        .map(drop)
}

#[tokio::test]
async fn e2e_only_what_is_rightly_signed_is_served_and_the_rest_says_why() -> Result<()> {
    let site = Site::start().await?;
    let (key, public) = make_key(&site, "release.key")?;
    let (stranger, _) = make_key(&site, "stranger.key")?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "release-keys", "namespace": "default"}, "stringData": {"models.pub": public},
    });
    let signed = ["--sign", &key, "--public-key-secret", SECRET];
    let first = site.publish_with("1.0.0", &[("weights.bin", 1 << 20), ("labels.txt", 300)], &signed).await?;
    verified(&site, "1.0.0", "PublicKeyMissing").await?;
    site.stack.kubectl.apply(&secret.to_string()).await?;
    let said = verified(&site, "1.0.0", "Verified").await?;
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("SignatureVerified")));
    site.place(&first).await?;
    site.wait_serving(&first).await?;

    // Signed by somebody else: the hub says so, and no spoke is told of it.
    let foreign = ["--sign", &stranger, "--public-key-secret", SECRET];
    let second = site.publish_with("2.0.0", &[("weights.bin", 600_000)], &foreign).await?;
    let said = verified(&site, "2.0.0", "SignedByAnotherKey").await?;
    assert_eq!(said["status"], "False");
    site.place(&second).await?;
    let assignment = site.stack.kubectl.json(&["get", "clusterassignment", CLUSTER]).await?;
    assert!(!assignment["spec"].to_string().contains(&second.digest), "{assignment}");
    assert_eq!(site.current()?, first.files);

    // Rightly signed when the hub looked; by the time the spoke does, the signature is somebody else's, then none.
    let third = site.publish_with("3.0.0", &[("weights.bin", 700_000)], &signed).await?;
    verified(&site, "3.0.0", "Verified").await?;
    let (s3, bucket) = (&site.stack.s3, site.stack.bucket());
    let good = s3.get(bucket, "weights/3.0.0/model.sig").await?;
    let other = s3.get(bucket, "weights/2.0.0/model.sig").await?;
    s3.put(bucket, "weights/3.0.0/model.sig", other).await?;
    site.place(&third).await?;
    rejected(&site, &third, "SignedByAnotherKey").await?;
    assert_eq!(site.current()?, first.files);
    assert_eq!(site.proxy.traffic("3.0.0/weights.bin").bytes, 0, "no weights before the signature");
    let mut lie: Value = serde_json::from_slice(&good)?;
    lie["dsseEnvelope"]["payload"] = "e30=".into();
    s3.put(bucket, "weights/3.0.0/model.sig", lie.to_string()).await?;
    rejected(&site, &third, "SignatureInvalid").await?;
    let first_sig = s3.get(bucket, "weights/1.0.0/model.sig").await?;
    s3.put(bucket, "weights/3.0.0/model.sig", first_sig).await?;
    rejected(&site, &third, "SignedFilesDiffer").await?;
    assert_eq!(site.current()?, first.files, "what was served is served");
    s3.put(bucket, "weights/3.0.0/model.sig", good).await?;
    site.wait_serving(&third).await.context("once it is signed again")
}
