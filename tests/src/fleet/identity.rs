//! Certificates for simulated spokes, from the hub's own CA Secret: enrolling a thousand of them through the front door
//! would measure its rate limit and nothing else.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// The hub's certificate authority, as its Secret holds it.
#[derive(Clone)]
pub struct Authority {
    certificate: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What one spoke connects with, PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The CA.
    pub ca: String,
    /// The spoke's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// From the Secret's `ca.crt` and `ca.key`, PEM.
    ///
    /// # Errors
    /// Either is not PEM of its kind.
    pub fn new(certificate: &str, key: &str) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(key).context("the CA Secret's ca.key")?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).context("the CA Secret's ca.crt")?;
        Ok(Self { certificate: certificate.to_owned(), issuer: Arc::new(issuer) })
    }

    /// A certificate for the cluster, of the form that the hub issues.
    ///
    /// # Errors
    /// The name cannot stand in a certificate.
    pub fn issue(&self, cluster: &str) -> anyhow::Result<Credentials> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cluster);
        params.subject_alt_names = vec![SanType::URI(format!("nave:cluster:{cluster}").try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_secs(300)).into();
        params.not_after = (now + Duration::from_secs(24 * 3600)).into();
        let certificate = params.signed_by(&key, &*self.issuer)?;
        Ok(Credentials {
            ca: self.certificate.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}
