//! Who signs a bundle: a key of the user's, or the hub's certificate authority, which every spoke that joined trusts
//! already. For the latter a certificate for signing code is made for this one export; its key is never stored.

use std::{fmt, path::PathBuf, time::SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use nave_signature::SigningKey;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    connection::{Connected, HUB_NAMESPACE},
    failure,
    publish::sign::read_key,
};

/// Signatures count by the moment at which the certificate began; this only has to be longer than nothing.
const LIFE: std::time::Duration = std::time::Duration::from_secs(3600);

/// How to sign.
#[derive(Debug, Args)]
pub(super) struct Signer {
    /// PEM of a P-256 or P-384 private key to sign with; otherwise the hub's certificate authority signs, and every spoke
    /// that has joined can check it
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// PEM of that key's certificate, then those between it and its authority
    #[arg(long, value_name = "FILE", requires = "sign")]
    signing_certificate: Vec<PathBuf>,
    /// Namespace of the hub, for its authority
    #[arg(long, value_name = "NAME", default_value = HUB_NAMESPACE)]
    hub_namespace: String,
    /// Secret with the hub's certificate authority
    #[arg(long, value_name = "NAME", default_value = "nave-ca")]
    ca_secret: String,
}

/// Whose signature it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum SignedBy {
    Key,
    Certificate,
    HubAuthority,
}

impl fmt::Display for SignedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "the key of --sign",
            Self::Certificate => "the certificate of --signing-certificate",
            Self::HubAuthority => "the hub's certificate authority",
        })
    }
}

/// A key that signs, and whose it is.
pub(super) struct Signing {
    pub(super) key: SigningKey,
    pub(super) by: SignedBy,
}

impl Signer {
    /// The user's key, so that a wrong one is told first.
    pub(super) fn given(&self) -> anyhow::Result<Option<SigningKey>> {
        let Some(path) = &self.sign else { return Ok(None) };
        read_key(path, &self.signing_certificate).map(Some)
    }

    /// The user's key, or one that the hub's authority vouches for.
    pub(super) async fn key(&self, given: Option<SigningKey>, hub: &Connected) -> anyhow::Result<Signing> {
        if let Some(key) = given {
            let by = if self.signing_certificate.is_empty() { SignedBy::Key } else { SignedBy::Certificate };
            return Ok(Signing { key, by });
        }
        let (namespace, name) = (&self.hub_namespace, &self.ca_secret);
        let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
        let secret = secrets.get(name).await.map_err(failure::said).with_context(|| {
            format!("reading the hub's authority from Secret {namespace}/{name}; --sign KEY signs without it")
        })?;
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
            text.ok_or_else(|| anyhow!("Secret {namespace}/{name} has no {key}: it is not a hub's CA"))
        };
        let key = issue(&text("ca.crt")?, &text("ca.key")?, SystemTime::now());
        let key = key.with_context(|| format!("making a certificate with Secret {namespace}/{name}"))?;
        Ok(Signing { key, by: SignedBy::HubAuthority })
    }
}

/// A new key, and a certificate by which it may sign.
fn issue(authority: &str, authority_key: &str, now: SystemTime) -> anyhow::Result<SigningKey> {
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).context("reading ca.crt")?;
    let key = KeyPair::from_pem(authority_key).context("reading ca.key")?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key).context("reading ca.crt")?;
    let (_, parsed) = X509Certificate::from_der(&certificate).context("reading ca.crt")?;
    let authority_began = parsed.validity().not_before.to_datetime();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Nave bundle");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    // It is judged at its beginning, and its authority has to be valid then, whatever this machine's clock says.
    params.not_before = authority_began.max(now.into());
    params.not_after = params.not_before + LIFE;
    let pair = KeyPair::generate()?;
    let issued = params.signed_by(&pair, &issuer)?;
    Ok(SigningKey::from_pem(pair.serialize_pem().as_bytes())?.with_certificates(issued.pem().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nave_names::{Digest, RelativePath};
    use nave_signature::Trust;
    use rcgen::{BasicConstraints, IsCa};

    use super::*;

    #[test]
    fn the_hubs_authority_vouches_for_the_key_even_with_a_clock_that_is_late() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = SystemTime::now().into();
        let authority = params.self_signed(&pair).unwrap().pem();
        let files = BTreeMap::from([(RelativePath::new("bundle.json").unwrap(), Digest::of(b"{}"))]);
        for now in [SystemTime::now(), SystemTime::UNIX_EPOCH] {
            let key = issue(&authority, &pair.serialize_pem(), now).unwrap();
            let signature = key.sign("x", &files, &[]).unwrap();
            let trust = Trust::code_signers_of(authority.as_bytes()).unwrap();
            assert_eq!(trust.verify(&signature).unwrap().files, files);
        }
    }
}
