//! TLS set-ups: joining (nobody knows the spoke yet) and a session (both sides have certificates). HTTP/2 only.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{CaHash, Identity, pin::PinnedVerifier};

/// A TLS set-up could not be made from what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// Neither a pin nor a CA bundle: the hub could be anyone.
    #[error(
        "no CA hash: give caHash (or --ca-hash), as kubectl nave token create printed it, so that this spoke can tell its \
         hub from an impostor"
    )]
    NothingPinned,
    /// PEM that cannot be read.
    #[error("the {0} cannot be read")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// Rustls refuses it.
    #[error("the {0} cannot be used")]
    Rustls(&'static str, #[source] rustls::Error),
    /// No root at all.
    #[error("the CA bundle is empty")]
    NoRoots(#[source] rustls::client::VerifierBuilderError),
}

/// For joining: trusts the CAs that are known already (a spoke that joins again), else the pinned one.
///
/// # Errors
/// See [`TlsSetupError`].
pub fn joining(pin: Option<CaHash>, known: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (known, pin) {
        (Some(identity), _) => verify_bundle(&identity.ca_bundle, &provider)?,
        (None, Some(hash)) => Arc::new(PinnedVerifier::new(hash, Arc::clone(&provider))),
        (None, None) => return Err(TlsSetupError::NothingPinned),
    };
    let config =
        builder(provider)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(only_h2(config))
}

/// For a session.
///
/// # Errors
/// See [`TlsSetupError`].
pub fn session(identity: &Identity) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verify_bundle(&identity.ca_bundle, &provider)?;
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsSetupError::Pem("spoke's certificate", error))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|error| TlsSetupError::Pem("spoke's key", error))?;
    let config = builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsSetupError::Rustls("spoke's certificate", error))?;
    Ok(only_h2(config))
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsSetupError> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsSetupError::Rustls("TLS library", error))
}

fn verify_bundle(
    bundle: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsSetupError::Pem("CA bundle", error))?;
        roots.add(certificate).map_err(|error| TlsSetupError::Rustls("CA bundle", error))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(TlsSetupError::NoRoots)
}

fn only_h2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
