//! Mutual TLS between spokes. Both sides show the certificate that the hub issued to them for its sessions, and check the
//! other's in the same way: of the hub's CA, valid now, and of the cluster that is meant.

use std::sync::Arc;

use nave_names::{CLUSTER_URI, ClusterName};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::identity::Identity;

/// What the spoke shows and trusts, as of its last certificate.
#[derive(Debug)]
pub(crate) struct PeerTls {
    pub(super) cluster: ClusterName,
    pub(super) server: Arc<ServerConfig>,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// TLS towards peers could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerTlsError {
    /// PEM that cannot be read.
    #[error("the {0} cannot be read")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// Rustls refuses it.
    #[error("the {0} cannot be used between spokes")]
    Rustls(&'static str, #[source] Error),
    /// No root at all.
    #[error("the CA bundle is empty")]
    NoRoots(#[source] rustls::server::VerifierBuilderError),
}

impl PeerTls {
    pub(super) fn new(identity: &Identity) -> Result<Self, PeerTlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(identity.ca_bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| PeerTlsError::Pem("CA bundle", error))?;
            roots.add(certificate).map_err(|error| PeerTlsError::Rustls("CA bundle", error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(PeerTlsError::NoRoots)?;
        let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PeerTlsError::Pem("spoke's certificate", error))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
            .map_err(|error| PeerTlsError::Pem("spoke's key", error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| PeerTlsError::Rustls("TLS library", error))?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| PeerTlsError::Rustls("spoke's certificate", error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the check of the certificate.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let cluster = identity.cluster.clone();
        Ok(Self { cluster, server: Arc::new(server), provider, verifier, chain, key })
    }

    /// For a connection to this peer and no other.
    pub(super) fn client(&self, peer: &ClusterName) -> Result<Arc<ClientConfig>, PeerTlsError> {
        let verifier = PeerVerifier { inner: Arc::clone(&self.verifier), peer: peer.clone() };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| PeerTlsError::Rustls("TLS library", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| PeerTlsError::Rustls("spoke's certificate", error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The cluster that a certificate names, which TLS has found to be of the hub's CA. The hub writes the name twice.
pub(super) fn cluster_of(certificate: &[u8]) -> Option<ClusterName> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name { uri.strip_prefix(CLUSTER_URI) } else { None }
    });
    let (Some(name), None) = (uris.next(), uris.next()) else { return None };
    let common = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    (common == name).then(|| ClusterName::new(name).ok())?
}

/// The other side is not the cluster that the hub named at this address.
#[derive(Debug, thiserror::Error)]
#[error("expected the certificate of cluster {expected}, got {}", found.as_ref().map_or("one that names no cluster", ClusterName::as_str))]
struct OtherCluster {
    expected: ClusterName,
    found: Option<ClusterName>,
}

/// Checks a peer's certificate like a client's, which is what it is, and compares its name.
#[derive(Debug)]
struct PeerVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    peer: ClusterName,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let found = cluster_of(end_entity);
        if found.as_ref() == Some(&self.peer) {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherCluster { expected: self.peer.clone(), found };
        Err(CertificateError::Other(OtherError(Arc::new(other))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    /// Whom a certificate with this common name and these URIs names.
    fn named(common: &str, uris: &[&str]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        cluster_of(certificate.der()).map(|cluster| cluster.to_string())
    }

    #[test]
    fn a_certificate_names_one_cluster_twice_or_none() {
        let [a, b] = ["a", "b"].map(|name| format!("{CLUSTER_URI}{name}"));
        assert_eq!(named("a", &[&a]).as_deref(), Some("a"));
        assert_eq!(
            named("a", &["https://example.com/a", &a]).as_deref(),
            Some("a"),
            "URIs of others say nothing"
        );
        assert_eq!(named("b", &[&a]), None, "two names");
        assert_eq!(named("a", &[&a, &b]), None, "of two clusters");
        assert_eq!(named("a", &[&a, &a]), None, "one URI is what the hub writes");
        assert_eq!(named("a", &[]), None);
        assert_eq!(
            named("A b", &[&format!("{CLUSTER_URI}A b").replace(' ', "%20")]),
            None,
            "no cluster's name"
        );
    }
}
