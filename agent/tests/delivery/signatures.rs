//! What the OpenSSF reference (PyPI `model-signing` 1.1.1) signed, `nave-agent verify` verifies; everything else it refuses,
//! by name. `signed/` holds that tool's signatures of the folder that `vit` lays out, and the public keys.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nave_signature::{SigningKey, Trust};
use rcgen::KeyPair;
use serde_json::Value;

use crate::world::{World, manifest_of};

fn signed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/delivery/signed").join(name)
}

/// The folder that was signed.
fn vit() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.bin"), "weights").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("folder/config.json"), "{\"size\": 14}\n").unwrap();
    folder
}

/// Exit code, and the reason or the first problem.
fn verify(folder: &Path, key: &str, signature: &Path) -> (i32, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_nave-agent"))
        .args(["verify", "-o", "json"])
        .arg(folder)
        .arg("--key")
        .arg(signed(key))
        .arg("--signature")
        .arg(signature)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let problem = said["problems"].as_array().and_then(|all| all.first());
    let problem =
        problem.map(|p| format!("{}: {}", p["path"].as_str().unwrap(), p["problem"].as_str().unwrap()));
    let reason = said["error"]["reason"].as_str().map(str::to_owned);
    (ended.status.code().unwrap(), reason.or(problem).unwrap_or_default())
}

#[test]
fn what_the_reference_signed_is_verified() {
    let folder = vit();
    assert_eq!(verify(folder.path(), "p256.pem", &signed("p256.sig")), (0, String::new()));
    assert_eq!(verify(folder.path(), "p384.pem", &signed("p384.sig")), (0, String::new()));
    // Where the specification puts it, it does not count as a file that nobody signed.
    fs::copy(signed("p256.sig"), folder.path().join("model.sig")).unwrap();
    assert_eq!(verify(folder.path(), "p256.pem", &folder.path().join("model.sig")), (0, String::new()));
}

#[test]
fn any_change_of_the_folder_is_named() {
    let check = |change: &dyn Fn(&Path), named: &str| {
        let folder = vit();
        change(folder.path());
        let (code, problem) = verify(folder.path(), "p256.pem", &signed("p256.sig"));
        assert!(code == 3 && problem.starts_with(named), "{code} {problem:?}, expected {named}");
    };
    check(&|f| fs::write(f.join("model.bin"), "weightz").unwrap(), "model.bin: has the SHA-256");
    check(&|f| fs::remove_file(f.join("model.bin")).unwrap(), "model.bin: missing");
    check(&|f| fs::write(f.join("extra.py"), "").unwrap(), "extra.py: not in the signature");
    check(&|f| fs::write(f.join(".hidden"), "").unwrap(), ".hidden: not in the signature");
    check(&|f| fs::write(f.join("manifest.json"), "").unwrap(), "manifest.json: not in the signature");
    // The reference leaves git's files out of what it signs; that makes them files that nobody signed.
    check(&|f| fs::write(f.join(".gitattributes"), "").unwrap(), ".gitattributes: not in the signature");
    check(&|f| std::os::unix::fs::symlink("model.bin", f.join("link")).unwrap(), "link: neither a file");
    check(
        &|f| {
            fs::rename(f.join("model.bin"), f.join("folder/x")).unwrap();
            std::os::unix::fs::symlink("folder/x", f.join("model.bin")).unwrap();
        },
        "folder/x: not in the signature",
    );
}

#[test]
fn a_manifest_beside_the_files_says_what_is_signed_or_nobody_signed_it() {
    let folder = vit();
    let mut files: BTreeMap<String, Vec<u8>> = ["model.bin", "folder/config.json"]
        .map(|path| (path.to_owned(), fs::read(folder.path().join(path)).unwrap()))
        .into();
    let verified_with = |files: &BTreeMap<String, Vec<u8>>| {
        fs::write(folder.path().join("manifest.json"), manifest_of(files).to_canonical_bytes()).unwrap();
        verify(folder.path(), "p256.pem", &signed("p256.sig"))
    };
    assert_eq!(verified_with(&files), (0, String::new()));
    files.insert("model.bin".to_owned(), b"weightz".to_vec());
    let (code, problem) = verified_with(&files);
    let named = "manifest.json: not in the signature, and does not say the same: ";
    assert!(code == 3 && problem.starts_with(named), "{code} {problem}");
}

/// An asked-for signature is checked with the key of the moment, and against the files of this very version.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_kept_counts_for_its_key_and_its_files_alone() {
    let pairs = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    let trust = |pair: &KeyPair| Trust::from_pem(pair.public_key_pem().as_bytes()).unwrap();
    let key = SigningKey::from_pem(pairs[0].serialize_pem().as_bytes()).unwrap();
    let files = |weights: &[u8]| [("a".to_owned(), weights.to_vec())].into();
    let listed = |files: &BTreeMap<String, Vec<u8>>| {
        manifest_of(files).files().iter().map(|file| (file.path.clone(), file.sha256)).collect()
    };
    let signature = key.sign("vit", &listed(&files(b"weights")), &["manifest.json"]).unwrap();

    let signed = World::with_beside(files(b"weights"), ("model.sig", signature.clone())).await;
    signed.puller.verify_signature(signed.request(), trust(&pairs[0])).await.unwrap();
    signed.puller.verify_signature(signed.request(), trust(&pairs[0])).await.unwrap();
    let refused = signed.puller.verify_signature(signed.request(), trust(&pairs[1])).await.unwrap_err();
    assert_eq!(refused.reason(), "SignedByAnotherKey");

    let other = World::with_beside(files(b"weightz"), ("model.sig", signature)).await;
    let refused = other.puller.verify_signature(other.request(), trust(&pairs[0])).await.unwrap_err();
    assert_eq!(refused.reason(), "SignedFilesDiffer");
}

#[test]
fn keys_that_did_not_sign_are_refused_by_name() {
    let folder = vit();
    let refused = |key, signature: &str| verify(folder.path(), key, &signed(signature));
    assert_eq!(refused("p384.pem", "p256.sig"), (3, "SignedByAnotherKey".into()));
    assert_eq!(refused("p521.pem", "p256.sig"), (3, "BadPublicKey".into()));
    assert_eq!(refused("p256.sig", "p256.sig"), (3, "BadPublicKey".into()));
}

#[test]
fn signatures_that_were_tampered_with_are_refused_by_name() {
    let folder = vit();
    let good: Value = serde_json::from_slice(&fs::read(signed("p256.sig")).unwrap()).unwrap();
    let check = |change: &dyn Fn(&mut Value), named: &str| {
        let mut bundle = good.clone();
        change(&mut bundle);
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), bundle.to_string()).unwrap();
        assert_eq!(verify(folder.path(), "p256.pem", path.path()), (3, named.to_owned()));
    };
    let payload = |bundle: &mut Value, from: &str, to: &str| {
        let envelope = &mut bundle["dsseEnvelope"];
        let text = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(from), "{text}");
        envelope["payload"] = STANDARD.encode(text.replace(from, to)).into();
    };
    check(&|b| payload(b, "model.bin", "../evil.b"), "SignatureInvalid");
    check(&|b| payload(b, "\"files\"", "\"shard\""), "SignatureInvalid");
    check(&|b| b["dsseEnvelope"]["payloadType"] = "text/plain".into(), "SignatureMalformed");
    check(&|b| b["dsseEnvelope"]["signatures"] = Value::Array(vec![]), "SignatureMalformed");
    check(
        &|b| {
            let twice = b["dsseEnvelope"]["signatures"][0].clone();
            b["dsseEnvelope"]["signatures"] = Value::Array(vec![twice.clone(), twice]);
        },
        "SignatureMalformed",
    );
    check(
        &|b| b["dsseEnvelope"]["signatures"][0]["sig"] = STANDARD.encode([1; 70]).into(),
        "SignatureInvalid",
    );
    check(&|b| b["dsseEnvelope"]["signatures"][0]["sig"] = "?".into(), "SignatureMalformed");
    check(&|b| b["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.1+json".into(), "SignatureMalformed");
    check(&|b| b["verificationMaterial"]["publicKey"]["hint"] = "00".into(), "SignedByAnotherKey");
    check(&|b| *b = Value::Null, "SignatureMalformed");
}
