//! What counts as a signature and what does not, without the reference implementation: `tests/tests/api/signatures.rs` has that.

#![allow(clippy::unwrap_in_result)] // Helpers of tests are not seen as tests.

use std::collections::BTreeMap;

use nave_names::{Digest, RelativePath};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use rustls::{SignatureScheme, crypto::ring::sign::any_ecdsa_type};
use serde_json::{Value, json};

use super::{
    SignatureError, SigningKey, Trust, statement,
    wire::{self, KeyIdentifier, Material},
};

fn files(named: &[(&str, &str)]) -> BTreeMap<RelativePath, Digest> {
    named
        .iter()
        .map(|(path, text)| (RelativePath::new(*path).unwrap(), Digest::of(text.as_bytes())))
        .collect()
}

fn key(pair: &KeyPair) -> SigningKey {
    SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap()
}

/// A rightly signed statement about two files, changed before it is signed.
fn signed_after(change: impl FnOnce(&mut Value)) -> Result<usize, SignatureError> {
    let pair = KeyPair::generate().unwrap();
    let payload = statement::write("vit", &files(&[("a", "1"), ("b/c", "2")]), &[]);
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    change(&mut payload);
    let payload = payload.to_string().into_bytes();
    let der = rustls::pki_types::PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let signer =
        any_ecdsa_type(&der).unwrap().choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let signature = signer.sign(&wire::pre_authentication(&payload)).unwrap();
    let material = Material { public_key: Some(KeyIdentifier { hint: None }), ..Material::default() };
    let trust = Trust::from_pem(pair.public_key_pem().as_bytes()).unwrap();
    trust.verify(&wire::pack(material, &payload, &signature)).map(|signed| signed.files.len())
}

#[test]
fn what_is_signed_is_verified_by_its_key_and_no_other() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let listed = files(&[("a", "1"), ("a-b", "2"), ("a/b", "3")]);
        let signature = key(&pair).sign("vit", &listed, &["manifest.json"]).unwrap();
        assert_eq!(key(&pair).public_pem(), pair.public_key_pem().replace("\r\n", "\n"));
        let trust = Trust::from_pem(pair.public_key_pem().as_bytes()).unwrap();
        assert_eq!(trust.verify(&signature).unwrap().files, listed);
        let other = KeyPair::generate_for(algorithm).unwrap();
        let other = Trust::from_pem(other.public_key_pem().as_bytes()).unwrap();
        assert_eq!(other.verify(&signature).unwrap_err().name(), "SignedByAnotherKey");
    }
}

#[test]
fn a_right_signature_over_a_wrong_statement_is_refused() {
    let refused = |change: fn(&mut Value)| {
        assert_eq!(signed_after(change).unwrap_err().name(), "SignedStatementRefused");
    };
    let name = |s: &mut Value, name: &str| s["predicate"]["resources"][0]["name"] = name.into();
    assert_eq!(signed_after(|_| {}), Ok(2));
    assert_eq!(signed_after(|s| name(s, "other")), Ok(2), "the root digest is over digests alone");
    refused(|s| s["predicate"]["resources"][0]["name"] = "../a".into());
    refused(|s| s["predicate"]["resources"][0]["name"] = "/etc/passwd".into());
    refused(|s| s["predicate"]["resources"][0]["name"] = "b\\..\\c".into());
    refused(|s| s["predicate"]["resources"][0]["name"] = "b/c".into());
    refused(|s| s["predicate"]["resources"] = json!([]));
    refused(|s| {
        s["predicate"]["resources"] = json!([]);
        s["subject"][0]["digest"]["sha256"] = Digest::of(b"").to_hex().into();
    });
    refused(|s| s["_type"] = "https://in-toto.io/Statement/v0.1".into());
    refused(|s| s["predicateType"] = "https://model_signing/Digests/v0.1".into());
    refused(|s| s["predicate"]["serialization"]["method"] = "shards".into());
    refused(|s| s["predicate"]["serialization"]["hash_type"] = "blake2b".into());
    refused(|s| s["predicate"]["resources"][0]["algorithm"] = "blake2".into());
    refused(|s| s["subject"][0]["digest"]["sha256"] = "00".into());
    refused(|s| s["subject"] = json!([]));
}

#[test]
fn signed_files_are_compared_both_ways() {
    let pair = KeyPair::generate().unwrap();
    let signature = key(&pair).sign("vit", &files(&[("a", "1"), ("b", "2")]), &[]).unwrap();
    let signed = Trust::from_pem(pair.public_key_pem().as_bytes()).unwrap().verify(&signature).unwrap();
    signed.check_covers(&files(&[("a", "1"), ("b", "2")])).unwrap();
    for (there, said) in [
        (files(&[("a", "1")]), "b was signed, and is not there"),
        (files(&[("a", "1"), ("b", "2"), ("c", "3")]), "c was not signed"),
        (files(&[("a", "1"), ("b", "9")]), "b was signed as"),
    ] {
        let error = signed.check_covers(&there).unwrap_err();
        assert!(error.name() == "SignedFilesDiffer" && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let pair = KeyPair::generate().unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for (text, said) in [
        (String::new(), "not PEM"),
        (pair.serialize_pem(), "PEM of a PRIVATE KEY"),
        (ed25519.public_key_pem(), "curve"),
    ] {
        let error = Trust::from_pem(text.as_bytes()).unwrap_err();
        assert!(error.name() == "BadPublicKey" && error.to_string().contains(said), "{error}");
    }
    for (text, said) in [
        (pair.public_key_pem(), "unencrypted private key"),
        (ed25519.serialize_pem(), "not a P-256 or P-384"),
    ] {
        let error = SigningKey::from_pem(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// An authority, something between, and a signer; each changed by the test before it is made.
struct Pki {
    root: (CertificateParams, KeyPair),
    between: (CertificateParams, KeyPair),
    leaf: (CertificateParams, KeyPair),
}

impl Pki {
    fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            (params, KeyPair::generate().unwrap())
        };
        let (mut root, mut between, mut leaf) = (params("root"), params("between"), params("signer"));
        for authority in [&mut root.0, &mut between.0] {
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }
        leaf.0.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Self { root, between, leaf }
    }

    /// The authority's PEM and what the signer signed.
    fn sign(&self) -> (String, Vec<u8>) {
        let root = self.root.0.self_signed(&self.root.1).unwrap();
        let issuer = Issuer::from_params(&self.root.0, &self.root.1);
        let between = self.between.0.signed_by(&self.between.1, &issuer).unwrap();
        let issuer = Issuer::from_params(&self.between.0, &self.between.1);
        let leaf = self.leaf.0.signed_by(&self.leaf.1, &issuer).unwrap();
        let chain = [leaf.pem(), between.pem()].concat();
        let key = key(&self.leaf.1).with_certificates(chain.as_bytes()).unwrap();
        (root.pem(), key.sign("vit", &files(&[("a", "1")]), &[]).unwrap())
    }

    fn outcome(&self) -> Result<String, &'static str> {
        let (root, signature) = self.sign();
        let trust = Trust::from_pem(root.as_bytes()).unwrap();
        trust.verify(&signature).map(|signed| signed.signer).map_err(|error| error.name())
    }
}

#[test]
fn a_certificate_counts_if_its_chain_ends_at_a_trusted_authority() {
    let pki = Pki::new();
    assert_eq!(pki.outcome(), Ok("certificate CN=signer".to_owned()));
    let (root, signature) = pki.sign();
    let (stranger, _) = Pki::new().sign();
    let error = Trust::from_pem(stranger.as_bytes()).unwrap().verify(&signature).unwrap_err();
    assert_eq!(error.name(), "CertificateRefused");
    let both = Trust::from_pem([stranger, root.clone()].concat().as_bytes()).unwrap();
    both.verify(&signature).unwrap();

    let by_key = Trust::from_pem(pki.leaf.1.public_key_pem().as_bytes()).unwrap();
    assert_eq!(by_key.verify(&signature).unwrap_err().name(), "SignedByAnotherMethod");
    let key_signature = key(&pki.leaf.1).sign("vit", &files(&[("a", "1")]), &[]).unwrap();
    let trust = Trust::from_pem(root.as_bytes()).unwrap();
    assert_eq!(trust.verify(&key_signature).unwrap_err().name(), "SignedByAnotherMethod");

    let other = key(&KeyPair::generate().unwrap());
    let leaf = pki.leaf.0.self_signed(&pki.leaf.1).unwrap();
    assert!(other.with_certificates(leaf.pem().as_bytes()).is_err(), "a certificate for another key");
}

#[test]
fn certificates_that_may_not_sign_or_issue_are_refused() {
    let refused = |change: &dyn Fn(&mut Pki)| {
        let mut pki = Pki::new();
        change(&mut pki);
        assert_eq!(pki.outcome(), Err("CertificateRefused"));
    };
    refused(&|pki| pki.leaf.0.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    refused(&|pki| pki.leaf.0.key_usages.clear());
    refused(&|pki| pki.between.0.is_ca = IsCa::NoCa);
    refused(&|pki| pki.between.0.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    refused(&|pki| pki.root.0.is_ca = IsCa::ExplicitNoCa);
    // What has ended before the signer's certificate began does not count; what ends later does.
    for (authority, year, counts) in
        [("root", 1999, false), ("between", 1999, false), ("between", 2021, true)]
    {
        let mut pki = Pki::new();
        pki.leaf.0.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let authority = if authority == "root" { &mut pki.root } else { &mut pki.between };
        authority.0.not_after = rcgen::date_time_ymd(year, 1, 1);
        assert_eq!(pki.outcome().is_ok(), counts, "{year}");
    }
    let mut pki = Pki::new();
    pki.leaf.0.key_usages.clear();
    pki.leaf.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    assert!(pki.outcome().is_ok(), "code signing is enough");
}

#[test]
fn where_only_code_signers_count_a_client_certificate_does_not() {
    let mut pki = Pki::new();
    pki.leaf.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(pki.outcome().is_ok());
    let (root, signature) = pki.sign();
    let strict = Trust::code_signers_of(root.as_bytes()).unwrap();
    assert_eq!(strict.verify(&signature).unwrap_err().name(), "CertificateRefused");
    pki.leaf.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let (root, signature) = pki.sign();
    Trust::code_signers_of(root.as_bytes()).unwrap().verify(&signature).unwrap();
}
