//! Where the CA is kept: a Secret in the hub's namespace, made by whichever replica comes first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};

use super::authority::{Authority, Material, PkiError};

/// `type` of the CA's Secret.
const SECRET_TYPE: &str = "nave.dev/ca";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const BUNDLE: &str = "ca-bundle.crt";

/// The CA could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CaSecretError {
    /// The API server did not give it or take it.
    #[error("cannot {action} Secret {namespace}/{name} with the CA; may the hub's ServiceAccount do that?")]
    Api {
        /// `read` or `create`.
        action: &'static str,
        /// The hub's namespace.
        namespace: String,
        /// The Secret.
        name: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// It is there, and no CA.
    #[error("Secret {namespace}/{name} holds no usable CA")]
    Unusable {
        /// The hub's namespace.
        namespace: String,
        /// The Secret.
        name: String,
        /// What is the matter.
        #[source]
        source: PkiError,
    },
}

/// Reads the CA, or makes one. Of several replicas that start at once one creates it and all read the same.
///
/// # Errors
/// [`CaSecretError`]. A Secret that is there is never overwritten, however broken.
pub async fn load_or_create(client: Client, namespace: &str, name: &str) -> Result<Authority, CaSecretError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let failed = |action, source| CaSecretError::Api {
        action,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let unusable =
        |source| CaSecretError::Unusable { namespace: namespace.to_owned(), name: name.to_owned(), source };
    if let Some(secret) = api.get_opt(name).await.map_err(|e| failed("read", e))? {
        return Authority::new(&material(&secret)).map_err(unusable);
    }
    let fresh = Authority::generate(Timestamp::now()).map_err(unusable)?;
    match api.create(&PostParams::default(), &secret_of(name, &fresh)).await {
        Ok(_) => {
            tracing::info!(secret = name, "created the certificate authority");
            Authority::new(&fresh).map_err(unusable)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let secret = api.get(name).await.map_err(|e| failed("read", e))?;
            Authority::new(&material(&secret)).map_err(unusable)
        }
        Err(error) => Err(failed("create", error)),
    }
}

fn secret_of(name: &str, material: &Material) -> Secret {
    let mut secret = Secret { type_: Some(SECRET_TYPE.to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.data = Some(BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(material.certificate.clone().into_bytes())),
        (KEY.to_owned(), ByteString(material.key.clone().into_bytes())),
    ]));
    secret
}

fn material(secret: &Secret) -> Material {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    Material { certificate: text(CERTIFICATE), key: text(KEY), bundle: text(BUNDLE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let fresh = Authority::generate(Timestamp::now()).unwrap();
        let read = material(&secret_of("nave-ca", &fresh));
        assert_eq!(Authority::new(&read).unwrap().hash(), Authority::new(&fresh).unwrap().hash());
    }

    #[test]
    fn a_secret_without_keys_is_named_by_part() {
        let error = Authority::new(&material(&Secret::default())).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }
}
