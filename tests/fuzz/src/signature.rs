//! Signature bundles: what a good signature says is what the bundle lists, and what is listed are paths below a folder.

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nave_names::{Digest, RelativePath};
use nave_signature::{SigningKey, Trust, listed_files};
use serde_json::Value;

/// Of this process alone: a target needs some key, and keeps none.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap()
});
static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::from_pem(KEY.public_pem().as_bytes()).unwrap());

/// `nave_signature::listed_files` and `Trust::verify`. First byte `B`: a bundle; any other: the statement inside of one, which
/// base64 would keep from being changed well.
pub fn signature(bytes: &[u8]) -> bool {
    let bundle = match bytes.split_first() {
        Some((b'B', bundle)) => bundle.to_vec(),
        Some((_, statement)) => {
            let mut bundle: Value = serde_json::from_slice(&signed()).unwrap();
            bundle["dsseEnvelope"]["payload"] = STANDARD.encode(statement).into();
            serde_json::to_vec(&bundle).unwrap()
        }
        None => return false,
    };
    let listed = listed_files(&bundle);
    if let Ok(good) = TRUST.verify(&bundle) {
        assert_eq!(Ok(good.files), listed, "what was signed is what is listed");
    }
    // A key's text may come from anywhere, too.
    drop(Trust::from_pem(&bundle));
    let Ok(files) = listed else { return false };
    assert!(!files.is_empty());
    assert!(files.keys().all(|path| path.parts().all(|part| !matches!(part, "" | "." | ".."))));
    true
}

fn signed() -> Vec<u8> {
    let paths = ["config.json", "onnx/model.onnx"];
    let files: BTreeMap<_, _> =
        paths.map(|path| (RelativePath::new(path).unwrap(), Digest::of(path.as_bytes()))).into();
    KEY.sign("model", &files, &["model.sig"]).unwrap()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bundle = signed();
    assert!(TRUST.verify(&bundle).is_ok());
    let value: Value = serde_json::from_slice(&bundle).unwrap();
    let statement = STANDARD.decode(value["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    vec![[&b"B"[..], &bundle].concat(), [&b"S"[..], &statement].concat()]
}
