//! The hub's CA as spokes pin it: SHA-256 of the certificate's SubjectPublicKeyInfo, as kubeadm has it.

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use nave_names::Digest;
use x509_parser::pem::Pem;

use crate::{connection::Connected, failure};

/// The Secret's key with the certificate, PEM.
const CERTIFICATE_KEY: &str = "ca.crt";

/// Reads the CA's Secret and hashes its key.
pub(crate) async fn fetch_ca_hash(hub: &Connected, secret_name: &str) -> anyhow::Result<Digest> {
    let namespace = hub.hub_namespace();
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    let secret = match secrets.get(secret_name).await {
        Ok(secret) => secret,
        Err(error) if failure::is_not_found(&error) => {
            return Err(anyhow!(
                "Secret {namespace}/{secret_name} not found: the hub makes it when it first starts; is nave-operator \
                 running there? (--namespace names the hub's namespace, --ca-secret the Secret)"
            ));
        }
        Err(error) => {
            return Err(failure::said(error))
                .with_context(|| format!("reading the hub's CA from Secret {namespace}/{secret_name}"));
        }
    };
    let pem = secret.data.as_ref().and_then(|data| data.get(CERTIFICATE_KEY)).ok_or_else(|| {
        anyhow!("Secret {namespace}/{secret_name} has no {CERTIFICATE_KEY}: it is not a hub's CA")
    })?;
    hash_of_key(&pem.0)
        .with_context(|| format!("reading {CERTIFICATE_KEY} of Secret {namespace}/{secret_name}"))
}

fn hash_of_key(pem: &[u8]) -> anyhow::Result<Digest> {
    let first = Pem::iter_from_buffer(pem).next().ok_or_else(|| anyhow!("no certificate in PEM form"))??;
    let certificate = first.parse_x509()?;
    Ok(Digest::of(certificate.public_key().raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum
    #[test]
    fn the_hash_is_what_openssl_says() {
        let pem = include_bytes!("../tests/ca.crt");
        let expected = include_str!("../tests/ca.spki.sha256").trim();
        assert_eq!(hash_of_key(pem).unwrap().to_string(), format!("sha256:{expected}"));
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        assert!(hash_of_key(b"nothing").is_err());
    }
}
