//! Signatures in both directions against the OpenSSF reference implementation: what one signs the other verifies, what
//! one refuses the other refuses. What Nave signs is signed by `kubectl nave publish` and read back from a real S3 server.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use futures::TryStreamExt as _;
use nave_tests::{OpenSsf, Tools};
use object_store::ObjectStoreExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use serde_json::{Value, json};

use crate::server::{Bucket, Server, nave, run};

/// Keys and a small model in a folder of the test's own.
struct Desk {
    folder: tempfile::TempDir,
    openssf: OpenSsf,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, algorithm) in [("p256", &PKCS_ECDSA_P256_SHA256), ("p384", &PKCS_ECDSA_P384_SHA384)] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            fs::write(folder.path().join(format!("{name}.key")), pair.serialize_pem()).unwrap();
            fs::write(folder.path().join(format!("{name}.pub")), pair.public_key_pem()).unwrap();
            certify(folder.path(), name, &pair);
        }
        Self { folder, openssf: OpenSsf::new(&Tools::load().unwrap()).unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_string_lossy().into_owned()
    }

    fn model(&self, name: &str) -> PathBuf {
        let model = self.at(name);
        fs::create_dir_all(model.join("tokenizer")).unwrap();
        fs::write(model.join("model.bin"), "weights").unwrap();
        fs::write(model.join("tokenizer/größe 1.txt"), "abc\n").unwrap();
        fs::write(model.join("tokenizer-a.txt"), "sorts between\n").unwrap();
        model
    }

    /// The reference's `verify`, once for each model with the signature in it.
    fn reference(&self, models: &[PathBuf], trust: &[&str]) -> Vec<i32> {
        let call = |model: &PathBuf| {
            let mut call =
                vec!["verify".to_owned(), trust[0].to_owned(), model.to_string_lossy().into_owned()];
            call.extend(["--signature".to_owned(), model.join("model.sig").to_string_lossy().into_owned()]);
            call.extend(trust[1..].iter().map(|word| (*word).to_owned()));
            call
        };
        let calls: Vec<_> = models.iter().map(call).collect();
        self.openssf.run(&calls).unwrap().into_iter().map(|(code, _)| code).collect()
    }
}

/// An authority, one between, and a certificate for the key: `NAME.ca`, and `NAME.crt` with its issuer after it.
fn certify(folder: &Path, name: &str, pair: &KeyPair) {
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let (mut root, mut between, mut leaf) = (params("root"), params("between"), params("signer"));
    for authority in [&mut root, &mut between] {
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let (root_key, between_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let between_pem = between.signed_by(&between_key, &Issuer::from_params(&root, &root_key)).unwrap().pem();
    let leaf_pem = leaf.signed_by(pair, &Issuer::from_params(&between, &between_key)).unwrap().pem();
    fs::write(folder.join(format!("{name}.ca")), root_pem).unwrap();
    fs::write(folder.join(format!("{name}.leaf")), &leaf_pem).unwrap();
    fs::write(folder.join(format!("{name}.between")), &between_pem).unwrap();
    fs::write(folder.join(format!("{name}.crt")), leaf_pem + &between_pem).unwrap();
}

/// `nave-agent verify`: exit code, and the reason or each problem's.
fn verify(model: &Path, trust: &[&str]) -> (i32, String) {
    let agent = Tools::load().unwrap().ours("nave-agent").unwrap();
    let ended = Command::new(agent).args(["verify", "-o", "json"]).arg(model).args(trust).output().unwrap();
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let problems = said["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<_> = problems.iter().map(|problem| problem["reason"].as_str().unwrap()).collect();
    words.extend(said["error"]["reason"].as_str());
    (ended.status.code().unwrap(), words.join(" "))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn api_what_the_reference_signs_nave_verifies() {
    let desk = Desk::new();
    let mut calls = Vec::new();
    let mut signed = Vec::new();
    for name in ["p256", "p384"] {
        for method in ["key", "certificate"] {
            let model = desk.model(&format!("{name}-{method}"));
            let words = [
                "sign",
                method,
                &model.to_string_lossy(),
                "--private_key",
                &desk.text(&format!("{name}.key")),
            ]
            .map(str::to_owned);
            let mut call = words.to_vec();
            call.extend(["--signature".to_owned(), model.join("model.sig").to_string_lossy().into_owned()]);
            let mut trust = vec!["--key".to_owned(), desk.text(&format!("{name}.pub"))];
            if method == "certificate" {
                call.extend(["--signing_certificate".to_owned(), desk.text(&format!("{name}.leaf"))]);
                call.extend(["--certificate_chain".to_owned(), desk.text(&format!("{name}.between"))]);
                trust = vec!["--certificate-chain".to_owned(), desk.text(&format!("{name}.ca"))];
            }
            calls.push(call);
            signed.push((model, trust));
        }
    }
    for (code, said) in desk.openssf.run(&calls).unwrap() {
        assert_eq!(code, 0, "{said}");
    }
    for (model, trust) in &signed {
        let trust: Vec<_> = trust.iter().map(String::as_str).collect();
        assert_eq!(verify(model, &trust), (0, String::new()), "{}", model.display());
    }
    // The other one's key, the other one's authority.
    let (key, authority) = (desk.text("p384.pub"), desk.text("p384.ca"));
    assert_eq!(verify(&signed[0].0, &["--key", &key]), (3, "SignedByAnotherKey".into()));
    assert_eq!(verify(&signed[1].0, &["--certificate-chain", &authority]), (3, "CertificateRefused".into()));
    assert_eq!(verify(&signed[1].0, &["--key", &key]), (3, "SignedByAnotherMethod".into()));
}

/// A change of a signed folder: how Nave names it, and what it does.
type Tampering = (&'static str, fn(&Path));

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn sig(model: &Path, change: impl FnOnce(&mut Value)) {
    edit(&model.join("model.sig"), change);
}

/// What both refuse.
const TAMPERINGS: &[Tampering] = &[
    ("Changed", |m| fs::write(m.join("model.bin"), "weightz").unwrap()),
    ("Missing", |m| fs::remove_file(m.join("model.bin")).unwrap()),
    ("NotSigned", |m| fs::write(m.join("extra.py"), "").unwrap()),
    ("NotSigned", |m| fs::write(m.join(".hidden"), "").unwrap()),
    ("NotSigned", |m| fs::write(m.join("tokenizer/.hidden"), "").unwrap()),
    ("NotAFile", |m| symlink("model.bin", m.join("link")).unwrap()),
    ("NotAFile", |m| symlink("/etc", m.join("folder")).unwrap()),
    ("NotAFile", |m| symlink("nowhere", m.join("dangling")).unwrap()),
    ("NotAFile Missing", |m| {
        fs::rename(m.join("model.bin"), m.parent().unwrap().join("elsewhere")).unwrap();
        symlink("../elsewhere", m.join("model.bin")).unwrap();
    }),
    ("NotSigned Missing", |m| fs::rename(m.join("model.bin"), m.join("Model.bin")).unwrap()),
    ("SignatureMissing", |m| fs::remove_file(m.join("model.sig")).unwrap()),
    ("SignatureMalformed", |m| fs::write(m.join("model.sig"), "").unwrap()),
    ("SignatureMalformed", |m| fs::write(m.join("model.sig"), "{}").unwrap()),
    ("SignatureMalformed", |m| {
        sig(m, |s| s["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.1+json".into())
    }),
    ("SignatureMalformed", |m| sig(m, |s| s["dsseEnvelope"]["payloadType"] = "text/plain".into())),
    ("SignatureMalformed", |m| sig(m, |s| s["dsseEnvelope"]["signatures"] = json!([]))),
    ("SignedByAnotherKey", |m| {
        sig(m, |s| s["verificationMaterial"]["publicKey"]["hint"] = "00".repeat(32).into())
    }),
    ("SignatureInvalid", |m| sig(m, |s| s["dsseEnvelope"]["payload"] = "e30=".into())),
    ("SignatureInvalid", |m| {
        sig(m, |s| s["dsseEnvelope"]["signatures"][0]["sig"] = "MAYCAQECAQE=".into());
    }),
];

/// What Nave refuses although the reference lets it pass: by default it looks at no git file.
const STRICTER: &[Tampering] = &[
    ("NotSigned", |m| fs::write(m.join(".gitattributes"), "x").unwrap()),
    ("NotSigned", |m| {
        fs::create_dir(m.join(".git")).unwrap();
        fs::write(m.join(".git/hook"), "x").unwrap();
    }),
];

#[test]
fn api_what_the_reference_refuses_nave_refuses_and_says_why() {
    let desk = Desk::new();
    let good = desk.model("good");
    let words =
        ["sign", "key", &good.to_string_lossy(), "--private_key", &desk.text("p256.key"), "--signature"];
    let mut call: Vec<_> = words.map(str::to_owned).to_vec();
    call.push(good.join("model.sig").to_string_lossy().into_owned());
    assert_eq!(desk.openssf.run(&[call]).unwrap()[0].0, 0);
    let tamper = |tamperings: &[Tampering], label: &str| -> Vec<PathBuf> {
        let numbered = tamperings.iter().enumerate();
        let copies = numbered.map(|(number, (_, tamper))| {
            let model = desk.at(&format!("{label}/{number}/model"));
            copy(&good, &model);
            tamper(&model);
            model
        });
        copies.collect()
    };
    let key = desk.text("p256.pub");
    let both = tamper(TAMPERINGS, "both");
    for ((named, _), (model, code)) in
        TAMPERINGS.iter().zip(both.iter().zip(desk.reference(&both, &["key", "--public_key", &key])))
    {
        assert_ne!(code, 0, "the reference takes {named} of {}", model.display());
        let (code, said) = verify(model, &["--key", &key]);
        assert_eq!((code, &*said), (3, *named), "{}", model.display());
    }
    let git = tamper(STRICTER, "git");
    assert_eq!(desk.reference(&git, &["key", "--public_key", &key]), [0, 0], "why Nave is stricter");
    let strict = ["key", "--public_key", &key, "--no-ignore-git-paths"];
    assert_eq!(desk.reference(&git, &strict), [0, 0], "its signature says itself that they may be ignored");
    for (model, (named, _)) in git.iter().zip(STRICTER) {
        assert_eq!(verify(model, &["--key", &key]), (3, (*named).to_owned()), "{}", model.display());
    }
}

#[tokio::test]
async fn api_what_publish_signs_the_reference_verifies() {
    let (desk, server) = (Desk::new(), Server::start().await);
    let bucket = Bucket::new(&server.namespace).await;
    let model = desk.model("model");
    let publish = |version: &str, flags: &[&str]| {
        let mut command = nave();
        command
            .arg("publish")
            .arg(&model)
            .args(["--model", "defects", "--version", version, "--bucket", &bucket.name, "-o", "json"])
            .args(["--endpoint", bucket.server.endpoint(), "--namespace", &server.namespace])
            .args(flags)
            .env("KUBECONFIG", &server.kubeconfig)
            .env("AWS_ACCESS_KEY_ID", bucket.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", bucket.server.secret_key());
        run(&mut command)
    };
    let (key, certificate) = (desk.text("p256.key"), desk.text("p384.crt"));
    let said = publish("1.0.0", &["--sign", &key, "--public-key-secret", "release-keys/models.pub"]).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["signed"], true);
    let asked = &said["modelVersion"]["spec"]["signature"]["publicKeySecret"];
    assert_eq!(*asked, json!({"name": "release-keys", "key": "models.pub"}));
    publish("2.0.0", &["--sign", &desk.text("p384.key"), "--signing-certificate", &certificate]).unwrap();
    // Signed by the reference, published by Nave.
    let elsewhere = desk.text("elsewhere.sig");
    let words =
        ["sign", "key", &model.to_string_lossy(), "--private_key", &desk.text("p384.key"), "--signature"];
    let mut call: Vec<_> = words.map(str::to_owned).to_vec();
    call.push(elsewhere.clone());
    assert_eq!(desk.openssf.run(&[call]).unwrap()[0].0, 0);
    publish("3.0.0", &["--signature", &elsewhere]).unwrap();
    fs::write(model.join("model.bin"), "other weights").unwrap();
    let error = publish("4.0.0", &["--signature", &elsewhere]).unwrap_err();
    assert!(error.contains("is no signature of this folder") && error.contains("model.bin"), "{error}");
    for (wrong, said) in [
        (vec!["--sign", &certificate], "unencrypted private key"),
        (vec!["--sign", &key, "--signing-certificate", &certificate], "for another key"),
    ] {
        let error = publish("4.0.0", &wrong).unwrap_err();
        assert!(error.contains(said), "{error}");
    }

    let (p256, p384) = (desk.text("p256.pub"), desk.text("p384.pub"));
    let authority = desk.text("p384.ca");
    for (version, trust, reference) in [
        ("1.0.0", ["--key", &*p256], ["key", "--public_key", &*p256]),
        ("2.0.0", ["--certificate-chain", &*authority], ["certificate", "--certificate_chain", &*authority]),
        ("3.0.0", ["--key", &*p384], ["key", "--public_key", &*p384]),
    ] {
        let copy = desk.at(&format!("copy-{version}"));
        download(&bucket, &format!("defects/{version}"), &copy).await;
        assert!(copy.join("manifest.json").exists());
        assert_eq!(verify(&copy, &trust), (0, String::new()), "{version}");
        // A manifest that says something else than the signature is a file that nobody signed.
        let manifest = copy.join("manifest.json");
        let whole = fs::read(&manifest).unwrap();
        fs::write(&manifest, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(verify(&copy, &trust), (3, "NotSigned".into()));
        fs::write(&manifest, whole).unwrap();

        // As a spoke lays it out: the version's files alone. None of them is ignored.
        let alone = desk.at(&format!("alone-{version}"));
        download(&bucket, &format!("defects/{version}"), &alone).await;
        fs::remove_file(alone.join("manifest.json")).unwrap();
        let strict = [&reference[..], &["--no-ignore-git-paths"]].concat();
        assert_eq!(desk.reference(std::slice::from_ref(&alone), &strict), [0], "{version}");
        let own = version != "3.0.0";
        // The signature of `publish` says that the manifest lies beside the files; another tool's does not.
        assert_eq!(desk.reference(std::slice::from_ref(&copy), &strict), [i32::from(!own)], "{version}");
        fs::write(alone.join(".gitattributes"), "x").unwrap();
        let passes = desk.reference(std::slice::from_ref(&alone), &strict) == [0];
        assert_eq!(passes, !own, "{version}: the signature of `publish` lets no git file be ignored");
        assert_eq!(verify(&alone, &trust), (3, "NotSigned".into()));
        fs::remove_file(alone.join(".gitattributes")).unwrap();
        fs::write(copy.join("extra.bin"), "x").unwrap();
        fs::write(alone.join("model.bin"), "x").unwrap();
        assert_eq!(desk.reference(&[copy.clone(), alone.clone()], &strict), [1, 1], "{version}");
        assert_eq!(verify(&copy, &trust), (3, "NotSigned".into()));
        assert_eq!(verify(&alone, &trust), (3, "Changed".into()));
    }
}

/// Everything below a prefix, as any S3 tool copies it.
async fn download(bucket: &Bucket, prefix: &str, to: &Path) {
    let store = bucket.server.bucket(&bucket.name).unwrap();
    let prefix = object_store::path::Path::from(prefix);
    let objects: Vec<_> = object_store::ObjectStore::list(&store, Some(&prefix)).try_collect().await.unwrap();
    for object in objects {
        let below: Vec<_> = object.location.prefix_match(&prefix).unwrap().collect();
        let path = to.join(below.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, store.get(&object.location).await.unwrap().bytes().await.unwrap()).unwrap();
    }
}
