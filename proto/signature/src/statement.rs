//! The in-toto statement with the predicate of Model Signing v1.0: which files, by SHA-256.

use std::collections::BTreeMap;

use nave_names::{Digest, RelativePath};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::SignatureError;

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const SHA256: &str = "sha256";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// The statement about these files. `ignored` are paths beside them that a verifier shall not take for content.
pub(crate) fn write(name: &str, files: &BTreeMap<RelativePath, Digest>, ignored: &[&str]) -> Vec<u8> {
    let mut sorted: Vec<_> = files.iter().collect();
    // By the parts of the path, as the reference implementation has it.
    sorted.sort_by(|(a, _), (b, _)| a.parts().cmp(b.parts()));
    let mut root = Sha256::new();
    let resources = sorted.into_iter().map(|(path, sha256)| {
        root.update(sha256.as_bytes());
        Resource { name: path.to_string(), algorithm: SHA256.to_owned(), digest: sha256.to_hex() }
    });
    let resources = resources.collect();
    let digest = BTreeMap::from([(SHA256.to_owned(), hex::encode(root.finalize()))]);
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject { name: name.to_owned(), digest }],
        predicate_type: PREDICATE.to_owned(),
        predicate: Predicate {
            serialization: Serialization {
                method: METHOD.to_owned(),
                hash_type: SHA256.to_owned(),
                allow_symlinks: false,
                ignore_paths: ignored.iter().map(|path| (*path).to_owned()).collect(),
            },
            resources,
        },
    };
    // Strings into memory: serde_json has no error to give for these.
    serde_json::to_vec(&statement).unwrap_or_default()
}

/// The files of a statement whose signature was checked. What it says may be ignored is not looked at: whatever is not
/// listed was not signed.
pub(crate) fn read(payload: &[u8]) -> Result<BTreeMap<RelativePath, Digest>, SignatureError> {
    let refused = |what: String| SignatureError::Statement(what);
    let statement: Statement = serde_json::from_slice(payload).map_err(|error| refused(error.to_string()))?;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        let (kind, predicate) = (statement.kind, statement.predicate_type);
        return Err(refused(format!("it is a {kind:?} about {predicate:?}")));
    }
    let predicate = statement.predicate;
    if predicate.serialization.method != METHOD || predicate.serialization.hash_type != SHA256 {
        let (method, hash) = (predicate.serialization.method, predicate.serialization.hash_type);
        return Err(refused(format!(
            "files are listed by {method:?} with {hash:?}, expected {METHOD} with {SHA256}"
        )));
    }
    let [subject] = &statement.subject[..] else {
        return Err(refused(format!("it has {} subjects instead of one", statement.subject.len())));
    };
    let mut files = BTreeMap::new();
    let mut root = Sha256::new();
    for resource in predicate.resources {
        let path = RelativePath::new(resource.name).map_err(|error| refused(error.to_string()))?;
        let sha256: Digest = format!("{}:{}", resource.algorithm, resource.digest)
            .parse()
            .map_err(|error| refused(format!("file {path}: {error}")))?;
        root.update(sha256.as_bytes());
        if files.insert(path.clone(), sha256).is_some() {
            return Err(refused(format!("file {path} is listed twice")));
        }
    }
    if files.is_empty() {
        return Err(refused("it names no file".to_owned()));
    }
    if subject.digest.get(SHA256) != Some(&hex::encode(root.finalize())) {
        return Err(refused("its root digest is not that of its files".to_owned()));
    }
    Ok(files)
}
