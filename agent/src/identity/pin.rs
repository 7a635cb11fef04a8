//! The first contact: the spoke knows no CA yet, only the hash of one. The hub sends its certificate and its CA's; the
//! one whose hash matches becomes the only root for everything else that TLS checks.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::CaHash;

/// Accepts a server whose chain leads to the CA with this hash.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    hash: CaHash,
    provider: Arc<CryptoProvider>,
}

/// The server's chain has no CA with the pinned hash.
#[derive(Debug, thiserror::Error)]
#[error(
    "the hub's CA is not the pinned one: expected {expected}, the hub sent {}; either caHash is from another hub \
     (or an older CA of this one), or someone sits between", found.join(", ")
)]
pub(crate) struct PinMismatch {
    expected: CaHash,
    found: Vec<String>,
}

impl PinnedVerifier {
    pub(super) fn new(hash: CaHash, provider: Arc<CryptoProvider>) -> Self {
        Self { hash, provider }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash = |certificate: &CertificateDer<'_>| CaHash::of(certificate);
        let Some(ca) = intermediates.iter().find(|certificate| hash(certificate) == Some(self.hash)) else {
            let found = intermediates.iter().filter_map(hash).map(|hash| hash.to_string()).collect();
            let mismatch = PinMismatch { expected: self.hash, found };
            return Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
