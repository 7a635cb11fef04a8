//! The certificate authority: checks requests, issues certificates. It does no I/O; `secret` keeps it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use nave_names::{CLUSTER_URI, ClusterName, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData as _, SanType, SerialNumber,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates begin this long before they are issued, since clocks of sites run late; a tenth of a short life, or two
/// thirds of it, when a spoke renews, would be over at once.
const BACKDATED: Duration = Duration::from_secs(300);
/// Ten years: a CA is replaced by adding its successor to the bundle, not by surprise.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Longest certificate request, bytes; one with a P-384 key and a long name has under 1 KiB.
const MAX_REQUEST_BYTES: usize = 8 << 10;

/// What the CA's Secret holds, PEM.
#[derive(Clone)]
pub struct Material {
    /// The CA's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// Further CAs whose certificates are accepted, during a change of CA.
    pub bundle: String,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The CA's material cannot be used, or a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A part of the Secret is not what it should be.
    #[error("cannot read {part} of the CA: {detail}")]
    Material {
        /// The Secret's key.
        part: &'static str,
        /// What is the matter with it.
        detail: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}")]
    Issue {
        /// Whom it was for.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The TLS library refuses it.
    #[error("cannot use the certificate for TLS")]
    Tls(#[from] rustls::Error),
    /// The set of accepted CAs is not usable.
    #[error("cannot check spokes' certificates against the CA bundle")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Why a certificate request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long, or not PKCS #10.
    #[error("the certificate request is not a PKCS #10 request in DER")]
    Malformed,
    /// Not signed by the key it names.
    #[error("the certificate request is not signed with its own key")]
    NotSigned,
    /// Another kind of key.
    #[error("the certificate request's key is not ECDSA P-256, P-384 or Ed25519")]
    Key,
}

/// A request whose sender has the key. Its subject and extensions are not looked at: the hub decides the name.
#[derive(Debug)]
pub struct CheckedRequest {
    key: PublicKey,
}

impl CheckedRequest {
    /// SHA-256 of the SubjectPublicKeyInfo, DER.
    pub fn public_key_digest(&self) -> Digest {
        Digest::of(&self.key.subject_public_key_info())
    }
}

/// Checks a PKCS #10 request.
///
/// # Errors
/// [`RequestError`].
pub fn check_request(der: &[u8]) -> Result<CheckedRequest, RequestError> {
    if der.len() > MAX_REQUEST_BYTES {
        return Err(RequestError::Malformed);
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
    let request = request.map_err(|error| {
        if error == rcgen::Error::InvalidCertificationRequestSignature {
            RequestError::NotSigned
        } else if error == rcgen::Error::UnsupportedSignatureAlgorithm {
            RequestError::Key
        } else {
            RequestError::Malformed
        }
    })?;
    let allowed = [&PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    if !allowed.contains(&request.public_key.algorithm()) {
        return Err(RequestError::Key);
    }
    Ok(CheckedRequest { key: request.public_key })
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, PEM.
    pub chain: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The CA. Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    bundle_pem: String,
    bundle: Vec<CertificateDer<'static>>,
    hash: Digest,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("hash", &self.0.hash).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new CA.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the machine gives no randomness.
    pub fn generate(now: Timestamp) -> Result<Material, PkiError> {
        let issue = |source| PkiError::Issue { subject: "the CA".into(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let mut params = params("Nave CA", now, CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue)?;
        Ok(Material { certificate: certificate.pem(), key: key.serialize_pem(), bundle: String::new() })
    }

    /// Takes a CA into use.
    ///
    /// # Errors
    /// [`PkiError::Material`] names the part that is not what it should be.
    pub fn new(material: &Material) -> Result<Self, PkiError> {
        let wrong = |part, detail: String| PkiError::Material { part, detail };
        let key = KeyPair::from_pem(&material.key).map_err(|e| wrong("ca.key", e.to_string()))?;
        let key_info = key.subject_public_key_info();
        let certificate = CertificateDer::from_pem_slice(material.certificate.as_bytes())
            .map_err(|e| wrong("ca.crt", e.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| wrong("ca.crt", e.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|e| wrong("ca.crt", e.to_string()))?;
        if parsed.public_key().raw != key_info {
            return Err(wrong("ca.key", "it is not the key of ca.crt".into()));
        }
        let hash = Digest::of(parsed.public_key().raw);
        let mut bundle = vec![certificate.clone()];
        for further in CertificateDer::pem_slice_iter(material.bundle.as_bytes()) {
            let further = further.map_err(|e| wrong("ca-bundle.crt", e.to_string()))?;
            if !bundle.contains(&further) {
                bundle.push(further);
            }
        }
        let bundle_pem = match material.bundle.trim() {
            "" => material.certificate.clone(),
            further => format!("{}\n{further}\n", material.certificate.trim_end()),
        };
        let certificate_pem = material.certificate.clone();
        Ok(Self(Arc::new(Inner { issuer, certificate, certificate_pem, bundle_pem, bundle, hash })))
    }

    /// What spokes pin at their first contact: SHA-256 of the CA's SubjectPublicKeyInfo, as kubeadm does it.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// Every CA that is trusted, PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.0.bundle_pem
    }

    /// Every CA that is trusted.
    ///
    /// # Errors
    /// One of them cannot be a root.
    pub fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0.bundle {
            roots.add(certificate.clone())?;
        }
        Ok(roots)
    }

    /// A certificate for a spoke.
    ///
    /// # Errors
    /// [`PkiError::Issue`].
    pub fn issue_client(
        &self,
        cluster: &ClusterName,
        request: &CheckedRequest,
        life: Duration,
        now: Timestamp,
    ) -> Result<Issued, PkiError> {
        let issue = |source| PkiError::Issue { subject: format!("cluster {cluster}"), source };
        let mut params = params(cluster.as_str(), now, life);
        let uri = format!("{CLUSTER_URI}{cluster}").try_into().map_err(issue)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.key, &self.0.issuer).map_err(issue)?;
        let chain = format!("{}{}", certificate.pem(), self.0.certificate_pem);
        Ok(Issued { chain, not_after: now + life })
    }

    /// A certificate for the hub itself, leaf first, the CA last so that a spoke that knows only the CA's hash finds it.
    pub(super) fn issue_server(
        &self,
        names: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, KeyPair), PkiError> {
        let issue = |source| PkiError::Issue { subject: format!("the hub ({})", names.join(", ")), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let mut params = params("nave-operator", now, life);
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(issue)?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.0.issuer).map_err(issue)?;
        Ok((vec![certificate.der().clone(), self.0.certificate.clone()], key))
    }
}

fn params(common_name: &str, now: Timestamp, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let now = std::time::SystemTime::from(now);
    params.not_before = (now - BACKDATED.min(life / 10)).into();
    params.not_after = (now + life).into();
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::peer_of;

    const HOUR: Duration = Duration::from_secs(3600);

    fn authority() -> Authority {
        Authority::new(&Authority::generate(Timestamp::now()).unwrap()).unwrap()
    }

    fn request(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(vec!["not-my-name".to_owned()]).unwrap();
        params.serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_spokes_certificate_has_the_name_that_the_hub_decided() {
        let key = KeyPair::generate().unwrap();
        let checked = check_request(&request(&key)).unwrap();
        assert_eq!(checked.public_key_digest(), Digest::of(&key.subject_public_key_info()));
        let cluster = ClusterName::new("bridge-a12").unwrap();
        let now = Timestamp::now();
        let issued = authority().issue_client(&cluster, &checked, HOUR, now).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap();
        let peer = peer_of(&leaf).unwrap();
        assert_eq!(peer.cluster, cluster);
        assert_eq!(peer.public_key_digest, checked.public_key_digest());
        assert_eq!(peer.not_after.as_second(), (now + HOUR).as_second());
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let mut der = request(&KeyPair::generate().unwrap());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(matches!(
            check_request(&der).unwrap_err(),
            RequestError::NotSigned | RequestError::Malformed
        ));
        assert_eq!(check_request(b"no request").unwrap_err(), RequestError::Malformed);
        assert_eq!(check_request(&vec![0x30; MAX_REQUEST_BYTES + 1]).unwrap_err(), RequestError::Malformed);
    }

    #[test]
    fn a_key_of_another_ca_is_refused_by_name() {
        let mut material = Authority::generate(Timestamp::now()).unwrap();
        material.key = Authority::generate(Timestamp::now()).unwrap().key;
        let error = Authority::new(&material).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }

    #[test]
    fn a_bundle_adds_further_cas() {
        let mut material = Authority::generate(Timestamp::now()).unwrap();
        material.bundle = Authority::generate(Timestamp::now()).unwrap().certificate;
        let authority = Authority::new(&material).unwrap();
        assert_eq!(authority.roots().unwrap().len(), 2);
        assert_eq!(authority.bundle_pem().matches("BEGIN CERTIFICATE").count(), 2);
    }
}
