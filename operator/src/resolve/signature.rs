//! Whether a version is signed as its spec asks: the key from the Secret, `model.sig` from beside the files, both against
//! the manifest. Anything that is missing or does not fit is a reason, never a pass.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use nave_crds::{SecretKeyReference, VerifiedSignature};
use nave_manifest::Manifest;
use nave_signature::{SIGNATURE_FILE, SignatureError, Trust};

use super::{error::ResolveError, manifest::Prefix, source::SourceError, status::Signed};

/// What the signature of these files says.
///
/// # Errors
/// [`ResolveError`] where the API server or S3 does not answer.
pub async fn check(
    client: &Client,
    namespace: &str,
    reference: &SecretKeyReference,
    prefix: &Prefix<'_>,
    manifest: &Manifest,
) -> Result<Signed, ResolveError> {
    let unverified = |reason, message| Ok(Signed::Unverified { reason, message });
    let place = format!("Secret {namespace}/{}", reference.name);
    let Some(pem) = fetch_key(client, namespace, reference).await? else {
        return unverified("PublicKeyMissing", format!("{place} has no key {}", reference.key));
    };
    let trust = match Trust::from_pem(pem.as_bytes()) {
        Ok(trust) => trust,
        Err(error) => return unverified(error.name(), format!("{place}, key {}: {error}", reference.key)),
    };
    let Some(signature) = prefix.read_signature().await? else {
        let message =
            format!("there is no {SIGNATURE_FILE} beside the files; sign with kubectl nave publish --sign");
        return unverified("SignatureMissing", message);
    };
    match judge(&signature, &trust, manifest) {
        Ok(signer) => Ok(Signed::Verified(VerifiedSignature { public_key: pem, signer })),
        Err(error) => unverified(error.name(), error.to_string()),
    }
}

fn judge(signature: &[u8], trust: &Trust, manifest: &Manifest) -> Result<String, SignatureError> {
    let signed = trust.verify(signature)?;
    signed.check_covers(manifest.files().iter().map(|file| (&file.path, &file.sha256)))?;
    Ok(signed.signer)
}

async fn fetch_key(
    client: &Client,
    namespace: &str,
    reference: &SecretKeyReference,
) -> Result<Option<String>, SourceError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get_opt(&reference.name).await.map_err(|source| {
        let forbidden = matches!(&source, kube::Error::Api(status) if status.code == 403);
        let hint = if forbidden { "; may the ServiceAccount get Secrets in this namespace?" } else { "" };
        let (namespace, name) = (namespace.to_owned(), reference.name.clone());
        SourceError::SecretUnreadable { namespace, name, hint, source: Box::new(source) }
    })?;
    let value = secret.and_then(|secret| secret.data?.remove(&reference.key));
    Ok(value.map(|bytes| String::from_utf8_lossy(&bytes.0).trim().to_owned() + "\n"))
}

#[cfg(test)]
mod tests {
    use nave_manifest::FileHasher;
    use nave_names::RelativePath;
    use nave_signature::SigningKey;
    use rcgen::KeyPair;

    use super::*;

    fn manifest(weights: &[u8]) -> Manifest {
        let mut hasher = FileHasher::new(RelativePath::new("weights").unwrap());
        hasher.update(weights);
        Manifest::new(vec![hasher.finish()]).unwrap()
    }

    #[test]
    fn a_right_signature_of_other_files_is_none() {
        let pair = KeyPair::generate().unwrap();
        let key = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let trust = Trust::from_pem(pair.public_key_pem().as_bytes()).unwrap();
        let signed = manifest(b"right");
        let listed = signed.files().iter().map(|file| (file.path.clone(), file.sha256)).collect();
        let signature = key.sign("vit", &listed, &[]).unwrap();
        assert!(judge(&signature, &trust, &signed).is_ok());
        let refused = judge(&signature, &trust, &manifest(b"wrong")).unwrap_err();
        assert_eq!(refused.name(), "SignedFilesDiffer");
    }
}
